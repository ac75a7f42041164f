import re
from itertools import pairwise

import pytest

from anatomad.planner import rules
from anatomad.planner.records import CaseFingerprint, ChannelFingerprint, Fingerprint


def image(**changes: object) -> ChannelFingerprint:
    values: dict[str, object] = {
        "shape": (160, 200, 150),
        "spacing_mm": (0.87, 0.87, 1.0),
        "orientation": "LAS",
        "dtype": "int16",
        "mask_source": "stripped",
        "mask_doubt": None,
        "brain_ml": 1400.0,
        "brain_extent_mm": (139.0, 172.0, 141.0),
        "percentiles": (0.0, 1.0, 2.0, 3.0, 4.0),
        "noise": 0.01,
        "bias": 0.1,
        "nonfinite_share": 0.0,
    }
    return ChannelFingerprint.model_validate(values | changes)


def fingerprint(*images: ChannelFingerprint) -> Fingerprint:
    cases = tuple(CaseFingerprint(id=f"c{n:02d}", channels={0: image}) for n, image in enumerate(images))
    return Fingerprint(dataset="Dataset001_Demo", channel_names={0: "T1w"}, cases=cases)


@pytest.mark.parametrize(
    ("spacing_mm", "widths"), [(2.0, (0, 4, 8, 16)), (3.0, (0, 6, 12)), (5.5, (0, 11)), (11.0, (0,))]
)
def test_smoothing_in_octaves(spacing_mm: float, widths: tuple[float, ...]) -> None:
    assert rules.smoothing(spacing_mm).value == widths


def test_measured_ranges_widen_the_defaults() -> None:
    blurred = [image(noise=0.05, bias=0.3, spacing_mm=(2.5, 2.5, 6.5))] * 3
    assert rules.noise(blurred).value == (0.0, 0.1)
    assert rules.bias(blurred).value == (0.0, 0.45)
    assert rules.blur(blurred).value == (0.0, 5.0)
    assert rules.slice_thickness(blurred, 2.5).value == (2.5, 6.5)


def test_thick_slices_keep_their_spacing_where_they_agree() -> None:
    axial, sagittal = image(spacing_mm=(0.5, 0.5, 6.0)), image(spacing_mm=(0.5, 0.5, 6.0), orientation="PSR")
    assert rules.spacing([axial] * 3 + [sagittal]).value == (2.0, 2.0, 6.0)
    assert rules.spacing([sagittal] * 3 + [axial]).value == (6.0, 2.0, 2.0)
    assert rules.spacing([axial, axial, sagittal]).value == (2.0, 2.0, 2.0)
    assert rules.spacing([image(spacing_mm=(0.5, 0.5, 5.0))]).value == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("cases", "spare", "workers", "words"),
    [
        (42, 3.6e9, 0, "all 42 cases, 3.53 GB, stay in the 3.6 GB of RAM that training leaves free"),
        (42, 3.5e9, 6, r"do not fit into .*: as many threads as cores \(6\), .* a batch ahead, 0.112 GB"),
        (100_000, 2e8, 6, "the 100000 cases, 8.4e"),
        (42, 1.1e8, 0, "nor do two batches, 0.112 GB: a case is read when it is drawn"),
    ],
)
def test_loader_workers_from_free_ram(cases: int, spare: float, workers: int, words: str) -> None:
    choice = rules.loader_workers(7e6, cases, 8, spare, 6)
    assert choice.value == workers
    assert re.search(words, choice.reason)
    assert choice.numbers["free_ram_gb"] == spare / 1e9
    assert rules.loader_workers(7e6, cases, 8, spare, 64).value == min(8, workers * 64)


@pytest.mark.parametrize(
    ("subjects", "folds", "words"), [(1, 1, "itself"), (4, 4, "fewer than 10"), (12, 5, "stay in")]
)
def test_folds_by_subjects(subjects: int, folds: int, words: str) -> None:
    choice = rules.folds(subjects)
    assert choice.value == folds
    assert words in choice.reason


def test_finer_data_never_gives_a_coarser_grid() -> None:
    steps = [rules.spacing([image(spacing_mm=(mm, mm, mm))]).value[0] for mm in (0.5, 1.0, 2.0, 3.0, 5.0)]
    assert all(first <= second for first, second in pairwise(steps))


def test_what_scans_came_as_is_told() -> None:
    choice = rules.brain_mask([image()] * 3 + [image(mask_source="computed", mask_doubt="too small")])
    assert choice.value == "auto"
    assert choice.numbers == {"stripped": 3, "whole_heads": 1, "doubtful": 1}


def test_normalisation_tells_the_sequence_and_its_range() -> None:
    scans = [image(looks_like="T2-like", percentiles=(low, 50, 70, 90, 100 * low)) for low in (1, 2, 4)]
    choice = rules.normalisation(scans, "T2w")
    assert choice.value == (0.5, 99.5)
    assert choice.numbers == {"scans": 3, "low": 2, "high": 200}
    assert choice.reason.startswith("T2w (3 scans, mostly T2-like): ")
    assert "none was measured" in rules.normalisation([], "FLAIR").reason


def test_distances_and_volumes_are_in_mm() -> None:
    assert rules.edge_distance((2.0, 2.0, 6.0)).value == (2.0, 2.0, 6.0)
    assert "(1, 1, 0.33 along" in rules.edge_distance((2.0, 2.0, 6.0)).reason
    assert [rules.rim((mm, mm, mm)).value for mm in (1.0, 2.0, 3.0)] == [2.0, 2.0, 3.0]
    assert rules.smallest_region((2.0, 2.0, 6.0)).value == 24.0
