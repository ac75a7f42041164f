"""Gradient magnitude of an image."""

from __future__ import annotations

from torch import Tensor

from anatomad.kernels import _checks, _ops


def sobel(image: Tensor, spacing: tuple[float, ...], *, eps: float = 1e-12) -> Tensor:
    """Sobel gradient magnitude of each channel, differentiable.

    ``M = sqrt(eps + sum_d (S_d I / spacing_d)^2)`` with ``S_d`` as in :func:`anatomad.kernels.edge_magnitude`.
    Gradient: ``sum_d S_d^T (S_d I dL/dM / (M spacing_d^2))``. Source: Sobel and Feldman, 1968.

    Args:
        image: [batch, channel, *spatial], floating point, 2D or 3D.
        spacing: Voxel size in mm along each spatial axis.
        eps: Keeps the root differentiable, > 0.

    Returns:
        Like ``image``, in its units per mm, at least sqrt(eps).

    Raises:
        ValueError: wrong rank, an integer image, or a spacing or eps that is not positive.
    """
    if image.ndim not in (4, 5) or not image.is_floating_point():
        raise ValueError(
            "image must be floating point [batch, channel, *spatial] in 2D or 3D, "
            f"got {image.dtype} {list(image.shape)}"
        )
    _checks.spacings(image, spacing)
    _checks.positive(eps, "eps")
    return _ops.sobel(image, [1 / s for s in spacing], eps)
