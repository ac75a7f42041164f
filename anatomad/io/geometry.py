"""Native grids and working grids: permutation to the closest RAS order, a zoom along each axis, and a box.

No volume is ever rotated: an oblique scan keeps its own axes, so that its slices stay slices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from anatomad.errors import BrainMaskError, ImageError, TooLargeImageError

Triple = tuple[int, int, int]
Array = NDArray[Any]
_MARGIN = 2
_MOST_WORKING_VOXELS = 1024**3
_MOST_PER_AXIS = 4096
# Cosine between two axes from which an affine counts as sheared; the rounding of headers stays below 1e-4.
_SHEAR = 1e-3


@dataclass(frozen=True, eq=False)
class WorkingGrid:
    """How a native grid maps onto the working grid; all positions are those of voxel centres.

    Along each canonical (closest RAS) axis the working voxel w of the box lies at (w + origin) * spacing_mm from the
    centre of the first canonical native voxel, and the canonical native voxel i at i * its own spacing.
    """

    native_shape: Triple
    native_affine: NDArray[np.float64] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    box: Triple
    origin: Triple

    def to_working(self, native: Array, order: Literal[0, 1], fill: float = 0.0) -> Array:
        """Resample a native volume (..., x, y, z) onto the working box (..., X, Y, Z), C-contiguous.

        Order 1 interpolates linearly into float32, after a low-pass where it makes voxels larger, and leaves NaN and
        infinite voxels out of every mean; order 0 takes the nearest voxel and keeps the type. Outside the native field
        of view, and where no finite voxel is near, the value is ``fill``.
        """
        _check_shape(native, self.native_shape)
        canonical = _permute(native, self._orientation)
        coords = [
            (np.arange(size) + start) / ratio
            for size, start, ratio in zip(self.box, self.origin, self._ratios, strict=True)
        ]
        return np.ascontiguousarray(_resample(canonical, coords, order, fill, self._steps))

    def to_native(self, working: Array, order: Literal[0, 1], fill: float = 0.0) -> Array:
        """Resample a working volume (..., X, Y, Z) onto the native grid (..., x, y, z); ``fill`` outside the box.

        Order 1 is linear in float32 without low-pass, order 0 nearest. A single volume comes in the memory order of
        the reader (x fastest), several in C order.
        """
        _check_shape(working, self.box)
        sizes = (self.native_shape[axis] for axis in np.argsort(self._orientation[:, 0]))
        coords = [
            np.arange(size) * ratio - start for size, start, ratio in zip(sizes, self.origin, self._ratios, strict=True)
        ]
        native = _unpermute(_resample(working, coords, order, fill, (1.0, 1.0, 1.0)), self._orientation)
        return np.asarray(native, order="F" if native.ndim == 3 else "C")

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4 float64 matrix from voxels of the working box to world coordinates (RAS, mm)."""
        scale = np.diag([*(1 / self._ratios), 1.0])
        shift = np.eye(4)
        shift[:3, 3] = self.origin
        return np.asarray(self._canonical_affine @ scale @ shift)

    @property
    def native_to_working(self) -> NDArray[np.float64]:
        """3x4 float64 matrix from native voxels to voxels of the working box."""
        return np.asarray((np.linalg.inv(self.affine) @ self.native_affine)[:3])

    @property
    def sheared(self) -> bool:
        """Whether the native axes are not at right angles; distances across axes are then approximate."""
        axes = self.native_affine[:3, :3] / np.linalg.norm(self.native_affine[:3, :3], axis=0)
        return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _SHEAR)

    @cached_property
    def _orientation(self) -> NDArray[np.float64]:
        return _closest_ras(self.native_affine)

    @cached_property
    def _canonical_affine(self) -> NDArray[np.float64]:
        back = inv_ornt_aff(self._orientation, self.native_shape)
        return np.asarray(self.native_affine @ back)

    @cached_property
    def _ratios(self) -> NDArray[np.float64]:
        """Working voxels per native voxel, along the canonical axes."""
        return np.asarray(np.linalg.norm(self._canonical_affine[:3, :3], axis=0) / np.asarray(self.spacing_mm))

    @property
    def _steps(self) -> tuple[float, float, float]:
        """Native voxels per working voxel, along the canonical axes."""
        x, y, z = (float(1 / ratio) for ratio in self._ratios)
        return x, y, z


