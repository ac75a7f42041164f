"""Raw data sets (nnU-Net's layout) and the cases in them.

A data set is a folder ``DatasetNNN_Name`` with ``dataset.json`` (``channel_names``, ``file_ending``), training scans
in ``imagesTr``, test scans in ``imagesTs`` and, for measuring only, ``labelsTs``. One file per channel:
``CASE_0000.nii.gz``. A case may lack channels.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from anatomad.errors import DataError, UsageError

ENDINGS = (".nii.gz", ".nii")
_FOLDER = re.compile(r"Dataset(\d{3,})_(.+)")
_SPEC = re.compile(r"(?:Dataset)?(\d+)")
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_MAX_JSON_BYTES = 1 << 20


class _Description(BaseModel):
    """The keys of ``dataset.json`` that are used here; others are left alone."""

    channel_names: dict[Annotated[int, Field(ge=0, le=9999)], str] = Field(min_length=1)
    file_ending: Literal[".nii.gz", ".nii"] = ".nii.gz"


@dataclass(frozen=True)
class Case:
    """One subject's scans of one occasion: channel number to image file. Channels may be missing."""

    id: str
    channels: dict[int, Path]


@dataclass(frozen=True)
class RawDataset:
    """A raw data-set folder and what its ``dataset.json`` says."""

    path: Path
    name: str
    number: int
    channel_names: dict[int, str]
    file_ending: str

    def training_cases(self) -> list[Case]:
        """Cases of ``imagesTr`` in order of their id; empty where there is no such folder."""
        return self._cases("imagesTr")

    def test_cases(self) -> list[Case]:
        """Cases of ``imagesTs`` in order of their id; empty where there is no such folder."""
        return self._cases("imagesTs")

    def label(self, case_id: str) -> Path | None:
        """Lesion label of a case (``labelsTs``, else ``labelsTr``), or None. For measuring only."""
        candidates = (self.path / folder / f"{case_id}{self.file_ending}" for folder in ("labelsTs", "labelsTr"))
        return next((path for path in candidates if path.is_file()), None)

    def _cases(self, folder: str) -> list[Case]:
        directory = self.path / folder
        if not directory.is_dir():
            return []
        found: dict[str, dict[int, Path]] = {}
        for path in _images(directory):
            case_id, channel = self._identify(path)
            found.setdefault(case_id, {})[channel] = path
        return _in_order(found)

    def _identify(self, path: Path) -> tuple[str, int]:
        if not path.name.endswith(self.file_ending):
            raise DataError(
                f"{path}: dataset.json promises files ending in {self.file_ending!r}; convert the file or mend the key"
            )
        match = _CHANNEL.fullmatch(_stem(path))
        if match is None:
            raise DataError(f"{path}: no channel number; expected a name like {_stem(path)}_0000{self.file_ending}")
        if int(match[2]) not in self.channel_names:
            known = ", ".join(f"{number:04d} {name}" for number, name in sorted(self.channel_names.items()))
            raise DataError(f"{path}: channel {match[2]} is not in dataset.json, which has {known}; add it there")
        return match[1], int(match[2])


def find_dataset(spec: str, root: Path | None = None) -> RawDataset:
    """Find a raw data set by number (``1``, ``001``), ``Dataset001``, full name or path.

    Args:
        spec: what the user typed.
        root: folder that holds the data sets; else ``ANATOMAD_ROOT``; else the current folder, then those above it.

    Raises:
        UsageError: nothing, or more than one folder, fits; what exists is listed.
        DataError: ``dataset.json`` is damaged.
    """
    if _is_path(spec):
        return read_dataset(Path(spec))
    roots = list(_roots(root))
    for folder in roots:
        fitting = [path for path in _dataset_folders(folder) if _fits(spec, path.name)]
        if len(fitting) > 1:
            names = ", ".join(path.name for path in fitting)
            raise UsageError(f"data set {spec!r} fits several folders in {folder}: {names}; give the full name")
        if fitting:
            return read_dataset(fitting[0])
    raise UsageError(_unknown(spec, roots))


def spelling(spec: str, dataset: RawDataset) -> str:
    """What finds a data set again, wherever it is typed: its path, name or number, as ``spec`` was one of them."""
    if _is_path(spec):
        return str(dataset.path)
    return spec if spec == dataset.name else f"{dataset.number:03d}"


def read_dataset(path: Path) -> RawDataset:
    """Read the raw data set in folder ``path``.

    Raises:
        UsageError: no data-set folder there, or its name is not ``DatasetNNN_Name``.
        DataError: ``dataset.json`` is damaged; the key is named.
    """
    path = Path(os.path.abspath(path))
    match = _FOLDER.fullmatch(path.name)
    if match is None:
        raise UsageError(f"{path}: a data-set folder is named DatasetNNN_Name, like Dataset001_{path.name}; rename it")
    description = _read_description(path / "dataset.json")
    return RawDataset(path, path.name, int(match[1]), dict(description.channel_names), description.file_ending)


