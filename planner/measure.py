"""The measurements of one image.

The file is read once. Noise is measured on neighbouring voxels as they are; everything else on every n-th voxel, a grid
of about 2 mm, where nothing is averaged and a voxel keeps its tissue's intensity.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np
from nibabel.affines import obliquity
from numpy.typing import NDArray
from scipy import ndimage

from anatomad.io.geometry import to_canonical
from anatomad.io.nifti import Image
from anatomad.planner.anatomy import OUTSIDE, Place, atlas_at, detail, in_cube, pose, settle
from anatomad.planner.contrast import Contrast, fit_contrast
from anatomad.planner.records import PERCENTILES, ChannelFingerprint, Triple
from anatomad.planner.thumbnails import Picture, Thumbnail
from anatomad.preprocess.brain_mask import BrainMask, brain_mask
from anatomad.preprocess.normalise import check_intensities, fill_nonfinite, intensity_window
from anatomad.preprocess.stripped import estimate_background

SAMPLE_MM = 2.05
COARSE_MM = 4.1
BRIGHT_BLOCK_MM = 12.0
BRIGHT_LEVEL = 1.2
_LEAST_BLOCK_SHARE = 0.2
_MAD_TO_SD = 1 / 0.6745
_BLACK_SHARE = 0.02

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]
Array = NDArray[np.float64]
Steps = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Sample:
    """Every n-th voxel of a scan in RAS order, its brain, and the intensities that are 0 and 1 of its robust range."""

    data: Volume
    mask: Mask
    spacing: Triple
    low: float
    high: float

    @cached_property
    def black(self) -> float:
        """Intensity of no signal; the darkest of the brain where a scan was shifted below 0."""
        below = float(np.mean(self.data[self.mask] < 0))
        return self.low if below > _BLACK_SHARE else 0.0

    @cached_property
    def coarse(self) -> tuple[slice, slice, slice]:
        """Takes a grid of about 4 mm from the sample."""
        x, y, z = (slice(None, None, max(1, int(COARSE_MM / mm))) for mm in self.spacing)
        return x, y, z

    @cached_property
    def points(self) -> Array:
        """Positions (n, 3) in mm of the brain's voxels on the coarse grid."""
        steps = [mm * cut.step for mm, cut in zip(self.spacing, self.coarse, strict=True)]
        return np.argwhere(self.mask[self.coarse]) * np.asarray(steps)

    @cached_property
    def values(self) -> Array:
        """Intensities (n,) there: 0 no signal, 1 about the brightest."""
        return self.scaled(self.data[self.coarse][self.mask[self.coarse]])

    @cached_property
    def settled(self) -> tuple[Place, Array]:
        """The brain's place, and the atlas's probabilities (n, 4) at the points."""
        return settle(self.points)

    @cached_property
    def contrast(self) -> Contrast:
        """The tissues' brightness and the bias field."""
        place, prior = self.settled
        return fit_contrast(self.values, place.relative(self.points), prior[:, 1:])

    @cached_property
    def field(self) -> Array:
        """The bias field (n,) at the points."""
        place, _ = self.settled
        return self.contrast.field(place.relative(self.points))

    def scaled(self, values: Volume) -> Array:
        """Intensities with 0 for no signal and 1 for about the brightest."""
        return (values.astype(np.float64) - self.black) / (self.high - self.black)


