"""Simplex noise: smooth noise without the directions of a grid.

Source: Perlin, Noise hardware (SIGGRAPH course notes, 2001), in two or three dimensions; the sum of octaves as in
Wyatt et al., AnoDDPM (CVPR workshops 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anatomad.synth.draws import Draws

OCTAVES = 6
PERSISTENCE = 0.8
WAVELENGTH_MM = 64.0
_TABLE = 256


def simplex_noise(shape: Sequence[int], spacing_mm: Sequence[float], draws: Draws) -> Tensor:
    """Noise [1, x, y, z] of mean about 0 and SD 1, in two dimensions where z is 1.

    Octaves of 64 mm, 32 mm ... wavelength, each with 0.8 of the amplitude of the one before.
    """
    sides = [n for n in shape if n > 1]
    axes = [
        torch.arange(n, device=draws.device) * (mm / WAVELENGTH_MM)
        for n, mm in zip(shape, spacing_mm, strict=True)
        if n > 1
    ]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    total = torch.zeros(sides, device=draws.device)
    for octave in range(OCTAVES):
        total += PERSISTENCE**octave * _octave(place * 2**octave + 50 * draws.rand(len(sides)), draws)
    return (total / total.std().clamp(min=1e-6)).view(1, *shape)


def _octave(place: Tensor, draws: Draws) -> Tensor:
    """Simplex noise at points [..., axes]; unit lattice."""
    axes = place.shape[-1]
    skew, unskew = ((axes + 1) ** 0.5 - 1) / axes, (1 - 1 / (axes + 1) ** 0.5) / axes
    table = draws.rand(_TABLE).argsort()
    slopes = torch.nn.functional.normalize(draws.normal(_TABLE, axes), dim=1)
    cell = (place + skew * place.sum(-1, keepdim=True)).floor()
    offset = place - (cell - unskew * cell.sum(-1, keepdim=True))
    rank = offset.argsort(-1, descending=True).argsort(-1)
    total = torch.zeros(place.shape[:-1], device=place.device)
    for corner in range(axes + 1):  # of the simplex that holds the point, in the order of its offsets
        step = (rank < corner).to(place.dtype)
        away = offset - step + corner * unskew
        weight = (0.5 - away.square().sum(-1)).clamp(min=0) ** 4
        index = torch.zeros(place.shape[:-1], dtype=torch.long, device=place.device)
        for part in (cell + step).long().unbind(-1):
            index = table[(index + part) % _TABLE]
        total += weight * (slopes[index] * away).sum(-1)
    return total