def new_dataset(spec: str, title: str, root: Path | None = None) -> Path:
    """Name the folder of a raw data set that is to be made; one of that name may be there.

    Args:
        spec: number (``10``, ``010``, ``Dataset010``) or full name (``Dataset010_Name``).
        title: name to go with a number.
        root: folder to make it in; else ``ANATOMAD_ROOT``; else the current folder.

    Raises:
        UsageError: not such a name, no such root, or the number belongs to another data set there.
    """
    number, full = _SPEC.fullmatch(spec), _FOLDER.fullmatch(spec)
    if not (number or full):
        raise UsageError(f"-d {spec}: a new data set is named by its number, like 010, or in full: Dataset010_{title}")
    folder = next(_roots(root)) / (f"Dataset{int(number[1]):03d}_{title}" if number else spec)
    match = _FOLDER.fullmatch(folder.name)
    for other in _dataset_folders(folder.parent):
        if match and _fits(match[1], other.name) and other.name != folder.name:
            raise UsageError(f"{other}: has the number {match[1]} already; choose another number than -d {spec}")
    return Path(os.path.abspath(folder))


def dataset_folder(dataset: RawDataset, work: Path | None = None) -> Path:
    """Folder of a data set's results: ``work``, else ``ANATOMAD_WORK``, else ``anatomad`` beside the raw data.

    Only names the folder; `make_folder` creates it.
    """
    given = work or _environment_path("ANATOMAD_WORK")
    return Path(os.path.abspath(given or dataset.path.parent / "anatomad")) / dataset.name


def make_folder(folder: Path) -> Path:
    """Create ``folder`` and make sure that it can be written.

    Raises:
        UsageError: it cannot be created or written; names ``--work``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}); name a folder for the results with --work DIR"
        ) from None


def discover_cases(path: Path, each: bool = False) -> list[Case]:
    """Cases to predict: one file, a flat folder of NIfTI files, or a raw data-set folder (its ``imagesTs``).

    ``CASE_0000.nii.gz`` is channel 0 of CASE; a name without such an ending is a case by itself (channel 0).

    Args:
        path: file or folder; folders inside a folder are not searched.
        each: every file is a case of its own, named by its whole stem.

    Raises:
        UsageError: nothing there, or no NIfTI file.
        DataError: two files claim the same case and channel.
    """
    found: dict[str, dict[int, Path]] = {}
    for file in _files_to_predict(path):
        match = None if each else _CHANNEL.fullmatch(_stem(file))
        case_id, channel = (match[1], int(match[2])) if match else (_stem(file), 0)
        channels = found.setdefault(case_id, {})
        if channel in channels:
            twin = channels[channel].name
            raise DataError(f"{file} and {twin} are both channel {channel} of case {case_id!r}; rename one")
        channels[channel] = file
    return _in_order(found)


def _in_order(found: dict[str, dict[int, Path]]) -> list[Case]:
    return [Case(case_id, dict(sorted(found[case_id].items()))) for case_id in sorted(found)]


def _files_to_predict(path: Path) -> list[Path]:
    folder = path / "imagesTs" if (path / "imagesTs").is_dir() else path
    alone = [path] if path.exists() and path.name.endswith(ENDINGS) else []
    files = _images(folder) if folder.is_dir() else alone
    if not files:
        raise UsageError(f"{folder}: no scan here; expected a .nii or .nii.gz file, or a folder of such files")
    return files


def _read_description(path: Path) -> _Description:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes; a dataset.json has at most {_MAX_JSON_BYTES}")
        return _Description.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; a data-set folder holds dataset.json and imagesTr") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: {problems}; mend the file") from None


def _is_path(spec: str) -> bool:
    return spec in (".", "..") or os.sep in spec or (os.altsep is not None and os.altsep in spec)


def _environment_path(name: str) -> Path | None:
    return Path(os.environ[name]) if os.environ.get(name) else None


def _roots(root: Path | None) -> Iterator[Path]:
    given = root or _environment_path("ANATOMAD_ROOT")
    if given is None:
        yield Path.cwd()
        yield from Path.cwd().parents
    elif given.is_dir():
        yield given
    else:
        raise UsageError(f"{given}: no such folder; --root (or ANATOMAD_ROOT) is the folder that holds DatasetNNN_Name")


def _dataset_folders(root: Path) -> list[Path]:
    try:
        entries = sorted(root.iterdir())
    except PermissionError:
        return []
    return [path for path in entries if _FOLDER.fullmatch(path.name) and _is_there(path / "dataset.json")]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # the folder is somebody else's
        return False


def _fits(spec: str, name: str) -> bool:
    number, match = _SPEC.fullmatch(spec), _FOLDER.fullmatch(name)
    if number and match:
        return int(number[1]) == int(match[1])
    return spec == name


def _unknown(spec: str, roots: list[Path]) -> str:
    known = [path.name for folder in roots for path in _dataset_folders(folder)]
    place = str(roots[0]) + (" and the folders above it" if len(roots) > 1 else "")
    exists = f"there are {', '.join(known)}" if known else "there is no DatasetNNN_Name folder with a dataset.json"
    return f"no data set {spec!r} in {place}; {exists}. Name another place with --root DIR or ANATOMAD_ROOT"


def _images(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:  # asks the disk about each file no more than a listing does
        return [directory / name for name in sorted(_visible(entries))]


def _visible(entries: Iterable[os.DirEntry[str]]) -> Iterator[str]:
    # Dangling links stay in: the reader then names them. "._x.nii" is what macOS leaves on foreign disks.
    return (e.name for e in entries if e.name.endswith(ENDINGS) and not e.name.startswith(".") and not e.is_dir())


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