def working_grid(
    image_shape: Triple,
    affine: NDArray[np.float64],
    spacing_mm: tuple[float, float, float],
    mask: NDArray[np.bool_] | None = None,
    box: Triple | None = None,
    multiple: Triple = (1, 1, 1),
) -> WorkingGrid:
    """Place a working grid over a native one.

    Args:
        image_shape: native voxels (x, y, z).
        affine: 4x4 native voxel-to-world matrix, mm.
        spacing_mm: working voxel size along the canonical axes.
        mask: native brain mask; without it the whole image counts as brain.
        box: working shape, in whose centre the brain is put; an axis where the brain does not fit grows to the next
            ``multiple``. Without it: the brain and a margin of 2 working voxels (none without a mask).
        multiple: by which the sides of a box that is found or grown divide.

    Raises:
        BrainMaskError: an empty mask.
        TooLargeImageError: a working volume of more than 1024^3 voxels or 4096 along one axis.
    """
    grid = WorkingGrid(image_shape, np.array(affine, dtype=np.float64), spacing_mm, (1, 1, 1), (0, 0, 0))
    margin = _MARGIN if mask is not None and box is None else 0
    bounds = _bounds(mask, grid)
    sizes, starts = [], []
    for axis, (first, last) in enumerate(bounds):
        need = last - first + 1 + 2 * margin
        size = box[axis] if box is not None and box[axis] >= need else -(-need // multiple[axis]) * multiple[axis]
        sizes.append(size)
        starts.append(first - margin - (size - need) // 2)
    shape, origin = (sizes[0], sizes[1], sizes[2]), (starts[0], starts[1], starts[2])
    if max(shape) > _MOST_PER_AXIS or np.prod(shape, dtype=float) > _MOST_WORKING_VOXELS:
        raise TooLargeImageError(
            f"the working volume would be {shape} voxels of {spacing_mm} mm; expected at most {_MOST_PER_AXIS} along "
            f"an axis and {_MOST_WORKING_VOXELS} in all, crop the image or choose a larger spacing"
        )
    return WorkingGrid(grid.native_shape, grid.native_affine, spacing_mm, shape, origin)


def to_canonical(data: Array, affine: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
    """Permute and flip (..., x, y, z) to the closest RAS order, exactly; returns a view of ``data`` and its affine."""
    orientation = _closest_ras(affine)
    back = inv_ornt_aff(orientation, data.shape[-3:])
    return _permute(data, orientation), np.asarray(affine @ back)


def _closest_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return per native axis (canonical axis, +1 or -1)."""
    return np.asarray(io_orientation(affine), dtype=np.float64)


def _permute(data: Array, orientation: NDArray[np.float64]) -> Array:
    return _transpose(_flip(data, orientation), np.argsort(orientation[:, 0]))


def _unpermute(data: Array, orientation: NDArray[np.float64]) -> Array:
    return _flip(_transpose(data, orientation[:, 0].astype(int)), orientation)


def _flip(data: Array, orientation: NDArray[np.float64]) -> Array:
    x, y, z = (slice(None, None, int(sign)) for sign in orientation[:, 1])
    return data[..., x, y, z]


def _transpose(data: Array, order: NDArray[np.int_]) -> Array:
    leading = data.ndim - 3
    return data.transpose(*range(leading), *(leading + int(axis) for axis in order))


def _check_shape(data: Array, expected: Triple) -> None:
    if data.shape[-3:] != expected:
        size = "x".join(map(str, data.shape))
        raise ImageError(f"a volume or mask is {size} voxels, expected {'x'.join(map(str, expected))}; resample it")


def _bounds(mask: NDArray[np.bool_] | None, grid: WorkingGrid) -> list[tuple[int, int]]:
    """Return the first and last working voxel that the outer faces of a mask (or the image) reach, per axis."""
    bounds = []
    for (low, high), ratio in zip(_extent(mask, grid), grid._ratios, strict=True):
        first = np.floor((low - 0.5) * ratio + 0.5)
        last = np.ceil((high + 0.5) * ratio - 0.5)
        bounds.append((int(first), int(max(first, last))))
    return bounds


def _extent(mask: NDArray[np.bool_] | None, grid: WorkingGrid) -> list[tuple[int, int]]:
    """Return the first and last canonical native voxel of a mask (or the image), per axis."""
    if mask is None:
        return [(0, grid.native_shape[int(axis)] - 1) for axis in np.argsort(grid._orientation[:, 0])]
    _check_shape(mask, grid.native_shape)
    canonical = _permute(mask, grid._orientation)
    inside = [np.flatnonzero(canonical.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not inside[0].size:
        raise BrainMaskError("the brain mask is empty; give a mask that covers the brain")
    return [(int(index[0]), int(index[-1])) for index in inside]


def _resample(
    data: Array, coords: list[NDArray[np.float64]], order: Literal[0, 1], fill: float, widths: tuple[float, ...]
) -> Array:
    """Sample (..., x, y, z) at the product of three coordinate axes, in voxels of ``data``.

    ``widths`` are the low-pass FWHMs of order 1, in the same unit; up to 1 there is none.
    """
    inside = [(at >= -0.5) & (at <= size - 0.5) for at, size in zip(coords, data.shape[-3:], strict=True)]
    result = _nearest(data, coords) if order == 0 else _linear_finite(data, coords, fill, widths)
    for axis, keep in enumerate(inside):
        result[(..., ~keep, *(slice(None),) * (2 - axis))] = fill
    return result


def _nearest(data: Array, coords: list[NDArray[np.float64]]) -> Array:
    index = [
        np.clip(np.floor(at + 0.5).astype(int), 0, size - 1) for at, size in zip(coords, data.shape[-3:], strict=True)
    ]
    return np.array(data[(..., *np.ix_(*index))])


def _linear_finite(
    data: Array, coords: list[NDArray[np.float64]], fill: float, widths: tuple[float, ...]
) -> NDArray[np.float32]:
    """Linear sampling in which NaN and infinite voxels carry no weight."""
    weights = [_weights(at, size, width) for at, size, width in zip(coords, data.shape[-3:], widths, strict=True)]
    values = np.ascontiguousarray(data, dtype=np.float32)
    finite = np.isfinite(values)
    if finite.all():
        return _linear(values, weights)
    result = _linear(np.where(finite, values, np.float32(0)), weights)
    share = _linear(finite.astype(np.float32), weights)
    return np.divide(result, share, out=np.full_like(result, fill), where=share > 1e-3)


def _linear(values: NDArray[np.float32], weights: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    # The axis that shrinks most goes first: everything after it has less to do.
    for axis in sorted(range(3), key=lambda a: weights[a].shape[0] / weights[a].shape[1]):
        values = _ALONG[axis](values, weights[axis])
    return values


def _weights(coords: NDArray[np.float64], size: int, width: float) -> NDArray[np.float32]:
    """Return the (samples, size) matrix of linear interpolation, its triangle widened to ``width`` voxels.

    The widened triangle is the low-pass that keeps coarse grids free of aliases; rows sum to 1.
    """
    distance = np.abs(np.arange(size) - np.clip(coords, 0, size - 1)[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(1.0, width))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _along_x(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = values.reshape(*values.shape[:-2], -1)
    return np.asarray(np.matmul(weights, flat)).reshape(*values.shape[:-3], len(weights), *values.shape[-2:])


def _along_y(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.matmul(weights, values))


def _along_z(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.matmul(values, weights.T))


_ALONG: tuple[Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]], ...] = (
    _along_x,
    _along_y,
    _along_z,
)
