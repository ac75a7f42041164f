from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from anatomad.planner import repeats
from anatomad.planner.repeats import find_repeats
from tests.planner import brains
from tests.planner.test_outliers import dataset
from tests.planner.test_rules import image


def noise(seed: int, size: int = 200) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(0, 31, size), -127, 127).astype(np.int8)


def test_same_scan_same_person_and_others() -> None:
    likeness = (noise(0).astype(float) + 0.5 * noise(9)).round().clip(-127, 127).astype(np.int8)
    details = {"c00": {0: noise(0)}, "c01": {0: noise(0)}, "c02": {0: likeness}, "c03": {0: noise(3)}}
    cases = [image(digest="x"), image(digest="x"), image(digest="y"), image(digest="z")]
    found = find_repeats(dataset(*[{0: case} for case in cases]), details)
    assert [(p.first, p.second, p.equal) for p in found.pairs] == [
        ("c00", "c01", True),
        ("c00", "c02", False),
        ("c01", "c02", False),
    ]
    assert found.pairs[1].likeness == pytest.approx(0.89, abs=0.04)
    assert found.groups == (("c00", "c01", "c02"),)


def test_names_group_scans() -> None:
    fingerprint = dataset(*[{0: image()}] * 3)
    renamed = fingerprint.model_copy(
        update={
            "cases": tuple(
                case.model_copy(update={"id": name})
                for case, name in zip(fingerprint.cases, ("anna_1", "anna_2", "sub-7_ses-1"), strict=True)
            )
        }
    )
    details = {case.id: {0: noise(n)} for n, case in enumerate(renamed.cases)}
    assert find_repeats(renamed, details).groups == ()
    assert find_repeats(renamed, details, ["anna"]).groups == (("anna_1", "anna_2"),)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(1000, 1100)), min_size=2, max_size=24), st.integers(1, 5))
def test_blocks_find_what_brute_force_finds(scans: list[tuple[int, float]], block: int) -> None:
    fingerprint = dataset(*[{0: image(brain_ml=volume)} for _, volume in scans])
    details = {case.id: {0: noise(seed)} for case, (seed, _) in zip(fingerprint.cases, scans, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_BLOCK", block)
        found = {(pair.first, pair.second) for pair in find_repeats(fingerprint, details).pairs}
    ids = [case.id for case in fingerprint.cases]
    near = {
        (ids[i], ids[j])
        for i, (a, va) in enumerate(scans)
        for j, (b, vb) in enumerate(scans)
        if i < j and a == b and max(va, vb) <= min(va, vb) * 1.049
    }
    assert (
        near
        <= found
        <= {(ids[i], ids[j]) for i in range(len(ids)) for j in range(i, len(ids)) if scans[i][0] == scans[j][0]}
    )


def test_repeated_scan_of_a_turned_head(tmp_path: Path) -> None:
    data = brains.brain(person=1)
    angled = ndimage.rotate(brains.brain(person=1, seed=7), 4, (1, 2), reshape=False, order=1)
    turned = np.where(ndimage.rotate((data > 0).astype(np.float32), 4, (1, 2), reshape=False, order=1) > 0.5, angled, 0)
    measured = [
        brains.measure(tmp_path / f"{n}.nii", scan)
        for n, scan in enumerate((data, turned.astype(np.float32), brains.brain(person=2)))
    ]
    fingerprint = dataset(*[{0: channel} for channel, _ in measured])
    details = {case.id: {0: thumbnail.detail} for case, (_, thumbnail) in zip(fingerprint.cases, measured, strict=True)}
    assert [(p.first, p.second, p.equal) for p in find_repeats(fingerprint, details).pairs] == [("c00", "c01", False)]
