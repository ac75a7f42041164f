"""Lesions for the demo's test subjects: a tumour with ring and oedema, or small spots in white matter.

They owe nothing to what training paints (`anatomad.synth.lesions`): another shape, other levels, another place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.demo.anatomy import CSF, WHITE, Anatomy, Volume, smooth_field

Levels = tuple[float, float, float]

# Brightness in T1-, T2- and FLAIR-like contrast, in the unit of `contrast.CONTRASTS`.
_OEDEMA: Levels = (0.60, 0.72, 0.80)
_RING: Levels = (0.48, 0.66, 0.88)
_CORE: Levels = (0.25, 0.90, 0.42)
_SPOT: Levels = (0.58, 0.72, 0.78)

_TUMOUR_MM, _SPOT_MM = (26.0, 48.0), (6.0, 12.0)
_SPOTS = (6, 14)
_RAGGED, _RAGGED_MM = 0.3, 7.0
_FAINTNESS = (0.5, 1.0)  # how far a lesion replaces the tissue it lies in
_VENTRICLE_DEPTH_MM, _NEAR_VENTRICLE_MM = 22.0, 12.0


@dataclass(frozen=True)
class Layer:
    """Part of a lesion: its share of each voxel (x, y, z) in [0, 1], and its brightness per contrast."""

    weight: Volume
    levels: Levels


def lesion_label(layers: list[Layer], brain: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Label (x, y, z): 1 where any layer shows for the most part."""
    shown = [layer.weight >= 0.5 * layer.weight.max() for layer in layers]
    return (np.any([brain & voxels for voxels in shown] or [np.zeros_like(brain)], axis=0)).astype(np.uint8)


def draw_tumour(anatomy: Anatomy, spacing: NDArray[np.float64], rng: np.random.Generator) -> list[Layer]:
    """Draw one tumour of 26 to 48 mm: oedema that spares CSF, a ring, and a core that is dark in T1-like contrast."""
    depth_mm = ndimage.distance_transform_edt(anatomy.brain, sampling=spacing)
    inside = np.argwhere((anatomy.tissue[WHITE] > 0.7) & (depth_mm > 14))
    radius = rng.uniform(*_TUMOUR_MM) / 2
    ragged = _RAGGED * smooth_field(anatomy.brain.shape, spacing, _RAGGED_MM, rng)
    depth = 1 - _distance(anatomy.brain.shape, rng.choice(inside), spacing, rng) / radius + ragged
    faint, ring, core = rng.uniform(*_FAINTNESS), rng.uniform(0.25, 0.45), rng.uniform(0.5, 0.65)
    tissue = anatomy.brain * (1 - anatomy.tissue[CSF])
    return [
        Layer(_ramp(depth, 0) * faint * tissue, _OEDEMA),
        Layer(_ramp(depth, ring) * faint * anatomy.brain, _RING),
        Layer(_ramp(depth, core) * faint * anatomy.brain, _CORE),
    ]


def draw_spots(anatomy: Anatomy, spacing: NDArray[np.float64], rng: np.random.Generator) -> list[Layer]:
    """Draw 6 to 14 spots of 6 to 12 mm in white matter, most of them near the ventricles."""
    depth_mm = ndimage.distance_transform_edt(anatomy.brain, sampling=spacing)
    ventricles = (anatomy.tissue[CSF] > 0.5) & (depth_mm > _VENTRICLE_DEPTH_MM)
    away_mm = ndimage.distance_transform_edt(~ventricles, sampling=spacing)
    inside = np.argwhere((anatomy.tissue[WHITE] > 0.8) & (depth_mm > 8))
    chance = 0.02 + np.exp(-away_mm[tuple(inside.T)] / _NEAR_VENTRICLE_MM)
    weight = np.zeros(anatomy.brain.shape, np.float32)
    for at in rng.choice(inside, rng.integers(*_SPOTS, endpoint=True), replace=False, p=chance / chance.sum()):
        radius = rng.uniform(*_SPOT_MM) / 2
        depth = 1 - _distance(anatomy.brain.shape, at, spacing, rng) / radius
        weight = np.maximum(weight, np.clip(0.5 + depth * radius / spacing.mean(), 0, 1) * rng.uniform(*_FAINTNESS))
    return [Layer(np.asarray(weight * anatomy.brain * (1 - anatomy.tissue[CSF]), np.float32), _SPOT)]


def _distance(
    shape: tuple[int, ...], centre: NDArray[np.int64], spacing: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Distance to ``centre`` in mm, stretched along each axis so that balls become ellipsoids of about their size."""
    stretch = np.exp(rng.normal(0, 0.15, 3))
    lines = [((np.arange(n) - c) * mm / s) ** 2 for n, c, mm, s in zip(shape, centre, spacing, stretch, strict=True)]
    return np.asarray(np.sqrt(lines[0][:, None, None] + lines[1][:, None] + lines[2]))


def _ramp(depth: NDArray[np.float64], start: float) -> Volume:
    """From 0 outside to 1 inside, around ``start``."""
    return np.asarray(np.clip(0.5 + (depth - start) / 0.15, 0, 1), dtype=np.float32)
