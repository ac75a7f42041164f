import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomad.planner.outliers import distributions_of, find_outliers, log_z, odd_about
from anatomad.planner.records import CaseFingerprint, ChannelFingerprint, Fingerprint, Outlier
from anatomad.planner.repeats import Pair, Repeats
from tests.planner.test_rules import image

NO_REPEATS = Repeats((), ())


def dataset(*cases: dict[int, ChannelFingerprint], names: dict[int, str] | None = None) -> Fingerprint:
    records = tuple(CaseFingerprint(id=f"c{n:02d}", channels=channels) for n, channels in enumerate(cases))
    return Fingerprint(dataset="Dataset001_Demo", channel_names=names or {0: "T1w"}, cases=records)


def found(fingerprint: Fingerprint, repeats: Repeats = NO_REPEATS) -> list[tuple[str, int | None, str, str]]:
    return [(o.case, o.channel, o.kind, o.severity) for o in find_outliers(fingerprint, repeats)]


def test_usual_scan_is_fine() -> None:
    assert not list(odd_about(image(), "T1w"))
    assert found(dataset(*[{0: image()}] * 42)) == []


@pytest.mark.parametrize(
    ("changes", "kind", "severity", "words"),
    [
        ({"axes": "RSA", "axes_margin": -0.1}, "orientation", "mend", "point to R, S, A"),
        ({"mask_doubt": "It is doubtful."}, "brain mask", "look", "doubtful"),
        ({"cut_cm2": 30.0}, "cut off", "look", "30 cm²"),
        ({"cut_cm2": 90.0}, "cut off", "mend", "90 cm²"),
        ({"outside_share": 0.07}, "outside the brain", "look", "7.0% of the brain mask"),
        ({"bright_share": 0.04, "looks_like": "T1-like"}, "bright area", "look", "4.0% of the brain"),
        ({"noise": 0.2}, "noise", "look", "SD of 0.20"),
        ({"bias": 0.6}, "bias field", "look", "SD of 0.60"),
        ({"looks_like": "T2-like"}, "sequence", "look", "calls it T1w, but it is T2-like"),
    ],
)
def test_each_limit(changes: dict[str, object], kind: str, severity: str, words: str) -> None:
    (finding,) = odd_about(image(**changes), "T1w")
    assert (finding.kind, finding.severity) == (kind, severity)
    assert words in finding.reason


@pytest.mark.parametrize(
    ("name", "looks", "odd"),
    [
        ("t1ce", "T1-like", False),
        ("T2-FLAIR", "FLAIR-like", False),
        ("T2-FLAIR", "T2-like", True),
        ("T2w", "T1-like", True),
        ("FLAIR", "unclear", False),
        ("channel", "T2-like", False),
    ],
)
def test_names_of_sequences(name: str, looks: str, odd: bool) -> None:
    assert bool(list(odd_about(image(looks_like=looks), name))) == odd


def test_bright_csf_is_no_finding() -> None:
    assert not list(odd_about(image(bright_share=0.2, looks_like="T2-like"), "T2w"))


def test_scan_unlike_the_rest() -> None:
    rest = [{0: image(noise=0.01 + 0.0001 * n)} for n in range(12)]
    assert found(dataset(*rest, {0: image(noise=0.08)})) == [("c12", 0, "noise", "look")]
    assert found(dataset(*rest, {0: image(noise=0.025)})) == []
    assert found(dataset(*rest[:4], {0: image(noise=0.08)})) == []
    assert found(dataset(*rest, {0: image(noise=0.3)})) == [("c12", 0, "noise", "look")]  # once, by its limit


@given(st.lists(st.floats(1e-3, 1e3), min_size=8, max_size=40), st.floats(0.1, 10))
def test_z_scores_do_not_depend_on_the_unit(values: list[float], unit: float) -> None:
    assert np.allclose(log_z(values), log_z([unit * value for value in values]), atol=1e-6)


@given(st.lists(st.floats(1.0, 2.0), min_size=8, max_size=40))
def test_no_score_is_high_within_a_factor_of_two(values: list[float]) -> None:
    assert max(map(abs, log_z(values))) < 5


def test_what_is_missing() -> None:
    names = {0: "T1w", 1: "FLAIR"}
    both = {0: image(), 1: image(digest="other")}
    assert found(dataset(both, {0: image()}, names=names)) == [("c01", 1, "missing channel", "look")]


def test_channels_that_are_copies() -> None:
    copies = {0: image(digest="x"), 1: image(digest="x"), 2: image(digest="y")}
    names = {0: "a", 1: "b", 2: "c"}
    assert found(dataset(copies, names=names)) == [("c00", 0, "duplicate", "mend"), ("c00", 1, "duplicate", "mend")]


@pytest.mark.parametrize(
    ("likeness", "equal", "kind", "severity"),
    [(1.0, True, "duplicate", "mend"), (0.98, False, "duplicate", "look"), (0.85, False, "same person", "look")],
)
def test_pairs_that_look_alike(likeness: float, equal: bool, kind: str, severity: str) -> None:
    fingerprint = dataset({0: image()}, {0: image()})
    repeats = Repeats((("c00", "c01"),), (Pair("c00", "c01", 0, likeness, equal),))
    outliers: tuple[Outlier, ...] = find_outliers(fingerprint, repeats)
    assert [(o.case, o.kind, o.severity, o.related) for o in outliers] == [
        ("c00", kind, severity, ("c01",)),
        ("c01", kind, severity, ("c00",)),
    ]


@given(st.lists(st.floats(500, 2000), min_size=1, max_size=30))
def test_distributions_are_ordered(volumes: list[float]) -> None:
    spread = distributions_of(dataset(*[{0: image(brain_ml=volume)} for volume in volumes]))[0]["brain_ml"]
    assert min(volumes) - 1e-4 <= spread.p05 <= spread.median <= spread.p95 <= max(volumes) + 1e-4
