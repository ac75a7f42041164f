"""The phantoms that the score is measured on look as such brains would."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from anatomad.planner.plan import Plan
from anatomad.synth.draws import Draws
from benchmarks.phantom_detection import _summary
from benchmarks.phantoms import ADDED, SEQUENCES, STRUCTURES, Scene, diseases, healthy, scan, scene
from tests.train.fold import tiny_plan

CODES = {0: 0, 1: 4, 2: 3, 3: 2, 4: 163, 5: 24}


@pytest.fixture
def plan() -> Plan:
    return tiny_plan(spacing_mm=(3.0, 3.0, 3.0))


@pytest.fixture
def person(tmp_path: Path) -> Path:
    """A head of nested balls: a ventricle with plexus in white matter in cortex in CSF, and a spine of CSF."""
    line = np.arange(64) - 31.5
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    labels = np.select([radius < 3, radius < 8, radius < 20, radius < 25, radius < 28], [4, 1, 3, 2, 5], 0)
    labels[(np.hypot(x, y) < 3) & (z < -27)] = 5
    folder = tmp_path / "anatomies"
    folder.mkdir()
    path = folder / "anatomy_01.nii.gz"
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.diag([1.5, 1.5, 1.5, 1])), path)
    (folder / "labels.json").write_text(json.dumps({"code_to_freesurfer_label": CODES}))
    return path


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """One real-looking shape of some 8 ml."""
    shape = np.zeros((60, 60, 60), np.uint8)
    shape[20:40, 20:40, 20:40] = 1
    (tmp_path / "lesion_masks").mkdir()
    nib.save(nib.Nifti1Image(shape, np.eye(4)), tmp_path / "lesion_masks" / "one.nii.gz")
    return tmp_path / "lesion_masks"


def _brightness(of: Scene, image: torch.Tensor, name: str) -> float:
    share = of.shares[[*STRUCTURES, *ADDED].index(name)]
    return float(image[(share > 0.9) & of.mask].median())


def test_sequences_order_tissues_as_scanners_do(person: Path, plan: Plan) -> None:
    seen = scene(person, healthy, plan, "one", "healthy")
    for turn in range(4):
        images = {name: scan(seen, name, plan, Draws(turn, name)) for name in SEQUENCES}
        csf, grey, white = (
            {name: _brightness(seen, image, tissue) for name, image in images.items()}
            for tissue in ("csf", "cortex", "white matter")
        )
        assert csf["T1w"] < grey["T1w"] < white["T1w"]
        assert csf["T2w"] > grey["T2w"] > white["T2w"]
        assert csf["FLAIR"] < white["FLAIR"] < grey["FLAIR"]
        plexus = {name: _brightness(seen, images[name], "choroid plexus") for name in ("T1w", "T1Gd")}
        assert plexus["T1Gd"] - white["T1Gd"] > plexus["T1w"] - white["T1w"] + 0.05  # takes up contrast agent


def test_a_scene_is_a_whole_brain_and_always_the_same(person: Path, plan: Plan) -> None:
    seen, again = (scene(person, healthy, plan, "one", "healthy") for _ in range(2))
    assert torch.equal(seen.shares, again.shares)
    assert seen.tissues == again.tissues
    assert not torch.equal(seen.shares, scene(person, healthy, plan, "two", "healthy").shares)
    assert not seen.lesion.any()
    torch.testing.assert_close(seen.shares.sum(0), seen.mask.float(), atol=1e-4, rtol=0)
    ball = 4 / 3 * np.pi * (28 * 1.5) ** 3 / 27
    assert 0.9 < int(seen.mask.sum()) / ball < 1.15  # without the spine
    image = scan(seen, "T1w", plan, Draws(0))
    assert not image[~seen.mask].any()
    assert torch.equal(image, scan(seen, "T1w", plan, Draws(0)))


@pytest.mark.parametrize("kind", ["plaques", "infarct", "tumour"])
def test_lesions_lie_in_the_brain_and_show(kind: str, person: Path, shapes: Path, plan: Plan) -> None:
    ill = scene(person, diseases(shapes)[kind], plan, "one", kind)
    assert ill.lesion.any()
    assert not ill.lesion[~ill.mask].any()
    assert ill.lesion.sum() < 0.5 * ill.mask.sum()
    image = scan(ill, "FLAIR", plan, Draws(0))
    assert image[ill.lesion].mean() > _brightness(ill, image, "white matter") + 0.1  # water is bright there


def test_gains_are_paired_and_their_errors_are_those_over_people() -> None:
    rows = [
        {
            "person": f"p{who}",
            "disease": kind,
            "sequences": {
                s: {"marked": 0.01 * who} if kind == "healthy" else {"whole score": 0.5 + 0.1 * who, "rest": 0.4}
                for s in SEQUENCES
            },
            "fused": {"marked": 0.0} if kind == "healthy" else {"fused": 0.7},
        }
        for who in range(2)
        for kind in ("healthy", "tumour")
    ]
    summary = _summary(rows)
    assert summary["mean_ap"] == {"whole score": 0.55, "rest": 0.4}
    assert summary["whole_score_gains"]["rest"] == {"gain": 0.15, "standard_error": 0.05}
    assert summary["healthy_share_under_p01"]["T2w"] == 0.005
    assert summary["fused_ap"] == {"tumour": 0.7}
    assert summary["best_single_ap"] == {"tumour": 0.55}
