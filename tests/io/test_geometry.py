"""Where voxels land between the native and the working grid."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from anatomad.errors import BrainMaskError, ImageError, TooLargeImageError
from anatomad.io.geometry import to_canonical, working_grid
from tests.factories import blob, make_affine, orientations, volume

ALL = list(orientations())
SHAPE = (22, 25, 18)


def _world(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ index + affine[:3, 3]


@pytest.mark.parametrize("orientation", range(48))
def test_canonical_is_exact_and_equal_to_nibabel(orientation: int) -> None:
    affine = make_affine(ALL[orientation], (1, 2, 3), (10, -12, 7))
    data = volume(SHAPE)
    moved, new = to_canonical(data, affine)
    other = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    np.testing.assert_array_equal(moved, np.asarray(other.dataobj))
    np.testing.assert_allclose(new, other.affine, atol=1e-5)
    assert nib.aff2axcodes(new) == ("R", "A", "S")


@pytest.mark.parametrize("orientation", range(48))
@pytest.mark.parametrize("angles", [(0, 0, 0), (15, -20, 10)])
@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.5, 0.9, 3.1)])
def test_a_blob_keeps_its_place(
    orientation: int, angles: tuple[float, float, float], spacing: tuple[float, float, float]
) -> None:
    """The peak's world position on the working grid is the native one, and comes back to the same voxel."""
    native_spacing = (1.2, 0.7, 1.9)
    affine = make_affine(ALL[orientation], native_spacing, angles)
    centre = np.array([13, 9, 6])
    native = blob(SHAPE, tuple(centre), tuple(3 / s for s in native_spacing))
    grid = working_grid(SHAPE, affine, spacing, multiple=(4, 4, 4))
    working = grid.to_working(native, 1)
    weights = np.maximum(working - 0.2, 0)
    mean = np.array([np.average(axis, weights=weights) for axis in np.indices(working.shape)])
    assert np.linalg.norm(_world(grid.affine, mean) - _world(affine, centre)) < 0.25
    back = grid.to_native(working, 1)
    assert np.abs(np.array(np.unravel_index(back.argmax(), SHAPE)) - centre).max() <= 1
    labels = grid.to_native(grid.to_working((native > 0.5).astype(np.uint8), 0), 0)
    assert labels.dtype == np.uint8
    distance = np.abs(np.mean(np.nonzero(labels), axis=1) - centre) * native_spacing
    assert (distance <= np.array(native_spacing).max()).all()


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_equal_spacing_loses_nothing(orientation: int) -> None:
    affine = make_affine(ALL[orientation], (1, 1, 2), (5, 5, 5))
    data = volume(SHAPE, "f4")
    canonical_spacing = tuple(np.linalg.norm(to_canonical(data, affine)[1][:3, :3], axis=0))
    grid = working_grid(SHAPE, affine, canonical_spacing, multiple=(8, 8, 8))
    for order in (0, 1):
        back = grid.to_native(grid.to_working(data, order), order)
        np.testing.assert_allclose(back, data, atol=1e-3)


def test_ramps_survive_both_ways() -> None:
    """Linear resampling, with its low-pass, neither shifts nor scales: a ramp in mm stays that ramp."""
    shape, affine = (60, 50, 40), make_affine(spacing=(0.8, 1.0, 1.1))
    index = np.indices(shape).astype(np.float32)
    ramp = index[0] * 0.8 + index[1] * 2.0 - index[2] * 1.1
    grid = working_grid(shape, affine, (2, 2, 2))
    working = grid.to_working(ramp, 1, fill=np.nan)
    at = np.einsum("ij,jxyz->ixyz", grid.affine[:3, :3], np.indices(grid.box)) + grid.affine[:3, 3, None, None, None]
    expected = (at[0] + 10) + 2 * (at[1] - 20) - (at[2] + 30)
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(working[inner], expected[inner], atol=0.2)
    back = grid.to_native(expected.astype(np.float32), 1)
    inner = (slice(4, -4),) * 3
    np.testing.assert_allclose(back[inner], ramp[inner], atol=1e-3)


@pytest.mark.parametrize("orientation", [0, 9, 17, 30])
def test_the_matrix_leads_where_resampling_reads(orientation: int) -> None:
    affine = make_affine(ALL[orientation], (1.2, 0.7, 1.9), (15, -20, 10))
    grid = working_grid(SHAPE, affine, (2, 2, 2))
    place = np.einsum("ij,jxyz->ixyz", grid.native_to_working[:, :3], np.indices(SHAPE))
    place += grid.native_to_working[:, 3, None, None, None]
    inside = ((place >= 0) & (place <= np.array(grid.box)[:, None, None, None] - 1)).all(0)
    assert inside.mean() > 0.3
    read = grid.to_native(np.indices(grid.box).astype(np.float32), order=1)
    np.testing.assert_allclose(read[:, inside], place[:, inside], atol=1e-4)


def test_low_pass_removes_what_the_coarse_grid_cannot_hold() -> None:
    stripes = np.zeros((64, 8, 8), np.float32)
    stripes[::2] = 1
    grid = working_grid(stripes.shape, np.eye(4), (4, 1, 1))
    working = grid.to_working(stripes, 1)
    assert np.abs(working[2:-2] - 0.5).max() < 0.05