def measure_image(image: Image) -> tuple[ChannelFingerprint, Thumbnail]:
    """Measure one image.

    Raises:
        IntensityError: constant, or more than 20 % non-finite voxels.
        BrainMaskError: no plausible brain.
    """
    name = str(image.path)
    full = np.asarray(image.data, dtype=np.float32)
    check_intensities(full, name)
    canonical, affine = to_canonical(full, image.affine)
    steps = _steps(affine)
    data, brain, spacing = _sampled(image, canonical, affine, steps)
    data = fill_nonfinite(data, brain.mask)
    sample = Sample(data, brain.mask, spacing, *intensity_window(data, brain.mask, name))
    place, _ = sample.settled
    values, share = in_cube(data, brain.mask, spacing, place)
    lie, contrast = pose(values, share), sample.contrast
    background = estimate_background(data)
    measured = ChannelFingerprint(
        shape=image.shape,
        spacing_mm=_rounded(image.spacing),
        orientation="".join(nib.aff2axcodes(image.affine)),
        dtype=str(image.header.get_data_dtype()),
        mask_source=brain.source,
        mask_doubt=brain.doubt,
        brain_ml=round(brain.volume_ml, 1),
        brain_extent_mm=_extent(brain.mask, spacing),
        percentiles=tuple(round(float(value), 3) for value in np.percentile(data[brain.mask], PERCENTILES)),
        noise=round(noise_sd(canonical, brain.mask, steps) / (sample.high - sample.low), 5),
        bias=round(bias_sd(sample), 4),
        nonfinite_share=round(image.nonfinite_share, 6),
        anisotropy=round(max(image.spacing) / min(image.spacing), 3),
        obliqueness_deg=round(float(np.rad2deg(obliquity(image.affine)).max()), 2),
        foreground_share=round(float(np.mean(np.abs(data - background.value) > background.tolerance)), 4),
        tissue_means=_tissue_means(sample),
        tissue_order=contrast.order(),
        looks_like=contrast.looks_like(),
        axes=lie.axes,
        axes_margin=round(lie.margin, 4),
        symmetry=round(lie.symmetry, 4),
        outside_share=round(_outside_share(sample), 4),
        bright_share=round(_bright_share(sample), 4),
        cut_cm2=round(cut_cm2(brain.mask, spacing), 2),
        digest=_digest(image.shape, data),
    )
    return measured, _thumbnail(sample, detail(values, share))


