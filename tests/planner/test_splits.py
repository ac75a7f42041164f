import json
from pathlib import Path

import pytest

from anatomad.errors import DataError, UsageError
from anatomad.planner.splits import make_splits, parse_fold, read_participants, read_splits, subject_of


@pytest.mark.parametrize(
    ("case_id", "participants", "subject"),
    [
        ("sub-01_ses-2_T1w", (), "sub-01"),
        ("sub-01", (), "sub-01"),
        ("patient07", (), "patient07"),
        ("p1_scan2", ("p1", "p10"), "p1"),
        ("p10_scan2", ("p1", "p10"), "p10"),
        ("p1_a_2", ("p1", "p1_a"), "p1_a"),
        ("p1-2", ("p1",), "p1"),
    ],
)
def test_subject(case_id: str, participants: tuple[str, ...], subject: str) -> None:
    assert subject_of(case_id, participants) == subject


@pytest.mark.parametrize(("subjects", "folds"), [(2, 2), (9, 9), (10, 5), (42, 5)])
def test_folds_keep_subjects_together(subjects: int, folds: int) -> None:
    ids = [f"sub-{number:02d}_ses-{session}" for number in range(subjects) for session in (1, 2)]
    splits = make_splits(ids)
    assert len(splits) == folds
    assert sorted(case_id for fold in splits for case_id in fold.val) == sorted(ids)
    for fold in splits:
        assert sorted((*fold.train, *fold.val)) == sorted(ids)
        assert not {subject_of(c) for c in fold.train} & {subject_of(c) for c in fold.val}
    sizes = [len(fold.val) for fold in splits]
    assert max(sizes) - min(sizes) <= 2


def test_folds_depend_on_ids_and_seed_alone() -> None:
    ids = [f"c{number}" for number in range(20)]
    assert make_splits(ids) == make_splits(ids[::-1])
    assert make_splits(ids, seed=1) != make_splits(ids)


def test_one_subject_validates_on_itself() -> None:
    (fold,) = make_splits(["sub-1_a", "sub-1_b"])
    assert fold.train == fold.val == ("sub-1_a", "sub-1_b")


@pytest.mark.parametrize("wanted", [2, 3, 6])
def test_the_number_of_folds_that_is_wanted_is_obeyed(wanted: int) -> None:
    splits = make_splits(list("abcdef"), wanted=wanted)
    assert len(splits) == wanted
    assert sorted(case_id for fold in splits for case_id in fold.val) == list("abcdef")


@pytest.mark.parametrize(("ids", "wanted", "words"), [("abcdef", 1, "2 to 6"), ("abcdef", 7, "2 to 6"), ("a", 2, "1")])
def test_folds_that_cannot_be_are_refused_with_the_way_out(ids: str, wanted: int, words: str) -> None:
    with pytest.raises(
        UsageError, match=rf"folds={wanted}: expected {words} .*--set folds=N, or edit it in a plan.json"
    ):
        make_splits(list(ids), wanted=wanted)


def test_participants(tmp_path: Path) -> None:
    assert read_participants(tmp_path) == ()
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-02\tn/a\n")
    assert read_participants(tmp_path) == ("sub-01", "sub-02")
    (tmp_path / "participants.tsv").write_text("id\nsub-01\n")
    with pytest.raises(DataError, match="no column 'participant_id'"):
        read_participants(tmp_path)


def test_splits_round_trip(tmp_path: Path) -> None:
    splits = make_splits(["a", "b", "c"])
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([fold.model_dump(mode="json") for fold in splits]))
    assert read_splits(path) == splits


@pytest.mark.parametrize("text", ["", "[]", '[{"train": ["a"]}]', '[{"train": [], "val": ["a"]}]', "{}"])
def test_damaged_splits(tmp_path: Path, text: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"splits\.json: .*expected a list"):
        read_splits(path)


def test_missing_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="anatomad_plan -d DATASET"):
        read_splits(tmp_path / "splits.json")


@pytest.mark.parametrize(("text", "fold"), [("0", 0), ("fold0", 0), ("fold_2", 2), ("Fold-1", 1), ("02", 2)])
def test_fold_spellings(text: str, fold: int) -> None:
    assert parse_fold(text, 3) == fold


@pytest.mark.parametrize("text", ["3", "fold3", "-1", "", "all"])
def test_unknown_fold_lists_what_exists(text: str) -> None:
    with pytest.raises(UsageError, match="this data set has fold0, fold1, fold2"):
        parse_fold(text, 3)
