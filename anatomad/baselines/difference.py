"""What a peer makes of a scan: residuals, and a pseudo-healthy image where it restores one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """Residuals of one scan; all volumes [x, y, z] on the working grid.

    Attributes:
        mask: Brain, bool.
        residuals: By name, 0 outside the brain; calibration chooses among them as among our own method's recouplings.
        restored: Pseudo-healthy image, where the method has one.
    """

    mask: Tensor
    residuals: dict[str, Tensor]
    restored: Tensor | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the residuals."""
        return tuple(self.residuals)

    @property
    def anatomy(self) -> None:
        """Peers tell no tissues apart."""

    @property
    def supplements(self) -> dict[str, float]:
        """Peers have no other evidence."""
        return {}

    def residual(self, kind: str) -> Tensor:
        """How far each voxel is from healthy, signed or not; 0 outside the brain."""
        return self.residuals[kind]

    def phi(self, kind: str) -> Tensor | None:
        """Pseudo-healthy image, whichever residual is read."""
        return self.restored


def signed_and_absolute(difference: Tensor, mask: Tensor, restored: Tensor) -> Difference:
    """Difference [x, y, z] of a scan from its restored image, to be smoothed with its sign or without."""
    inside = difference * mask
    return Difference(mask, {"signed": inside, "absolute": inside.abs()}, restored * mask)
