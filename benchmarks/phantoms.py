"""Scans of known brains in four sequences, with lesions: physics gives the brightness, healthy oddities are in them.

A phantom is a label map of a real person (``anatomies/``), among whose structures are choroid plexus and the caps of
ventricles, with vessels and what skull stripping leaves. Every structure has relaxation times and a proton density of
its own (about those of the literature at 1.5 and 3 T), which differ between people; the equations of spin echo, spoiled
gradient echo and inversion recovery make the sequences of them, and contrast agent shortens T1 where no barrier keeps
it out. Lesions have relaxation times as well, so that one patient's sequences show one disease. What counts as lesion
is where it is, seen in a sequence or not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from anatomad.io.geometry import working_grid
from anatomad.io.nifti import read_image, read_labels
from anatomad.planner.plan import Plan
from anatomad.synth.contrast import normalised, thick_slices
from anatomad.synth.deform import Patch
from anatomad.synth.disease import Disease, Diseased, Matter, Part, plaques, tumour, within
from anatomad.synth.draws import FWHM, Draws, gaussian_blur


class Relaxation(NamedTuple):
    """T1 and T2 in ms, proton density (water: 1), and mmol/l of contrast agent that it takes up where some is given."""

    t1: float
    t2: float
    density: float
    agent: float = 0.0


# FreeSurfer numbers of both sides; the first three are what lesions are placed by.
STRUCTURES: dict[str, tuple[tuple[int, ...], Relaxation]] = {
    "csf": ((4, 5, 14, 15, 24, 30, 43, 44, 62, 72), Relaxation(4200, 1600, 1.0)),
    "cortex": ((3, 42), Relaxation(1450, 95, 0.82)),
    "white matter": ((2, 41), Relaxation(850, 72, 0.70)),
    "hippocampus and amygdala": ((17, 18, 53, 54), Relaxation(1480, 100, 0.83)),
    "thalamus": ((10, 49), Relaxation(1100, 80, 0.76)),
    "caudate": ((11, 26, 50, 58), Relaxation(1300, 85, 0.80)),
    "putamen": ((12, 51), Relaxation(1230, 79, 0.79)),
    "pallidum": ((13, 52), Relaxation(980, 58, 0.74)),
    "cerebellar cortex": ((8, 47), Relaxation(1350, 92, 0.82)),
    "cerebellar white matter": ((7, 46), Relaxation(900, 75, 0.71)),
    "brain stem": ((16, 28, 60, 85), Relaxation(1000, 79, 0.73)),
    "choroid plexus": ((136, 137, 163, 164), Relaxation(1600, 115, 0.85, 0.6)),
    "caps of ventricles": ((25, 57), Relaxation(1000, 88, 0.74)),
}
ADDED = {
    "vessels": Relaxation(1700, 40, 0.35, 1.2),  # flow takes most of the signal
    "remains": Relaxation(900, 45, 0.60, 0.25),
}
_LESIONS: dict[Matter, tuple[Relaxation, Relaxation]] = {  # from the faintest to the strongest
    "watery": (Relaxation(1150, 95, 0.78), Relaxation(1900, 190, 0.90)),
    "solid": (Relaxation(1300, 100, 0.80), Relaxation(2000, 170, 0.90, 0.8)),
    "liquid": (Relaxation(2200, 300, 0.92), Relaxation(3600, 1100, 1.0)),
}
_RELAXIVITY = 4.3e-3  # of gadolinium agents, per ms and mmol/l
_VESSEL_SHARE = 0.006
_REMAINS_MM, _REMAINS_SHARE = 3.0, (0.0, 0.06)
_CSF_AROUND_MM = 6.0
_LESION_FROM = 0.5  # share of a voxel

Signal = Callable[[Relaxation], float]


def _spin_echo(tissue: Relaxation, tr: float, te: float) -> float:
    return tissue.density * (1 - math.exp(-tr / tissue.t1)) * math.exp(-te / tissue.t2)


def _spoiled_echo(tissue: Relaxation, tr: float, flip_deg: float) -> float:
    left, angle = math.exp(-tr / tissue.t1), math.radians(flip_deg)
    return tissue.density * math.sin(angle) * (1 - left) / (1 - math.cos(angle) * left)


def _inversion_recovery(tissue: Relaxation, tr: float, ti: float, te: float) -> float:
    recovered = 1 - 2 * math.exp(-ti / tissue.t1) + math.exp(-tr / tissue.t1)
    return tissue.density * abs(recovered) * math.exp(-te / tissue.t2)


def _t1_weighted(draws: Draws) -> Signal:
    if draws.chance(0.5):
        return partial(_spin_echo, tr=draws.uniform(450, 650), te=draws.uniform(8, 15))
    return partial(_spoiled_echo, tr=draws.uniform(8, 25), flip_deg=draws.uniform(15, 30))


def _t2_weighted(draws: Draws) -> Signal:
    return partial(_spin_echo, tr=draws.uniform(3000, 6000), te=draws.uniform(80, 115))


def _flair(draws: Draws) -> Signal:
    tr = draws.uniform(8000, 11000)
    null = 4200 * (math.log(2) - math.log1p(math.exp(-tr / 4200)))  # CSF gives no signal
    return partial(_inversion_recovery, tr=tr, ti=null * draws.uniform(0.93, 1.05), te=draws.uniform(90, 135))


SEQUENCES: dict[str, Callable[[Draws], Signal]] = {
    "T1w": _t1_weighted,
    "T1Gd": _t1_weighted,
    "T2w": _t2_weighted,
    "FLAIR": _flair,
}


@dataclass(frozen=True)
class Scene:
    """A person's brain with its lesions, to be scanned in any sequence.

    Attributes:
        shares: How much of every voxel each structure takes [structure, x, y, z]: ``STRUCTURES``, then ``ADDED``.
        tissues: Their relaxation in this person.
        mask: Brain as skull stripping leaves it [x, y, z].
        lesions: Shares [x, y, z] and relaxation of the parts of lesions, each over those before.
    """

    shares: Tensor
    tissues: list[Relaxation]
    mask: Tensor
    lesions: list[tuple[Tensor, Relaxation]]

    @property
    def lesion(self) -> Tensor:
        """Where lesions are [x, y, z]."""
        extent = torch.zeros_like(self.shares[0])
        for share, _ in self.lesions:
            extent = torch.maximum(extent, share)
        return (extent > _LESION_FROM) & self.mask


def healthy(patch: Patch, draws: Draws, plan: Plan) -> Diseased:
    """No lesion."""
    return Diseased(patch, [])


def diseases(folder: Path) -> dict[str, Disease]:
    """Ways to be ill: plaques, a tumour, and an infarct of the shape of a real one in ``folder``."""

    def infarct(patch: Patch, draws: Draws, plan: Plan) -> Diseased:
        return Diseased(patch, [Part(_real_shape(paths, patch.mask[0, 0], draws), "watery")])

    paths = sorted(folder.glob("*.nii.gz"))
    return {"plaques": plaques, "infarct": infarct, "tumour": tumour}


def _real_shape(paths: Sequence[Path], mask: Tensor, draws: Draws) -> Tensor:
    """A lesion of 1 to 120 ml out of a folder, moved from its brain's bounding box (its field of view) to another's."""
    while True:
        image = read_image(paths[draws.integer(0, len(paths) - 1)]).data > 0
        if 1e3 < image.sum() < 120e3:
            break
    inside = mask.nonzero()
    low, high = inside.min(0).values, inside.max(0).values
    lines = [torch.linspace(0, n - 1, int(b - a) + 1) for n, a, b in zip(image.shape, low, high, strict=True)]
    points = torch.stack(torch.meshgrid(*lines, indexing="ij")).numpy()
    moved = ndimage.map_coordinates(ndimage.gaussian_filter(image.astype(np.float32), 0.7), points, order=1)
    if draws.chance(0.5):
        moved = moved[::-1].copy()
    share = torch.zeros(mask.shape)
    share[tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))] = torch.from_numpy(moved)
    return (1.6 * share).clamp(0, 1)


def scene(path: Path, disease: Disease, plan: Plan, person: str, name: str) -> Scene:
    """A person of ``anatomies/`` with a disease; always the same for the same names."""
    own = Draws("phantom", person)
    structures, brain = _structures(path, plan)
    shares, mask = _with_added(structures, brain, own, plan)
    patch = Patch(
        torch.cat([(~mask[None]).float(), shares])[None],
        mask[None, None].float(),
        mask[None, None],
        torch.zeros(1, 3, *mask.shape),
    )
    draws = Draws("phantom", person, name)
    patch, parts = disease(patch, draws, plan)
    usual = [relaxation for _, relaxation in STRUCTURES.values()] + list(ADDED.values())
    field = own.uniform(0.8, 1.05)  # T1 is shorter in weaker magnets
    return Scene(
        patch.tissue[0, 1:],
        [_own(relaxation, field, own) for relaxation in usual],
        mask,
        [(p.weight * draws.uniform(0.6, 1.0) * mask, _of_lesion(p.matter, draws)) for p in parts],
    )


def scan(of: Scene, sequence: str, plan: Plan, draws: Draws) -> Tensor:
    """A scene in one of ``SEQUENCES`` [x, y, z], normalised as a scan is."""
    signal, agent = SEQUENCES[sequence](draws), sequence == "T1Gd"
    image = torch.zeros_like(of.shares[0])
    shape = tuple(image.shape)
    for share, tissue in zip(of.shares, of.tissues, strict=True):
        drift = 0.03 * draws.field(shape, (6, 6, 6))[0]
        texture = 0.05 * gaussian_blur(draws.normal(1, 1, *shape), (0.7, 0.7, 0.7))[0, 0]
        image = image + share * (1 + drift + texture) * signal(_given(tissue, agent))
    for share, tissue in of.lesions:
        texture = 0.06 * draws.field(shape, tuple(max(3, n // 5) for n in shape))[0]
        image = image * (1 - share) + share * (1 + texture) * signal(_given(tissue, agent))
    return _acquired(image[None, None], of.mask[None, None], draws, plan)[0, 0]


def _acquired(image: Tensor, mask: Tensor, draws: Draws, plan: Plan) -> Tensor:
    x, y, z = (draws.uniform(0.5, 1.2) / FWHM for _ in plan.spacing_mm)
    image = gaussian_blur(image, (x, y, z))
    if draws.chance(0.4):
        image = thick_slices(image, 2, draws.uniform(2.5, 5.0) / plan.spacing_mm[2])
    image = image * torch.exp(draws.uniform(0, 0.2) * draws.field(tuple(image.shape[2:]), (4, 4, 4)))
    noise = draws.uniform(0.005, 0.03) * image[mask].quantile(0.9)
    real, imaginary = (noise * draws.normal(*image.shape) for _ in range(2))
    return normalised(((image + real) ** 2 + imaginary**2).sqrt(), mask)


def _given(tissue: Relaxation, agent: bool) -> Relaxation:
    return tissue._replace(t1=1 / (1 / tissue.t1 + _RELAXIVITY * tissue.agent)) if agent else tissue


def _own(usual: Relaxation, field: float, draws: Draws) -> Relaxation:
    t1, t2, density, agent = (value * draws.uniform(0.95, 1.05) for value in usual)
    return Relaxation(field * t1, t2, density, agent * draws.uniform(0.4, 1.6))


def _of_lesion(matter: Matter, draws: Draws) -> Relaxation:
    """Somewhere between the faintest and the strongest; more water is longer T1 and longer T2 at once."""
    faintest, strongest = _LESIONS[matter]
    water = draws.uniform(0, 1)
    spans = zip(faintest[:3], strongest[:3], strict=True)
    t1, t2, density = (low + (high - low) * (water + draws.uniform(-0.15, 0.15)) for low, high in spans)
    return Relaxation(t1, t2, density, draws.uniform(faintest.agent, strongest.agent) if draws.chance(0.7) else 0.0)


def labels_of(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """FreeSurfer numbers [x, y, z] of a map of ``anatomies/``, and its affine [4, 4]."""
    code = json.loads((path.parent / "labels.json").read_bytes())["code_to_freesurfer_label"]
    labels = read_labels(path)
    freesurfer = np.zeros(max(map(int, code)) + 1, np.int64)
    for key, value in code.items():
        freesurfer[int(key)] = value
    return freesurfer[labels.data.astype(np.int64)], labels.affine


def _structures(path: Path, plan: Plan) -> tuple[Tensor, Tensor]:
    """How much of every voxel of the working grid each structure takes [structure, x, y, z], and their brain."""
    labels, affine = labels_of(path)
    native = np.stack([np.isin(labels, numbers) for numbers, _ in STRUCTURES.values()])
    grid = working_grid(labels.shape, affine, plan.spacing_mm, native.any(0), plan.box, plan.multiple)
    shares = torch.from_numpy(grid.to_working(native.astype(np.float32), order=1)).clamp(0, 1)
    around = within(_largest(shares[1:].sum(0) > 0.5), _CSF_AROUND_MM, plan)  # and not the CSF of the spine
    mask = torch.from_numpy(ndimage.binary_fill_holes((around & (shares.sum(0) > 0.5)).numpy()))
    shares[0] += (1 - shares.sum(0)).clamp(min=0)  # holes are CSF
    return torch.where(mask, shares / shares.sum(0), 0.0), mask


def _largest(region: Tensor) -> Tensor:
    """The largest of its connected parts."""
    parts, _ = ndimage.label(region.numpy())
    return torch.from_numpy(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def _with_added(shares: Tensor, brain: Tensor, draws: Draws, plan: Plan) -> tuple[Tensor, Tensor]:
    """Shares with vessels along CSF and remains of what is around the brain; and the brain with these."""
    csf = shares[0] > 0.5
    near = within(csf, max(plan.spacing_mm), plan) & brain
    crossing = draws.field(tuple(brain.shape), (18, 18, 18), 2).norm(dim=0)
    vessels = near & (crossing < crossing[near].quantile(min(1.0, _VESSEL_SHARE * int(brain.sum()) / int(near.sum()))))
    around = within(brain, _REMAINS_MM, plan) & ~brain
    patches = draws.field(tuple(brain.shape), (9, 9, 9))[0]
    remains = around & (patches > patches[around].quantile(1 - draws.uniform(*_REMAINS_SHARE)))
    mask = brain | remains
    tubes = gaussian_blur(vessels[None, None].float(), (0.5, 0.5, 0.5))[0, 0] * brain
    return torch.cat([shares * (1 - tubes), tubes[None], remains[None].float()]), mask
