"""Intensity thresholding: the brightest or darkest brain voxels are anomalous. Nothing is learnt.

Source: Meissen et al., Challenging Current Semi-Supervised Anomaly Segmentation Methods for Brain MRI (BrainLes
2021). Settings: the histogram of the brain equalised (exact ranks); bright, dark, or far from the median either way.
The residual without equalisation, in robust SDs from the median, is the other candidate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from anatomad.baselines.difference import Difference
from anatomad.train.method import Method

_MAD_TO_SD = 1.4826
_MIN_SPREAD = 1e-3


def equalised(image: Tensor, mask: Tensor) -> Tensor:
    """Histogram-equalised brain of a scan [x, y, z], -1 (darkest) to 1 (brightest); equal values share their rank."""
    _, place, counts = image[mask].unique(return_inverse=True, return_counts=True)
    rank = counts.cumsum(0) - counts / 2
    result = torch.zeros_like(image)
    result[mask] = (2 * rank / counts.sum() - 1)[place]
    return result


def from_median(image: Tensor, mask: Tensor) -> Tensor:
    """Brain of a scan [x, y, z] in robust SDs from its median."""
    centred = image - image[mask].median()
    spread = _MAD_TO_SD * centred[mask].abs().median()
    return centred * mask / spread.clamp(min=_MIN_SPREAD)


def _rule(part: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor, Tensor, str], Difference]:
    def read(_: nn.Module, image: Tensor, mask: Tensor, precision: str) -> Difference:
        scales = {"equalised": equalised(image, mask), "from median": from_median(image, mask)}
        return Difference(mask, {name: part(scale) for name, scale in scales.items()})

    return read


METHODS = tuple(
    Method(f"intensity-{name}", lambda _: nn.Identity(), _rule(part), writes_phi=False)
    for name, part in (
        ("bright", lambda scale: scale.clamp(min=0)),
        ("dark", lambda scale: (-scale).clamp(min=0)),
        ("two-sided", torch.abs),
    )
)
