"""Which file of a folder is which scan of whom: by the description's patterns, never by guess."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from anatomad.convert.description import DataSet
from anatomad.errors import UsageError

_SCANS = (".nii", ".nii.gz", ".img", ".mgz", ".mgh", ".nrrd", ".nhdr", ".mha", ".mhd", ".h5", ".dcm")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z")
_FACTS = ("site", "scanner")


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        id: case id.
        subject: whose it is.
        channels: channel number to scan.
        mask: lesion mask, if there is one.
        groups: the named parts of the path of its first scan.
    """

    id: str
    subject: str
    channels: dict[int, Path]
    mask: Path | None
    groups: dict[str, str]


@dataclass
class Found:
    """What is in a folder.

    Attributes:
        cases: by id, in order; those with a twin are not among them.
        facts: site and scanner by subject, where paths tell.
        twins: case id to files that claim the same place; such a case is not converted.
        masks_alone: lesion masks of which there is no scan.
        unused: reason to files that are known and not taken.
        unplaced: images that fit no pattern.
    """

    cases: dict[str, CaseFiles] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    twins: dict[str, list[Path]] = field(default_factory=dict)
    masks_alone: list[Path] = field(default_factory=list)
    unused: dict[str, list[Path]] = field(default_factory=dict)
    unplaced: list[Path] = field(default_factory=list)


def find_files(data_set: DataSet, source: Path, apart: Path) -> Found:
    """Look through a folder for the files of a data set.

    Args:
        data_set: its description.
        source: the folder, or any folder above or within the published layout.
        apart: a folder that is not looked into.

    Raises:
        UsageError: no such folder, or no scan of this data set in it.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: no such folder; name the folder of {data_set.title}, unpacked")
    files = [path for path in _files(source, apart) if path.name.lower().endswith(_SCANS)]
    sorting = _Sorting(data_set)
    for path in files:
        sorting.place(path)
    found = sorting.result()
    if not found.cases and not found.twins:
        raise UsageError(_nothing(data_set, source, apart, found))
    return found


def find_tables(stem: str, source: Path, apart: Path) -> tuple[list[Path], list[Path]]:
    """Find files of that stem: those in .csv and .tsv, and those in Excel's formats."""
    files = [path for path in _files(source, apart) if fnmatchcase(path.stem, stem)]
    readable = [path for path in files if path.suffix.lower() in (".csv", ".tsv")]
    return readable, [path for path in files if path.suffix.lower() in (".xls", ".xlsx")]


class _Sorting:
    """Files put where their paths say."""

    def __init__(self, data_set: DataSet) -> None:
        self.data_set = data_set
        self.found = Found()
        self.scans: dict[str, dict[int, list[Path]]] = {}
        self.masks: dict[str, list[Path]] = {}
        self.groups: dict[str, dict[str, str]] = {}
        rules: list[tuple[str, Callable[[Path, dict[str, str]], None]]] = []
        rules += [(unused.path, self._unused(unused.why)) for unused in data_set.unused]
        rules += [(scan.path, self._scan(scan.case, scan.channel)) for scan in data_set.scans]
        if data_set.mask:
            rules.append((data_set.mask.path, self._mask(data_set.mask.case)))
        self.rules = [(re.compile(f"(?:^|/)(?:{path})$"), act) for path, act in rules]

    def place(self, path: Path) -> None:
        for pattern, act in self.rules:
            if match := pattern.search(path.as_posix()):
                act(path, {name: text or "" for name, text in match.groupdict().items()})
                return
        self.found.unplaced.append(path)

    def result(self) -> Found:
        for id_ in sorted(self.scans.keys() | self.masks.keys()):
            self._add(id_)
        return self.found

    def _unused(self, why: str) -> Callable[[Path, dict[str, str]], None]:
        return lambda path, _: self.found.unused.setdefault(why, []).append(path)

    def _scan(self, case: str, channel: int) -> Callable[[Path, dict[str, str]], None]:
        def act(path: Path, groups: dict[str, str]) -> None:
            id_ = case.format(**groups)
            self.scans.setdefault(id_, {}).setdefault(channel, []).append(path)
            self.groups.setdefault(id_, groups)

        return act

    def _mask(self, case: str) -> Callable[[Path, dict[str, str]], None]:
        return lambda path, groups: self.masks.setdefault(case.format(**groups), []).append(path)

    def _add(self, id_: str) -> None:
        claims = [*self.scans.get(id_, {}).values(), self.masks.get(id_, [])]
        if twins := [path for paths in claims if len(paths) > 1 for path in paths]:
            self.found.twins[id_] = twins
        elif id_ not in self.scans:
            self.found.masks_alone += self.masks[id_]
        else:
            groups = self.groups[id_]
            subject = self.data_set.subject.format(**groups)
            channels = {number: paths[0] for number, paths in sorted(self.scans[id_].items())}
            mask = next(iter(self.masks.get(id_, [])), None)
            self.found.cases[id_] = CaseFiles(id_, subject, channels, mask, groups)
            self.found.facts.setdefault(subject, {}).update(self._facts(groups))

    def _facts(self, groups: dict[str, str]) -> dict[str, str]:
        facts = {name: groups[name] for name in _FACTS if groups.get(name)}
        where = facts.get("scanner") or facts.get("site", "")
        if where in self.data_set.scanners:
            facts["scanner"] = self.data_set.scanners[where]
        return facts


def _files(source: Path, apart: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(os.path.abspath(source), onerror=stop):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and here / name != apart)
        # "._x.nii" is what macOS leaves on foreign disks.
        yield from (here / name for name in sorted(names) if not name.startswith("."))


def _nothing(data_set: DataSet, source: Path, apart: Path, found: Found) -> str:
    text = f"{source}: no scan of {data_set.title} here; expected files like {data_set.example}"
    packed = [path.name for path in _files(source, apart) if path.name.lower().endswith(_ARCHIVES)]
    if packed:
        return f"{text}; unpack the archives first, like {packed[0]}"
    if found.unplaced:
        return f"{text}; other images are there, like {found.unplaced[0].relative_to(os.path.abspath(source))}"
    known = next(iter(found.unused), None)
    return f"{text}; there are only files that are not used ({known})" if known else f"{text}; name another folder"