def noise_sd(data: Volume, mask: Mask, steps: Steps = (1, 1, 1)) -> float:
    """SD of independent voxel noise inside a mask, in the unit of ``data``.

    The median absolute diagonal Haar detail of 2x2x2 blocks (Donoho's estimator; Coupé et al. 2010 for MRI): anatomy is
    smooth along at least one axis and cancels. Interpolated images give too small a value. 0 where no block fits.

    Args:
        data: (x, y, z) intensities.
        mask: of every n-th voxel, from the n // 2-th on.
        steps: n along each axis.
    """
    inner = ndimage.binary_erosion(mask)
    difference, inside = data, inner if inner.any() else mask
    for axis, step in enumerate(steps):
        if step == 1:
            even, odd = (_along(axis, slice(start, inside.shape[axis] // 2 * 2, 2)) for start in (0, 1))
            inside = inside[even] & inside[odd]
        else:
            odd = _along(axis, slice(step // 2, None, step))
            even = _along(axis, slice(step // 2 - 1, data.shape[axis] - 1, step))
        difference = difference[odd] - difference[even]
    found = difference[inside]
    found = found[np.isfinite(found)]
    return float(np.median(np.abs(found))) * _MAD_TO_SD / math.sqrt(8.0) if found.size else 0.0


def bias_sd(sample: Sample) -> float:
    """SD of the logarithm of the bias field over the brighter half of the brain, robust against outliers."""
    bright = sample.values >= np.median(sample.values)
    lower, upper = np.percentile(np.log(sample.field[bright]), (16, 84))
    return float(upper - lower) / 2


def cut_cm2(mask: Mask, spacing: Triple) -> float:
    """Largest area in cm² in which a mask touches one of the six sides of its volume."""
    faces = []
    for axis in range(3):
        pixel = float(np.prod([mm for other, mm in enumerate(spacing) if other != axis])) / 100
        faces += [np.count_nonzero(mask.take(side, axis)) * pixel for side in (0, -1)]
    return max(faces)


def _steps(affine: Array) -> Steps:
    x, y, z = (max(1, int(SAMPLE_MM / mm)) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def _sampled(image: Image, canonical: Volume, affine: Array, steps: Steps) -> tuple[Volume, BrainMask, Triple]:
    data = np.ascontiguousarray(canonical[tuple(slice(step // 2, None, step) for step in steps)])
    coarse = np.array(affine)
    coarse[:3, :3] *= steps
    header = nib.Nifti1Header()
    header.set_data_shape(data.shape)
    header.set_sform(coarse, 1)
    reduced = Image(data, header, image.path)
    return data, brain_mask(reduced), reduced.spacing


def _extent(mask: Mask, spacing: Triple) -> Triple:
    sides = [np.ptp(index) + 1 for index in np.nonzero(mask)]
    return _rounded((sides[0] * spacing[0], sides[1] * spacing[1], sides[2] * spacing[2]))


def _tissue_means(sample: Sample) -> Triple:
    native = sample.contrast.means * (sample.high - sample.black) + sample.black
    csf, grey, white = (round(float(mean), 3) for mean in (native - sample.low) / (sample.high - sample.low))
    return csf, grey, white


def _outside_share(sample: Sample) -> float:
    """Share of the mask outside the atlas's brain, without what is thinner than two points: no atlas fits a surface."""
    _, prior = sample.settled
    outside = np.zeros_like(sample.mask[sample.coarse])
    outside[sample.mask[sample.coarse]] = prior[:, 0] > OUTSIDE
    return float(np.count_nonzero(ndimage.binary_opening(outside, np.ones((2, 2, 2))))) / len(prior)


def _bright_share(sample: Sample) -> float:
    """Share of the brain in blocks whose 90th percentile is brighter than the brightest tissue, the field removed."""
    flat = sample.values / sample.field
    blocks = (sample.points / BRIGHT_BLOCK_MM).astype(np.int64)
    key = np.ravel_multi_index(tuple(blocks.T), tuple(blocks.max(0) + 1))
    order = np.lexsort((flat, key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    upper = flat[order][starts + (0.9 * (counts - 1)).astype(int)]
    bright = (upper > BRIGHT_LEVEL * sample.contrast.means.max()) & (counts > _LEAST_BLOCK_SHARE * counts.max())
    return float(counts[bright].sum()) / len(flat)


def _digest(shape: tuple[int, int, int], data: Volume) -> str:
    return hashlib.blake2b(repr(shape).encode() + data.tobytes(), digest_size=16).hexdigest()


def _thumbnail(sample: Sample, fine: NDArray[np.int8]) -> Thumbnail:
    place, _ = sample.settled
    middle = np.clip(place.centre / sample.spacing, 0, np.array(sample.mask.shape) - 1)
    x, _, z = (round(float(index)) for index in middle)
    axial, axial_tissue = _slice(sample, axis=2, index=z)
    sagittal, sagittal_tissue = _slice(sample, axis=0, index=x)
    return Thumbnail(axial, axial_tissue, sagittal, sagittal_tissue, fine)


def _slice(sample: Sample, axis: int, index: int) -> tuple[Picture, Picture]:
    cut = _along(axis, slice(index, index + 1))
    mask = sample.mask[cut]
    grey = np.clip((sample.data[cut] - sample.low) / (sample.high - sample.low), 0, 1.2) * (255 / 1.2)
    tissue = np.zeros(mask.shape, np.uint8)
    if mask.any():
        shift = np.eye(3, dtype=int)[axis] * index
        points = (np.argwhere(mask) + shift) * np.asarray(sample.spacing)
        place, _ = sample.settled
        prior = atlas_at(points, place)[:, 1:]
        values = sample.scaled(sample.data[cut][mask])
        tissue[mask] = 1 + sample.contrast.tissues(values, place.relative(points), prior)
    sides = [mm for other, mm in enumerate(sample.spacing) if other != axis]
    return _isotropic(grey.astype(np.uint8).squeeze(axis), sides), _isotropic(tissue.squeeze(axis), sides)


def _isotropic(picture: Picture, sides: list[float]) -> Picture:
    index = [
        np.minimum((np.arange(max(1, round(n * mm / SAMPLE_MM))) * SAMPLE_MM / mm).astype(int), n - 1)
        for n, mm in zip(picture.shape, sides, strict=True)
    ]
    return picture[np.ix_(*index)]


def _along(axis: int, cut: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, cut)


def _rounded(values: Triple) -> Triple:
    return round(float(values[0]), 4), round(float(values[1]), 4), round(float(values[2]), 4)
