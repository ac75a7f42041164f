"""The tissues' brightness and the bias field of a scan, from a few thousand of its voxels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from anatomad.planner.records import Sequence

Array = NDArray[np.float64]

TISSUE_NAMES = ("csf", "grey", "white")
ITERATIONS = 12
PRIOR_FLOOR = 0.05
OUTLIER_SHARE = 0.03
LEAST_SD = 0.02
FIELD_DEGREE = 3
FIELD_STIFFNESS = (
    1e-3  # the field is then 1.2 to 1.5 times as strong as what N4 finds in T1w scans (four were compared)
)
FIELD_RANGE = (0.2, 5.0)

CLEAR_T1 = 0.16  # white over grey matter, as a share of the tissues' whole range; T1w with contrast agent: 0 to 0.28
CLEAR_FLAIR = -0.1  # seen in FLAIR: -0.24 to 0.07
FLAIR_CSF = 0.6  # CSF over grey matter; T1w with contrast agent and weak contrast: from 0.7


@dataclass(frozen=True)
class Contrast:
    """CSF, grey and white matter under a smooth field.

    Attributes:
        means: (3,) of CSF, grey and white matter where the field is 1, in the unit of the values.
        sd: spread within a tissue.
        coefficients: of the field's polynomial; its median over the fitted voxels is 1.
    """

    means: Array
    sd: float
    coefficients: Array

    def field(self, place: Array) -> Array:
        """The bias field at places (n, 3)."""
        field: Array = np.clip(_polynomial(place) @ self.coefficients, *FIELD_RANGE)
        return field

    def tissues(self, values: Array, place: Array, prior: Array) -> NDArray[np.intp]:
        """The likeliest tissue of voxels: 0 CSF, 1 grey, 2 white matter."""
        return _energy(values / self.field(place), prior, self.means, self.sd).argmax(1)

    def order(self) -> str:
        """The tissues from dark to bright."""
        return " < ".join(TISSUE_NAMES[k] for k in np.argsort(self.means))

    def looks_like(self) -> Sequence:
        """The sequence that the tissues' order suggests.

        CSF brightest and white matter darkest is T2. With CSF darkest, white matter clearly brighter than grey is T1,
        clearly darker FLAIR. About as bright as grey, it is FLAIR where the CSF is as dark as its nulled signal; else,
        as in any other order, it remains unclear. ``values`` must be 0 where there is no signal.
        """
        csf, grey, white = (float(mean) for mean in self.means)
        if white <= grey < csf:
            return "T2-like"
        if csf >= min(grey, white):
            return "unclear"
        lead = (white - grey) / (max(grey, white) - csf)
        if lead > CLEAR_T1:
            return "T1-like"
        nulled = csf < FLAIR_CSF * grey
        return "FLAIR-like" if lead < CLEAR_FLAIR or nulled else "unclear"


def fit_contrast(values: Array, place: Array, prior: Array) -> Contrast:
    """Fit tissue means and bias field together (Van Leemput et al., IEEE TMI 1999, with a stiff polynomial).

    Args:
        values: (n,) intensities, no signal being 0 and the brain's brightest about 1; any contrast.
        place: (n, 3) in units of the brain's spread from its centre.
        prior: (n, 3) probabilities of CSF, grey and white matter by place; they need not sum to one.
    """
    basis = _polynomial(place)
    stiffness = FIELD_STIFFNESS * len(values) * np.diag([float(sum(powers)) for powers in _powers()])
    coefficients = np.eye(basis.shape[1])[0]
    posterior = (prior + PRIOR_FLOOR) / (prior + PRIOR_FLOOR).sum(1, keepdims=True)
    for _ in range(ITERATIONS):
        flat = values / np.clip(basis @ coefficients, *FIELD_RANGE)
        weight = posterior.sum(0) + 1e-6
        means = flat @ posterior / weight
        sd = max(float(np.sqrt((posterior * (flat[:, None] - means) ** 2).sum() / weight.sum())), LEAST_SD)
        posterior = _posterior(_energy(flat, prior, means, sd), sd)
        known = posterior.sum(1)
        expected = posterior @ means / np.maximum(known, 1e-6)
        normal = (basis * (known * expected**2)[:, None]).T @ basis + stiffness + 1e-9 * np.eye(len(stiffness))
        coefficients = np.linalg.solve(normal, basis.T @ (known * expected * values))
        coefficients /= max(float(np.median(basis @ coefficients)), FIELD_RANGE[0])
    return Contrast(means, sd, coefficients)


def _posterior(energy: Array, sd: float) -> Array:
    """Tissue probabilities beside a uniform density for lesions, vessels and what else belongs to no tissue."""
    top = energy.max(1, keepdims=True)
    likelihood = np.exp(energy - top)
    other = OUTLIER_SHARE * sd * np.sqrt(2 * np.pi) * np.exp(np.minimum(-top, 600))
    posterior: Array = likelihood / (likelihood.sum(1, keepdims=True) + other)
    return posterior


def _energy(flat: Array, prior: Array, means: Array, sd: float) -> Array:
    spatial = prior + PRIOR_FLOOR
    energy: Array = np.log(spatial / spatial.sum(1, keepdims=True)) - 0.5 * ((flat[:, None] - means) / sd) ** 2
    return energy


def _powers() -> list[tuple[int, int, int]]:
    every = product(range(FIELD_DEGREE + 1), repeat=3)
    return [(a, b, c) for a, b, c in every if a + b + c <= FIELD_DEGREE]


def _polynomial(place: Array) -> Array:
    x, y, z = (place / 2).T
    return np.stack([x**a * y**b * z**c for a, b, c in _powers()], axis=1)
