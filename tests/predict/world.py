"""Generated brains, and an untrained but calibrated model folder that judges them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anatomad.models.closed_form import Recoupled
from anatomad.models.dal import DisentangledAnatomy
from anatomad.planner.plan import Plan
from anatomad.predict.calibration import Calibration, _calibrated, calibrate_fold
from anatomad.predict.decompose import Decomposition
from anatomad.predict.score import Evidence, Score
from anatomad.predict.trials import Trial
from anatomad.preprocess.store import load_case
from anatomad.train.checkpoint import RunState
from anatomad.train.job import write_model
from tests.factories import make_affine, write_nifti
from tests.train.fold import make_job, tiny_plan

SHAPE = (34, 44, 33)
SPACING = (4.5, 4.0, 4.5)
AFFINE = make_affine(np.diag([-1.0, 1.0, 1.0]), SPACING, angles=(4.0, -3.0, 6.0), origin=(70.0, -80.0, -60.0))
LESION = (slice(8, 12), slice(14, 18), slice(14, 18))


def small_plan(**changes: Any) -> Plan:
    return tiny_plan(**{"smoothing_mm": (0.0, 10.0), "box": (20, 22, 20), "patch": (16, 16, 16)} | changes)


def brain(levels: tuple[float, float, float] = (0.25, 0.65, 1.0), lesion: float = 0.0, seed: int = 0) -> NDArray[Any]:
    """A stripped brain of about 1.1 l: CSF, grey and white matter at ``levels`` * 1000."""
    place = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    scaled = place * np.array(SPACING)[:, None, None, None] / np.array([62.0, 74.0, 60.0])[:, None, None, None]
    radius = np.sqrt((scaled**2).sum(0))
    csf, grey, white = levels
    image = np.select([radius < 0.2, radius < 0.65, radius < 0.9, radius < 1], [csf, white, grey, csf], 0.0)
    image[LESION] += lesion
    image *= 1 + 0.03 * np.random.default_rng(seed).standard_normal(SHAPE)
    return (1000 * image).astype("i2")


def write_scan(path: Path, affine: NDArray[Any] = AFFINE, **options: Any) -> Path:
    return write_nifti(path, brain(**options), affine, sform_code=4, qform_code=1, xyzt_units=2)


def make_model_folder(root: Path, plan: Plan | None = None) -> Path:
    """Model folder as training leaves it, with random weights."""
    job = make_job(root, plan or small_plan())
    torch.manual_seed(0)
    networks = DisentangledAnatomy(job.plan).eval().requires_grad_(False)
    calibration = calibrate_fold(networks, job.plan, [load_case(job.store, "c")], job.device)
    write_model(job, networks, calibration, RunState(identity="-", steps={}, watched=1), {})
    return job.folder


def calibration_of(healthy: NDArray[Any]) -> Calibration:
    """Calibration whose healthy scores are ``healthy``, made as the package makes it."""
    side = round(len(healthy) ** (1 / 3))
    volume = torch.zeros(side + 4, side + 4, side + 4)
    volume[2:-2, 2:-2, 2:-2] = torch.from_numpy(healthy).float().view(side, side, side)
    mask = torch.zeros_like(volume, dtype=torch.bool)
    mask[1:-1, 1:-1, 1:-1] = True
    score = Score(residual=Evidence(kind="closed form", smoothing_mm=(0.0,), units=(1.0,)))
    parts = decomposition(volume, mask)
    trials = [(Trial(kind, volume, mask, mask), parts) for kind in ("real", "unseen contrast")]  # type: ignore[arg-type]
    return _calibrated(score, trials, tiny_plan(), ())


def decomposition(residual: torch.Tensor, mask: torch.Tensor) -> Decomposition:
    """A decomposition with the given residual in predicted SDs."""
    zero, one = torch.zeros_like(residual), torch.ones_like(residual)
    answer = Recoupled(zero, one)
    tissue = torch.zeros(3, *residual.shape)
    return Decomposition(residual, mask, tissue, tissue, {"closed form": answer, "learned": answer})
