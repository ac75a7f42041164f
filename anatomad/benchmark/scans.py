"""The scans that every method judges: labelled patients, and healthy scans that no training has seen."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anatomad.errors import DataError
from anatomad.planner.dataset import Case, RawDataset
from anatomad.planner.splits import Fold

CALIBRATION, UNTOUCHED = "healthy, calibration fold", "healthy, untouched fold"


@dataclass(frozen=True)
class Scans:
    """Scans of one origin.

    Attributes:
        name: A data set's name, or the part of the training set that is held out.
        cases: Who is judged.
        sequences: Names of the channels that any case has.
        labels: Folder of lesion labels; None where every scan is healthy.
        digest: Of the content of every scan and label, and of what says whose they are and what they are called.
    """

    name: str
    cases: tuple[Case, ...]
    sequences: tuple[str, ...]
    labels: Path | None
    digest: str

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return self.name.replace(", ", "-").replace(" ", "-")

    @property
    def files(self) -> int:
        """Number of scans: the channels of all cases."""
        return sum(len(case.channels) for case in self.cases)

    @property
    def fused(self) -> bool:
        """Whether cases have several sequences to fuse, and labels to measure the fused result with."""
        return self.labels is not None and any(len(case.channels) > 1 for case in self.cases)

    def link(self, folder: Path) -> None:
        """Make ``folder`` hold a link to every scan and nothing else."""
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {path.name: path for case in self.cases for path in case.channels.values()}
        for there in folder.iterdir():
            if there.name not in wanted or os.readlink(there) != str(wanted[there.name]):
                there.unlink()
        for name, path in wanted.items():
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(path)


def patients(dataset: RawDataset) -> Scans:
    """The test cases of a data set and their labels.

    Raises:
        DataError: no test scan, or a case without a label: what is not measured must not look as if it was.
    """
    cases = _test_cases(dataset)
    without = [case.id for case in cases if dataset.label(case.id) is None]
    if without:
        raise DataError(
            f"{dataset.path}: no label of {', '.join(without)} in labelsTs; add it (an empty one says healthy), take "
            "the case out of imagesTs, or name the data set with --healthy if no scan in it has a lesion"
        )
    labels = [path for case in cases if (path := dataset.label(case.id))]
    folders = {path.parent for path in labels}
    if len(folders) > 1:
        raise DataError(f"{dataset.path}: labels lie in both labelsTs and labelsTr; put those of imagesTs in labelsTs")
    files = [*_files(cases), *labels, dataset.path / "dataset.json", dataset.path / "participants.tsv"]
    return Scans(dataset.name, tuple(cases), _sequences(dataset, cases), folders.pop(), _digest(files))


def healthy(dataset: RawDataset) -> Scans:
    """The test cases of a data set without any lesion; raises DataError where there is none."""
    cases = _test_cases(dataset)
    return Scans(dataset.name, tuple(cases), _sequences(dataset, cases), None, _digest(_files(cases)))


def held_out(dataset: RawDataset, folds: Sequence[Fold], number: int) -> tuple[Fold, list[Scans]]:
    """A fold that leaves the next fold's cases untouched too, and the healthy scans of both.

    A fold's own validation cases calibrate its model, so its false positives on them are what it was set to; only scans
    that nothing has seen tell whether that holds. Where no case would be left to train, the next fold's are not kept.
    """
    fold = folds[number]
    untouched = set(folds[(number + 1) % len(folds)].val) - set(fold.val)
    train = tuple(case for case in fold.train if case not in untouched)
    if not train:
        train, untouched = fold.train, set()
    cases = dataset.training_cases()
    groups = ((CALIBRATION, set(fold.val)), (UNTOUCHED, untouched))
    scans = []
    for name, wanted in groups:
        members = tuple(case for case in cases if case.id in wanted)
        if members:
            scans.append(Scans(name, members, _sequences(dataset, members), None, _digest(_files(members))))
    return Fold(train=train, val=fold.val), scans


def _test_cases(dataset: RawDataset) -> list[Case]:
    cases = dataset.test_cases()
    if not cases:
        raise DataError(f"{dataset.path / 'imagesTs'}: no scan to test on; they go there as CASE_0000.nii.gz")
    return cases


def _sequences(dataset: RawDataset, cases: Iterable[Case]) -> tuple[str, ...]:
    there = sorted({number for case in cases for number in case.channels})
    return tuple(dataset.channel_names.get(number, f"channel {number:04d}") for number in there)


def _files(cases: Iterable[Case]) -> list[Path]:
    return [path for case in cases for path in case.channels.values()]


def _digest(files: Iterable[Path]) -> str:
    content = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files if path.is_file()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
