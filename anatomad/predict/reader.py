"""What prediction needs to know of a method: its networks, how it reads a scan, and what it can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from anatomad.models.dal import DisentangledAnatomy
from anatomad.planner.plan import METHOD, Plan
from anatomad.predict.decompose import decompose


class Parts(Protocol):
    """What a method makes of one scan; all volumes [x, y, z] on the working grid."""

    @property
    def mask(self) -> Tensor:
        """Brain, bool."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the residuals that the method offers, at least one."""

    @property
    def anatomy(self) -> Tensor | None:
        """Tissue probabilities [tissue, x, y, z] seen in the scan, without background, where the method has them."""

    @property
    def supplements(self) -> Mapping[str, float]:
        """Further evidence by name, and what share of it the method's design adds to a residual; may be none."""

    def residual(self, kind: str) -> Tensor:
        """How far each voxel is from healthy by that residual or supplement, signed or not; 0 outside the brain.

        A supplement may have several parts [part, x, y, z].
        """

    def phi(self, kind: str) -> Tensor | None:
        """Pseudo-healthy image of the residual, where there is one."""


@dataclass(frozen=True)
class Reader:
    """A method as prediction sees it.

    Attributes:
        name: What the method is called on the command line and in ``model.json``.
        networks: Builds its networks for a plan; their weights are all that training leaves behind.
        read: Takes networks in evaluation mode, a normalised scan [x, y, z] on the working grid (sides that divide by
            the networks' stride), its brain [x, y, z] and the precision of convolutions.
        writes_phi: Whether it restores a pseudo-healthy image.
        writes_anatomy: Whether it tells tissues apart.
    """

    name: str
    networks: Callable[[Plan], nn.Module]
    read: Callable[[Any, Tensor, Tensor, str], Parts]
    writes_phi: bool = True
    writes_anatomy: bool = False


DAL = Reader(METHOD, DisentangledAnatomy, decompose, writes_anatomy=True)