def test_outside_is_fill() -> None:
    grid = working_grid((10, 10, 10), np.eye(4), (1, 1, 1), mask=None, box=(16, 16, 16))
    working = grid.to_working(np.ones((10, 10, 10)), 1, fill=-5)
    assert (working[3:13, 3:13, 3:13] == 1).all()
    assert working.sum() == 1000 - 5 * (16**3 - 1000)
    mask = np.zeros((10, 10, 10), bool)
    mask[4:6, 4:6, 4:6] = True
    small = working_grid((10, 10, 10), np.eye(4), (1, 1, 1), mask=mask, box=(4, 4, 4))
    native = small.to_native(np.ones((4, 4, 4), np.float32), 1, fill=-1)
    assert (native == 1).sum() == 64
    assert (native == -1).sum() == 1000 - 64
    assert small.to_native(np.ones((4, 4, 4), bool), 0).sum() == 64


def test_nonfinite_voxels_stay_where_they_are() -> None:
    data = np.ones((20, 20, 20), np.float32)
    data[5, 5, 5], data[15, 3, 2] = np.nan, np.inf
    data[10:16, 10:16, 10:16] = np.nan
    grid = working_grid(data.shape, np.eye(4), (2, 2, 2))
    working = grid.to_working(data, 1, fill=0)[:10, :10, :10]  # the field of view
    assert np.isfinite(working).all()
    assert set(np.unique(working.round(5))) == {0, 1}
    assert 1 <= (working == 0).sum() <= 27


def test_several_volumes_at_once_equal_one_by_one() -> None:
    affine = make_affine(ALL[17], (1.2, 0.7, 1.9), (15, -20, 10))
    data = np.stack([volume(SHAPE, "f4", seed) for seed in range(3)])
    grid = working_grid(SHAPE, affine, (2, 2, 2))
    for order in (0, 1):
        working = grid.to_working(data, order)
        assert working.flags.c_contiguous
        native = grid.to_native(working, order)
        for i in range(3):
            np.testing.assert_allclose(working[i], grid.to_working(data[i], order), rtol=1e-5)
            np.testing.assert_allclose(native[i], grid.to_native(working[i], order), rtol=1e-5)


class TestBox:
    AFFINE = make_affine(ALL[30], (1, 1, 2), (5, 0, 0))

    def mask(self) -> np.ndarray:
        mask = np.zeros((60, 50, 30), bool)
        mask[10:41, 5:26, 4:15] = True
        return mask

    def inside(self, box: tuple[int, int, int] | None, multiple: int) -> tuple[int, int, int]:
        """Every native mask voxel is held by the box, at any size asked for; returns the box."""
        mask = self.mask()
        grid = working_grid(mask.shape, self.AFFINE, (2, 2, 2), mask=mask, box=box, multiple=(multiple,) * 3)
        held = grid.to_native(np.ones(grid.box, bool), 0)
        assert held[mask].all()
        edges = grid.to_working(mask, 0)
        low, high = np.argwhere(edges).min(0), np.argwhere(edges).max(0)
        assert (np.abs(low - (np.array(grid.box) - 1 - high)) <= 2).all()  # in the centre
        return grid.box

    def test_found(self) -> None:
        for multiple in (1, 8, 16):
            box = self.inside(None, multiple)
            assert all(size % multiple == 0 for size in box)
        assert sorted(self.inside(None, 1)) == [15, 16, 21]

    def test_given(self) -> None:
        assert self.inside((40, 48, 56), 8) == (40, 48, 56)

    def test_a_box_too_small_grows(self) -> None:
        box = self.inside((8, 8, 8), 8)
        assert sorted(box) == [16, 16, 24]

    def test_no_mask_takes_everything(self) -> None:
        grid = working_grid((60, 50, 30), self.AFFINE, (2, 2, 2))
        assert grid.to_native(np.ones(grid.box, bool), 0).all()

    def test_one_voxel(self) -> None:
        mask = np.zeros((60, 50, 30), bool)
        mask[7, 8, 9] = True
        grid = working_grid(mask.shape, self.AFFINE, (5, 5, 5), mask=mask)
        assert grid.to_native(np.ones(grid.box, bool), 0)[7, 8, 9]

    def test_empty_mask(self) -> None:
        with pytest.raises(BrainMaskError, match="empty"):
            working_grid((9, 9, 9), np.eye(4), (1, 1, 1), mask=np.zeros((9, 9, 9), bool))

    def test_absurd_sizes(self) -> None:
        with pytest.raises(TooLargeImageError, match="crop"):
            working_grid((32767, 2, 2), np.diag([100.0, 1, 1, 1]), (2, 2, 2))
        with pytest.raises(TooLargeImageError):
            working_grid((2000, 2000, 2000), np.eye(4), (1, 1, 1), mask=None)


def test_another_shape_is_refused() -> None:
    grid = working_grid((9, 8, 7), np.eye(4), (1, 1, 1))
    with pytest.raises(ImageError, match="9x8x8 voxels, expected 9x8x7"):
        grid.to_working(np.zeros((9, 8, 8)), 1)
    with pytest.raises(ImageError, match="expected"):
        working_grid((9, 8, 7), np.eye(4), (1, 1, 1), mask=np.ones((7, 8, 9), bool))


def test_shear_is_told_and_handled() -> None:
    straight = working_grid(SHAPE, make_affine(ALL[9], (1, 2, 3), (20, 30, 10)), (2, 2, 2))
    assert not straight.sheared
    affine = make_affine(ALL[9], (1, 2, 3), (20, 30, 10), shear=0.15)
    grid = working_grid(SHAPE, affine, (2, 2, 2))
    assert grid.sheared
    native = blob(SHAPE, (9, 12, 8), (4, 2, 1.5))
    working = grid.to_working(native, 1)
    peak = np.array(np.unravel_index(working.argmax(), grid.box))
    assert np.linalg.norm(_world(grid.affine, peak) - _world(affine, np.array([9, 12, 8]))) < 2
    back = np.array(np.unravel_index(grid.to_native(working, 1).argmax(), SHAPE))
    assert np.abs(back - (9, 12, 8)).max() <= 1
