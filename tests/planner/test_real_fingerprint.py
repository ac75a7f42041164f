"""Real scans, kept outside the repository: what must be found there, and what must not."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

from anatomad.parallel import default_workers
from anatomad.planner.dataset import find_dataset
from anatomad.planner.fingerprint import take_fingerprint
from anatomad.planner.records import Fingerprint

ROOT = os.environ.get("ANATOMAD_TEST_DATA", "")
pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(ROOT, "Dataset001_HealthyT1").is_dir(), reason="ANATOMAD_TEST_DATA names no scans"),
]
LOOKS = {"T1w": "T1-like", "T1Gd": "T1-like", "T2w": "T2-like", "FLAIR": "FLAIR-like"}


def taken(number: int, tmp_path: Path) -> Fingerprint:
    fingerprint, failures = take_fingerprint(find_dataset(str(number), Path(ROOT)), tmp_path, default_workers())
    assert not failures
    return fingerprint


def kinds(fingerprint: Fingerprint) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for outlier in fingerprint.outliers:
        found[outlier.case].add(outlier.kind)
    return found


def looks(fingerprint: Fingerprint) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for case in fingerprint.cases:
        for number, image in case.channels.items():
            found[fingerprint.channel_names[number]].add(image.looks_like)
    return found


def test_healthy_scans_are_left_alone(tmp_path: Path) -> None:
    fingerprint = taken(1, tmp_path)
    assert len(fingerprint.cases) == 42
    assert len(kinds(fingerprint)) <= 2
    assert looks(fingerprint) == {"T1w": {"T1-like"}}
    assert fingerprint.repeats == ()


def test_flawed_scans_are_found(tmp_path: Path) -> None:
    found = kinds(taken(2, tmp_path))
    assert "outside the brain" in found["sub-45"]
    assert "bright area" in found["sub-48"]


def test_whole_heads_are_masked(tmp_path: Path) -> None:
    fingerprint = taken(3, tmp_path)
    for image in fingerprint.channels():
        assert image.mask_source == "computed"
        assert 1100 < image.brain_ml < 1900
    assert not any(outlier.severity == "mend" for outlier in fingerprint.outliers)


@pytest.mark.parametrize(("number", "cases"), [(101, 8), (102, 2)])
def test_four_sequences_are_read(number: int, cases: int, tmp_path: Path) -> None:
    fingerprint = taken(number, tmp_path)
    assert [len(case.channels) for case in fingerprint.cases] == [4] * cases
    for name, found in looks(fingerprint).items():
        assert found <= {LOOKS[name], "unclear"}
        assert LOOKS[name] in found
    assert not any(re.search("orientation|sequence|duplicate|person", o.kind) for o in fingerprint.outliers)
