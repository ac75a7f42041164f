from __future__ import annotations

import json
from pathlib import Path

import pytest

from anatomad.benchmark.scans import CALIBRATION, UNTOUCHED, healthy, held_out, patients
from anatomad.errors import DataError
from anatomad.planner.dataset import RawDataset, read_dataset
from anatomad.planner.splits import Fold


@pytest.fixture
def dataset(tmp_path: Path) -> RawDataset:
    folder = tmp_path / "Dataset101_Patients"
    for name in ("imagesTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True)
    for case in ("a", "b"):
        for channel in (0, 1):
            (folder / "imagesTs" / f"{case}_{channel:04d}.nii.gz").write_bytes(f"{case}{channel}".encode())
        (folder / "labelsTs" / f"{case}.nii.gz").write_bytes(case.encode())
    for case in ("h1", "h2", "h3", "h4"):
        (folder / "imagesTr" / f"{case}_0000.nii.gz").write_bytes(case.encode())
    names = {"0": "T1w", "1": "T2w", "2": "FLAIR"}
    (folder / "dataset.json").write_text(json.dumps({"channel_names": names}))
    (folder / "participants.tsv").write_text("participant_id\na\nb\n")
    return read_dataset(folder)


def test_patients(dataset: RawDataset) -> None:
    scans = patients(dataset)
    assert [case.id for case in scans.cases] == ["a", "b"]
    assert scans.sequences == ("T1w", "T2w")  # no case has a FLAIR
    assert scans.labels == dataset.path / "labelsTs"
    assert (scans.files, scans.fused, scans.slug) == (4, True, "Dataset101_Patients")


@pytest.mark.parametrize("file", ["imagesTs/b_0001.nii.gz", "labelsTs/a.nii.gz", "dataset.json", "participants.tsv"])
def test_the_digest_is_that_of_scans_labels_names_and_people(dataset: RawDataset, file: str) -> None:
    before = patients(dataset).digest
    assert patients(dataset).digest == before
    path = dataset.path / file
    path.write_bytes(path.read_bytes() + b" ")
    assert patients(dataset).digest != before


def test_a_case_without_a_label_is_refused(dataset: RawDataset) -> None:
    (dataset.path / "labelsTs" / "b.nii.gz").unlink()
    with pytest.raises(DataError, match=r"no label of b in labelsTs; .* --healthy"):
        patients(dataset)
    scans = healthy(dataset)
    assert (scans.labels, scans.fused, scans.files) == (None, False, 4)


def test_labels_in_two_places_are_refused(dataset: RawDataset) -> None:
    (dataset.path / "labelsTr").mkdir()
    (dataset.path / "labelsTs" / "b.nii.gz").rename(dataset.path / "labelsTr" / "b.nii.gz")
    with pytest.raises(DataError, match="labels lie in both labelsTs and labelsTr"):
        patients(dataset)


def test_no_scan_is_refused(dataset: RawDataset) -> None:
    for path in (dataset.path / "imagesTs").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="imagesTs: no scan to test on"):
        patients(dataset)


def test_the_next_fold_is_kept_back(dataset: RawDataset) -> None:
    folds = [Fold(train=("h2", "h3", "h4"), val=("h1",)), Fold(train=("h1", "h2"), val=("h3", "h4"))]
    fold, scans = held_out(dataset, folds, 0)
    assert fold == Fold(train=("h2",), val=("h1",))
    assert [(group.name, [case.id for case in group.cases]) for group in scans] == [
        (CALIBRATION, ["h1"]),
        (UNTOUCHED, ["h3", "h4"]),
    ]
    assert scans[0].slug == "healthy-calibration-fold"
    last, _ = held_out(dataset, folds, 1)
    assert last == Fold(train=("h2",), val=("h3", "h4"))


def test_nothing_is_kept_back_where_nothing_would_be_left(dataset: RawDataset) -> None:
    only = [Fold(train=("h1",), val=("h1",))]
    assert held_out(dataset, only, 0)[0] == only[0]
    two = [Fold(train=("h2",), val=("h1",)), Fold(train=("h1",), val=("h2",))]
    fold, scans = held_out(dataset, two, 0)
    assert fold == two[0]
    assert [group.name for group in scans] == [CALIBRATION]


def test_links_hold_these_scans_and_no_others(dataset: RawDataset, tmp_path: Path) -> None:
    scans, folder = patients(dataset), tmp_path / "links"
    folder.mkdir()
    (folder / "other_0000.nii.gz").symlink_to(tmp_path)
    (folder / "a_0000.nii.gz").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        scans.link(folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            f"{case}_000{channel}.nii.gz": f"{case}{channel}".encode() for case in "ab" for channel in (0, 1)
        }
