from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anatomad.demo.anatomy import SPACING_MM
from anatomad.demo.generate import TEST, TRAINING, Subject, generate, subjects
from anatomad.errors import AnatomadError
from anatomad.io.nifti import read_image, read_labels
from anatomad.planner.dataset import read_dataset

FEW = subjects(training=1, tumours=1, spots=0, healthy=1)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_subjects_are_enough_and_different_people() -> None:
    people = subjects()
    assert len({who.id for who in people}) == len({who.number for who in people}) == len(people)
    assert sum(who.data_set == TRAINING and who.lesion == "none" for who in people) >= 12
    assert sum(who.lesion != "none" for who in people) >= 6
    assert all(who.data_set == TEST for who in people if who.lesion != "none")


def test_generates_two_data_sets_and_keeps_them(tmp_path: Path) -> None:
    generate(tmp_path / "a", FEW, workers=1)
    training, test = (read_dataset(tmp_path / "a" / name) for name in (TRAINING, TEST))
    assert training.channel_names == {0: "T1-like"}
    assert [case.id for case in training.training_cases()] == ["healthy01"]
    assert list(test.channel_names.values()) == ["T1-like", "T2-like", "FLAIR-like"]
    assert {case.id: len(case.channels) for case in test.test_cases()} == {"control01": 3, "tumour01": 3}

    image, label = read_image(test.test_cases()[1].channels[2]), test.label("tumour01")
    assert label is not None
    lesion = read_labels(label)
    assert np.array_equal(lesion.affine, image.affine)
    assert image.spacing == (SPACING_MM,) * 3
    assert set(np.unique(lesion.data)) == {0, 1}
    assert not (lesion.data[image.data == 0]).any()

    first = files(tmp_path / "a")
    (tmp_path / "a" / TEST / "labelsTs" / "tumour01.nii.gz").unlink()
    kept = tmp_path / "a" / TRAINING / "imagesTr" / "healthy01_0000.nii.gz"
    written = kept.stat().st_mtime_ns
    generate(tmp_path / "a", FEW, workers=2)
    assert files(tmp_path / "a") == first
    assert kept.stat().st_mtime_ns == written


def test_another_seed_gives_another_subject(tmp_path: Path) -> None:
    for seed in (0, 1):
        generate(tmp_path / str(seed), FEW[:1], workers=1, seed=seed)
    first, second = (files(tmp_path / str(seed)) for seed in (0, 1))
    assert first.keys() == second.keys()
    scan = f"{TRAINING}/imagesTr/healthy01_0000.nii.gz"
    assert first[scan] != second[scan]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / TRAINING).write_text("a file where a folder must go")
    with pytest.raises(AnatomadError, match="imagesTr"):
        generate(tmp_path, [Subject("healthy01", 0, TRAINING)], workers=1)
