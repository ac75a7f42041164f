import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from anatomad.errors import ImageError
from anatomad.planner.dataset import Case, find_dataset
from anatomad.planner.fingerprint import measure_case, sources_of, take_fingerprint
from anatomad.planner.records import ChannelFingerprint, Fingerprint, Kind, Outlier
from anatomad.planner.thumbnails import read_thumbnails
from tests.planner.test_dataset import make_dataset

SPACING = (3.0, 3.5, 4.0)
EXTENT = (136.0, 170.0, 130.0)


def ball(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    axes = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    millimetres = axes * np.array(spacing)[:, None, None, None]
    inside: NDArray[np.bool_] = ((millimetres / (np.array(EXTENT)[:, None, None, None] / 2)) ** 2).sum(0) <= 1
    return inside


def write_brain(path: Path, noise: float = 20.0, seed: int = 0) -> None:
    """A stripped ellipsoid of brain size, brighter from back to front, stored as LPS."""
    inside = ball((52, 56, 40), SPACING)
    rng = np.random.default_rng(seed)
    ramp = np.linspace(500, 1000, 56)[:, None] * np.ones(inside.shape)
    data = np.where(inside, ramp + rng.normal(0, noise, inside.shape), 0).astype(np.int16)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def test_measures_what_was_made(tmp_path: Path) -> None:
    path = tmp_path / "a_0000.nii.gz"
    write_brain(path)
    measured = measure_case(Case("a", {0: path}))[0].channels[0]
    assert measured.shape == (52, 56, 40)
    assert measured.spacing_mm == SPACING
    assert measured.orientation == "LPS"
    assert measured.dtype == "int16"
    assert measured.mask_source == "stripped"
    assert measured.brain_ml == pytest.approx(np.pi / 6 * np.prod(EXTENT) / 1000, rel=0.05)
    assert np.allclose(measured.brain_extent_mm, EXTENT, atol=2 * max(SPACING))
    assert measured.noise == pytest.approx(20 / 400, rel=0.15)
    assert measured.nonfinite_share == 0


def test_extent_is_along_canonical_axes(tmp_path: Path) -> None:
    write_brain(tmp_path / "a.nii.gz")
    turned = nib.load(tmp_path / "a.nii.gz").as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    nib.save(turned, tmp_path / "b.nii.gz")
    first, second = (measure_case(Case(n, {0: tmp_path / f"{n}.nii.gz"}))[0].channels[0] for n in "ab")
    assert second.orientation != first.orientation
    assert second.brain_extent_mm == pytest.approx(first.brain_extent_mm, abs=4.1)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = make_dataset(tmp_path)
    for seed, name in enumerate(("a_0000", "b_0000", "b_0001")):
        write_brain(folder / "imagesTr" / f"{name}.nii.gz", seed=seed)
    return folder


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def test_only_what_changed_is_measured_again(raw: Path, tmp_path: Path) -> None:
    dataset, work = find_dataset(str(raw)), tmp_path / "work"
    work.mkdir()
    first, failures = take_fingerprint(dataset, work, 2)
    assert not failures
    assert [(case.id, list(case.channels)) for case in first.cases] == [("a", [0]), ("b", [0, 1])]
    bytes_before = (work / "fingerprint.json").read_bytes()
    stamps = {path.name: path.stat().st_mtime_ns for path in (work / "fingerprint").iterdir()}

    os.utime(raw / "imagesTr" / "b_0001.nii.gz", ns=(1, 1))
    (work / "fingerprint.json").unlink()
    again, _ = take_fingerprint(dataset, work, 1)
    assert again == first
    assert (work / "fingerprint.json").read_bytes() == bytes_before
    changed = {path.name for path in (work / "fingerprint").iterdir() if path.stat().st_mtime_ns != stamps[path.name]}
    assert changed == {"b.json", "b.safetensors"}
    assert read_thumbnails(work / "fingerprint", "b").keys() == {0, 1}


def test_nothing_is_done_where_nothing_changed(raw: Path, tmp_path: Path) -> None:
    dataset = find_dataset(str(raw))
    first, _ = take_fingerprint(dataset, tmp_path, 1)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert take_fingerprint(dataset, tmp_path, 1) == (first, {})
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    written = (tmp_path / "fingerprint.json").read_bytes()
    (tmp_path / "fingerprint.json").write_bytes(written.replace(b'"LPS"', b'"RAS"'))
    assert take_fingerprint(dataset, tmp_path, 1) == (first, {})
    assert (tmp_path / "fingerprint.json").read_bytes() == written


def test_what_a_fingerprint_is_made_from(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, files=("imagesTr/a_0000.nii.gz",))
    scan, description = folder / "imagesTr" / "a_0000.nii.gz", folder / "dataset.json"
    changes = (
        lambda: None,
        lambda: scan.write_bytes(b"x"),
        lambda: os.utime(scan, ns=(1, 1)),
        lambda: scan.rename(scan.with_name("a_0001.nii.gz")),
        lambda: scan.touch(),
        lambda: (folder / "participants.tsv").write_text("participant_id\na\n"),
        lambda: description.write_text(description.read_text().replace("T2w", "FLAIR")),
    )
    seen = []
    for change in changes:
        change()
        dataset = find_dataset(str(folder))
        seen += [sources_of(dataset, dataset.training_cases())]
    assert len(set(seen)) == len(changes)
    assert sources_of(dataset, dataset.training_cases()) == seen[-1]
    scan.unlink()
    scan.symlink_to(tmp_path / "nowhere")
    assert sources_of(dataset, dataset.training_cases()) is None


def test_lost_thumbnails_are_made_again(raw: Path, tmp_path: Path) -> None:
    dataset = find_dataset(str(raw))
    first, _ = take_fingerprint(dataset, tmp_path, 1)
    (tmp_path / "fingerprint" / "a.safetensors").unlink()
    again, _ = take_fingerprint(dataset, tmp_path, 1)
    assert again == first
    assert (tmp_path / "fingerprint" / "a.safetensors").is_file()


def test_says_what_is_missing_and_how_figures_are_spread(raw: Path, tmp_path: Path) -> None:
    taken, _ = take_fingerprint(find_dataset(str(raw)), tmp_path, 1)
    missing = [outlier for outlier in taken.outliers if outlier.kind == "missing channel"]
    assert [(outlier.case, outlier.channel) for outlier in missing] == [("a", 1)]
    assert taken.distributions.keys() == {0, 1}
    assert taken.distributions[0]["spacing_mm.y"].median == SPACING[1]
    volumes = taken.distributions[0]["brain_ml"]
    assert volumes.p05 <= volumes.median <= volumes.p95
    assert Fingerprint.model_validate_json((tmp_path / "fingerprint.json").read_bytes()) == taken


def test_test_scans_where_there_are_no_training_scans(raw: Path, tmp_path: Path) -> None:
    (raw / "imagesTr").rename(raw / "imagesTs")
    taken, _ = take_fingerprint(find_dataset(str(raw)), tmp_path, 1)
    assert [case.id for case in taken.cases] == ["a", "b"]


def test_bad_file_is_named_and_others_are_done(raw: Path, tmp_path: Path) -> None:
    (raw / "imagesTr" / "a_0000.nii.gz").write_bytes(b"no image")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "fingerprint").mkdir()
    (tmp_path / "work" / "fingerprint" / "b.json").write_text("{")
    for _ in range(2):  # it is named until it is mended
        taken, failures = take_fingerprint(find_dataset(str(raw)), tmp_path / "work", 1)
        assert [case.id for case in taken.cases] == ["b"]
        assert isinstance(failures["a"], ImageError)
        assert "a_0000.nii.gz" in str(failures["a"])


def test_every_field_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "fingerprint.md").read_text(encoding="utf-8")
    for record in (Fingerprint, ChannelFingerprint, Outlier):
        assert all(f"`{name}`" in page for name in record.model_fields)
    assert all(f"`{kind}`" in page for kind in get_args(Kind))
