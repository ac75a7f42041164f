"""The demo's subjects without files, and small networks that learn from them in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anatomad.demo.anatomy import SPACING_MM, draw_anatomy
from anatomad.demo.contrast import CONTRASTS, render
from anatomad.demo.lesions import draw_tumour, lesion_label
from anatomad.kernels import label_map
from anatomad.models.dal import DisentangledAnatomy
from anatomad.planner.plan import Plan, Stages
from anatomad.preprocess.atlas import load_atlas
from anatomad.preprocess.normalise import normalise
from anatomad.preprocess.store import StoredCase
from anatomad.synth.deform import Patch, draw_patch, stacked
from anatomad.synth.draws import Draws
from anatomad.synth.lesions import corrupt_anatomy, corrupt_edges
from anatomad.train import losses
from anatomad.train.cases import Sample, volumes_of, whole_case
from anatomad.train.learner import Learner
from anatomad.train.stages import STAGES
from tests.train.fold import tiny_plan

BOX = (64, 80, 64)
TRAINING, TEST = range(6), range(100, 102)
RESTORATION_STEPS = 500
CPU = torch.device("cpu")

Shown = Callable[[DisentangledAnatomy, Tensor], Tensor]


@dataclass(frozen=True)
class Patient:
    """A subject with a tumour: every contrast as a patch of the whole brain [1, channel, x, y, z], and its lesion."""

    scans: tuple[Patch, ...]
    lesion: Tensor


def plan() -> Plan:
    """A 2D configuration of three resolutions at the demo's spacing."""
    base = tiny_plan(dimension=2, features=(8, 16, 32), box=BOX, patch=(80, 80, 1), spacing_mm=(SPACING_MM,) * 3)
    randomisation = base.randomisation.model_copy(
        update={"class_spread": (0.01, 0.05), "bias": (0, 0.2), "noise": (0, 0.03), "slice_mm": (3, 6)}
    )
    corruption = base.corruption.model_copy(
        update={"lesions": (0, 4), "small_mm": (8, 16), "large_mm": (20, 50), "edge_dropout": (0, 0.1)}
    )
    return base.model_copy(
        update={
            "batch_size": 4, "ema_decay": 0.97, "stages": Stages(anatomy=250, restoration=200, recoupling=40),
            "randomisation": randomisation, "corruption": corruption,
        }
    )  # fmt: skip


def damaging_plan() -> Plan:
    """The same plan, with much corruption: restoration learns in a few hundred steps what to do about it."""
    base = plan()
    much = {"lesions": (2, 6), "edge_dropout": (0, 0.3), "erased_share": (0.1, 0.4)}
    return base.model_copy(update={"corruption": base.corruption.model_copy(update=much)})


def _in_box(volume: np.ndarray) -> np.ndarray:
    """Cut or pad the spatial axes to the box, about the middle."""
    for axis, size in zip((-3, -2, -1), BOX, strict=True):
        spare = size - volume.shape[axis]
        before = spare // 2
        if spare < 0:
            volume = volume.take(range(-before, -before + size), axis)
        else:
            volume = np.pad(volume, [(before, spare - before) if a == axis else (0, 0) for a in range(-volume.ndim, 0)])
    return volume


def _case(number: int, contrast: int, tumour: bool) -> tuple[StoredCase, np.ndarray]:
    spacing = np.full(3, SPACING_MM)
    anatomy = draw_anatomy(load_atlas(), np.random.default_rng([0, number, 0]))
    layers = draw_tumour(anatomy, spacing, np.random.default_rng([0, number, 1])) if tumour else []
    scan = render(anatomy, contrast, layers, spacing, np.random.default_rng([0, number, 2 + contrast]))
    mask = _in_box(anatomy.brain)
    tissue = _in_box(anatomy.tissue)
    tissue[0] = ~mask
    image = normalise(_in_box(scan).astype(np.float32), mask)[None] * mask
    lesion = _in_box(lesion_label(layers, anatomy.brain)) if tumour else np.zeros(BOX, np.uint8)
    stored = StoredCase(f"s{number}", image.astype(np.float16), mask, (tissue * 255).round().astype(np.uint8), (0,), {})
    return stored, lesion


def training_cases() -> list[StoredCase]:
    """Healthy subjects, T1-like, with their tissue maps."""
    return [_case(number, 0, tumour=False)[0] for number in TRAINING]


def patients() -> list[Patient]:
    """Subjects with a tumour in every contrast; their tissue maps are those from before the tumour."""
    found = []
    for number in TEST:
        scans = [_case(number, contrast, tumour=True) for contrast in range(len(CONTRASTS))]
        found.append(Patient(tuple(whole_case(s, CPU) for s, _ in scans), torch.from_numpy(scans[0][1]) > 0))
    return found


def train_encoder(cases: list[StoredCase]) -> DisentangledAnatomy:
    """The first stage of a new model."""
    settings, stage = plan(), STAGES[0]
    torch.manual_seed(0)
    model = DisentangledAnatomy(settings)
    volumes = [volumes_of(case, 0, CPU) for case in cases]
    learner = Learner(model, stage, settings, settings.stages.anatomy, "float32")
    for step in range(settings.stages.anatomy):
        draws = [Draws("method", stage.name, step, k) for k in range(settings.batch_size)]
        chosen = [d.integer(0, len(cases) - 1) for d in draws]
        batch = [Sample(cases[c].id, volumes[c], d) for c, d in zip(chosen, draws, strict=True)]
        assert learner.step(batch, step).finite
    learner.finish()
    return model.eval().requires_grad_(False)


def train_restoration(cases: list[StoredCase], shown: Shown, corrupt: bool) -> DisentangledAnatomy:
    """Restoration alone, of the true anatomies: ``shown`` is what it sees of them, corrupted or not."""
    settings = damaging_plan()
    torch.manual_seed(0)
    model = DisentangledAnatomy(settings)
    volumes = [volumes_of(case, 0, CPU) for case in cases]
    optimiser = torch.optim.Adam(model.restoration.parameters())
    slopes = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, RESTORATION_STEPS)
    for step in range(RESTORATION_STEPS):
        draws = [Draws("restoration", step, k) for k in range(6)]
        patches = [draw_patch(volumes[d.integer(0, len(cases) - 1)], settings, d) for d in draws]
        patch = stacked(patches)
        labels = label_map(patch.tissue)
        if corrupt:
            own = zip(labels.split(1), patches, draws, strict=True)
            labels = torch.cat([corrupt_anatomy(part, p, d, settings) for part, p, d in own])
        seen = shown(model, labels)
        if corrupt:
            seen = torch.cat([corrupt_edges(part, d, settings) for part, d in zip(seen.split(1), draws, strict=True)])
        optimiser.zero_grad()
        losses.anatomy(model.restore(seen, patch.position), patch.tissue, patch.mask).backward()
        optimiser.step()
        slopes.step()
    return model.eval().requires_grad_(False)


def tissue_dice(probabilities: Tensor, patch: Patch, where: Tensor | None = None) -> float:
    """Mean Dice of CSF, grey and white matter [1, 4, x, y, z] against the truth, in the brain or in ``where``."""
    inside = patch.mask[0, 0] if where is None else where
    seen, true = probabilities[0, 1:].argmax(0)[inside], patch.tissue[0, 1:].argmax(0)[inside]
    scores = [2 * ((seen == k) & (true == k)).sum() / ((seen == k).sum() + (true == k).sum()) for k in range(3)]
    return float(torch.stack(scores).nanmean())
