from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anatomad.errors import CorruptImageError, DataError, IntensityError, UsageError
from anatomad.evaluate.cases import find, load
from tests.evaluate.world import AFFINE, SHAPE, World, make_world
from tests.factories import make_affine, write_nifti


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def names(world: World, healthy: Path | None = None) -> list[tuple[str, str, str, bool]]:
    found = find(world.predictions, world.references, healthy)
    return [(p.sequence, p.id, p.case_id, p.label is not None) for p in found.predictions]


def test_channels_are_named_by_the_data_set(world: World) -> None:
    assert names(world) == [
        ("FLAIR", "A_0001", "A", True),
        ("FLAIR", "B_0001", "B", True),
        ("FLAIR", "C_0001", "C", True),
        ("T1w", "A_0000", "A", True),
        ("T1w", "B_0000", "B", True),
        ("T1w", "C_0000", "C", True),
    ]


def test_without_names_channels_are_numbered(world: World) -> None:
    (world.root / "Data" / "dataset.json").unlink()
    assert {sequence for sequence, *_ in names(world)} == {"channel 0000", "channel 0001"}


def test_a_fused_result_is_its_own_row(world: World) -> None:
    world.predict("A", world.label("A", 6))
    assert ("whole case", "A", "A", True) in names(world)


def test_one_sequence_data_set_names_its_cases(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.predict("scan_0003", world.label("scan_0003", 2))
    (tmp_path / "Data" / "dataset.json").write_text('{"channel_names": {"0": "T2w"}}')
    assert names(world) == [("T2w", "scan_0003", "scan_0003", True)]


def test_what_has_no_partner_is_told(world: World) -> None:
    world.label("D", 1)
    world.predict("E_0000", np.zeros(SHAPE, np.int16))
    found = find(world.predictions, world.references)
    assert found.without_label == ("E_0000",)
    assert found.without_prediction == ("D",)


def test_healthy_folder(world: World) -> None:
    for id_ in ("H_0000", "H_0001", "H_0007"):
        world.predict(id_, np.zeros(SHAPE, np.int16), folder="healthy")
    healthy = [row for row in names(world, world.root / "healthy") if not row[3]]
    assert healthy == [
        ("FLAIR", "H_0001", "H", False),
        ("T1w", "H_0000", "H", False),
        ("whole case", "H_0007", "H_0007", False),
    ]


def test_a_labelled_scan_is_no_healthy_one_because_it_lies_in_that_folder(world: World) -> None:
    world.predict("H_0000", np.zeros(SHAPE, np.int16))
    found = find(world.predictions, world.references, world.predictions / ".." / "out")
    assert [p.id for p in found.predictions if p.label is None] == ["H_0000"]
    assert found.without_label == ()


@pytest.mark.parametrize(("place", "references"), [("labelsTs", "."), ("labelsTs/deeper", "..")])
def test_a_relative_folder_of_labels_has_its_data_set_too(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str, references: str
) -> None:
    folder = world.root / "Data" / place
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    sequences = {prediction.sequence for prediction in find(world.predictions, Path(references)).predictions}
    assert sequences == {"T1w", "FLAIR"}


@pytest.mark.parametrize("line", ["H", "H_0000"])
def test_healthy_list(world: World, line: str) -> None:
    world.predict("H_0000", np.zeros(SHAPE, np.int16))
    listed = world.root / "healthy.txt"
    listed.write_text(f"# known to be healthy\n\n{line}\nC\n")
    assert [row for row in names(world, listed) if not row[3]] == [("T1w", "H_0000", "H", False)]
    assert find(world.predictions, world.references, listed).without_label == ()


def test_healthy_list_with_an_unknown_scan(world: World) -> None:
    listed = world.root / "healthy.txt"
    listed.write_text("X\n")
    with pytest.raises(DataError, match=r"healthy.txt: no prediction of 'X'"):
        find(world.predictions, world.references, listed)


def test_wrong_folders_are_named(world: World) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        find(world.root / "nowhere", world.references)
    with pytest.raises(UsageError, match=r"labelsTs: no CASE_anomaly.nii.gz"):
        find(world.references, world.references)
    (world.root / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no prediction has a label in .*empty"):
        find(world.predictions, world.root / "empty")
    with pytest.raises(UsageError, match="--healthy"):
        find(world.predictions, world.references, world.root / "nowhere")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"channel_names": ["T1w"]}', '{"channel_names": {"x": "T1w"}}'])
def test_damaged_description(world: World, text: str) -> None:
    (world.root / "Data" / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset.json: expected"):
        find(world.predictions, world.references)


def loaded(world: World, id_: str) -> object:
    return load(next(p for p in find(world.predictions, world.references).predictions if p.id == id_))


def test_load(world: World) -> None:
    volume = loaded(world, "A_0001")
    assert volume.ranking.lesion_voxels == 6
    assert volume.brain_voxels == 12 * 10 * 8
    assert volume.voxel_ml == pytest.approx(0.008)
    assert volume.score == pytest.approx(1.2)
    assert volume.overlap.lesion == 6
    assert volume.subject == "A"


def test_without_anatomy_the_brain_is_where_the_map_is_not_zero(world: World) -> None:
    before = loaded(world, "A_0001")
    (world.predictions / "A_0001_anatomy.nii.gz").unlink()
    assert loaded(world, "A_0001").ranking == before.ranking


def test_a_map_alone_is_enough(world: World) -> None:
    for name in ("A_0001_anatomy.nii.gz", "A_0001_mask.nii.gz", "A_0001.json"):
        (world.predictions / name).unlink()
    volume = loaded(world, "A_0001")
    assert (volume.score, volume.overlap) == (None, None)


@pytest.mark.parametrize("kind", ["anatomy", "mask"])
def test_siblings_share_the_ending_and_the_folder(world: World, kind: str) -> None:
    path = world.predictions / f"A_0001_{kind}.nii.gz"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # in the checksum
    path.write_bytes(content)
    with pytest.raises(CorruptImageError, match=kind):
        loaded(world, "A_0001")


def test_another_grid_is_refused(world: World) -> None:
    label = world.references / "A.nii.gz"
    write_nifti(label, np.ones((3, 4, 5), np.int16), AFFINE)
    with pytest.raises(DataError, match=r"A.nii.gz is \(3, 4, 5\)"):
        loaded(world, "A_0000")
    write_nifti(label, np.ones(SHAPE, np.int16), make_affine(spacing=(2.0, 2.0, 2.1)))
    with pytest.raises(DataError, match=r"A.nii.gz lies up to 0.90 mm away"):
        loaded(world, "A_0000")


def test_rounding_of_the_header_is_no_other_grid(world: World) -> None:
    write_nifti(world.references / "A.nii.gz", np.ones(SHAPE, np.int16), make_affine(spacing=(2.0, 2.0, 2.0001)))
    assert loaded(world, "A_0000").ranking.lesion_voxels == np.prod(SHAPE)


def test_damaged_predictions_are_named(world: World) -> None:
    (world.predictions / "A_0001.json").write_text(json.dumps({"score": "high"}))
    with pytest.raises(DataError, match=r"A_0001.json: damaged"):
        loaded(world, "A_0001")
    write_nifti(world.references / "B.nii.gz", np.full(SHAPE, 0.5, "f4"), AFFINE)
    with pytest.raises(IntensityError, match=r"B.nii.gz"):
        loaded(world, "B_0000")


def test_voxels_to_ignore_are_not_measured(world: World) -> None:
    whole = load(find(world.predictions, world.references).predictions[0])
    labels = np.zeros(SHAPE, np.int16)
    labels[3:9, 5, 5] = 2
    labels[3:9, 8, 5] = 3
    write_nifti(world.references / "A.nii.gz", labels, AFFINE)
    description = {"channel_names": {"0": "T1w", "1": "FLAIR"}, "labels": {"background": 0, "lesion": 2, "ignore": 3}}
    (world.root / "Data" / "dataset.json").write_text(json.dumps(description))
    found = find(world.predictions, world.references).predictions[0]
    assert found.ignore == 3
    volume = load(found)
    assert volume.ranking.lesion_voxels == whole.ranking.lesion_voxels == 6
    assert volume.brain_voxels == whole.brain_voxels - 6
    (world.root / "Data" / "dataset.json").write_text(json.dumps(description | {"labels": {"ignore": [1, 2]}}))
    with pytest.raises(DataError, match="the label 'ignore' is"):
        find(world.predictions, world.references)


def test_participants_say_whose_scans_they_are(world: World) -> None:
    assert {p.subject for p in find(world.predictions, world.references).predictions} == {"A", "B", "C"}
    for visit in ("p-1_01", "p-1_02"):
        world.predict(visit, world.label(visit, 2))
    (world.root / "Data" / "participants.tsv").write_text("participant_id\tage\np-1\t40\n")
    predictions = find(world.predictions, world.references).predictions
    assert {p.subject for p in predictions if p.id.startswith("p")} == {"p-1"}
    assert {load(p).subject for p in predictions if p.id.startswith("p")} == {"p-1"}
