"""The fingerprint: what a data set is, measured once per case and kept beside the results."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from anatomad.io.atomic import write_json
from anatomad.io.nifti import Image, read_image
from anatomad.parallel import run_jobs
from anatomad.planner.dataset import Case, RawDataset
from anatomad.preprocess.bias import correct_bias
from anatomad.preprocess.brain_mask import brain_mask
from anatomad.preprocess.normalise import fill_nonfinite, intensity_window

FINGERPRINT_VERSION = 1
PERCENTILES = (0.5, 25.0, 50.0, 75.0, 99.5)
_MAD_TO_SD = 1 / 0.6745
_BIAS_BLOCK_MM, _BIAS_BLOCK_SHARE = 6.0, 0.75

Triple = tuple[float, float, float]
Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelFingerprint(_Record):
    """One image file. File axes unless said otherwise.

    Attributes:
        shape: voxels.
        spacing_mm: voxel size, mm.
        orientation: closest axis codes, like ``LAS``.
        dtype: data type on disk.
        mask_source: ``stripped`` (brain only), ``computed`` (whole head) or ``given``.
        mask_doubt: why the brain mask may be wrong, or None.
        brain_ml: brain volume, ml.
        brain_extent_mm: size of the brain's bounding box along canonical (RAS) axes, mm.
        percentiles: intensities at the `PERCENTILES` of the brain, as stored in the file.
        noise: SD of the voxel noise, as a share of the brain's robust intensity range.
        bias: SD of the logarithm of the bias field in the brain.
        nonfinite_share: NaN and infinite voxels, 0 to 1.
    """

    shape: tuple[int, int, int]
    spacing_mm: Triple
    orientation: str
    dtype: str
    mask_source: str
    mask_doubt: str | None
    brain_ml: float
    brain_extent_mm: Triple
    percentiles: tuple[float, ...]
    noise: float
    bias: float
    nonfinite_share: float


class CaseFingerprint(_Record):
    """A case's channels, by channel number; absent ones are missing."""

    id: str
    channels: dict[int, ChannelFingerprint]


class Fingerprint(_Record):
    """A data set: its channels and its measured training cases in order of their id."""

    version: int = FINGERPRINT_VERSION
    dataset: str
    channel_names: dict[int, str]
    cases: tuple[CaseFingerprint, ...]

    def channels(self) -> list[ChannelFingerprint]:
        """Every measured image."""
        return [channel for case in self.cases for channel in case.channels.values()]


class _Cached(_Record):
    version: int
    stamp: tuple[tuple[int, str, int, int], ...]
    case: CaseFingerprint


def take_fingerprint(dataset: RawDataset, folder: Path, workers: int) -> tuple[Fingerprint, dict[str, Exception]]:
    """Measure the training cases in parallel and write ``fingerprint.json`` into ``folder``.

    A case that was measured before is not measured again unless one of its files changed (name, size or time).

    Returns:
        The fingerprint of the cases that could be measured, and the failures by case.
    """
    cache = folder / "fingerprint"
    cache.mkdir(exist_ok=True)
    cases = dataset.training_cases()
    known = {case.id: _read_cached(case, cache) for case in cases}
    missing = {case.id: (case, cache) for case in cases if known[case.id] is None}
    measured, failures = run_jobs(_measure_and_keep, missing, workers, "fingerprint") if missing else ({}, {})
    found = {case_id: measured.get(case_id) or kept for case_id, kept in known.items()}
    fingerprint = Fingerprint(
        dataset=dataset.name,
        channel_names=dataset.channel_names,
        cases=tuple(case for case in found.values() if case is not None),
    )
    write_json(folder / "fingerprint.json", fingerprint.model_dump(mode="json"))
    return fingerprint, failures


def measure_case(case: Case) -> CaseFingerprint:
    """Measure every channel of a case.

    Raises:
        ImageError: a file cannot be used, or holds no plausible brain; the file is named.
    """
    channels = {number: measure_image(read_image(path)) for number, path in case.channels.items()}
    return CaseFingerprint(id=case.id, channels=channels)


def measure_image(image: Image) -> ChannelFingerprint:
    """Measure one image."""
    brain = brain_mask(image)
    box = _bounding_box(brain.mask)
    mask = brain.mask[box]
    data = fill_nonfinite(np.asarray(image.data[box], dtype=np.float32), mask)
    low, high = intensity_window(data, mask, str(image.path))
    return ChannelFingerprint(
        shape=image.shape,
        spacing_mm=_rounded(image.spacing),
        orientation="".join(nib.aff2axcodes(image.affine)),
        dtype=str(image.header.get_data_dtype()),
        mask_source=brain.source,
        mask_doubt=brain.doubt,
        brain_ml=round(brain.volume_ml, 1),
        brain_extent_mm=_canonical_extent(mask.shape, image),
        percentiles=tuple(round(float(value), 3) for value in np.percentile(data[mask], PERCENTILES)),
        noise=round(noise_sd(data, mask) / (high - low), 5),
        bias=round(bias_sd(data, mask, image.spacing), 4),
        nonfinite_share=round(image.nonfinite_share, 6),
    )


def noise_sd(data: Volume, mask: Mask) -> float:
    """SD of independent voxel noise inside ``mask``, in the unit of ``data``.

    The median absolute diagonal Haar detail of 2x2x2 blocks (Donoho's estimator; Coupé et al. 2010 for MRI): anatomy is
    smooth along at least one axis and cancels. Interpolated images give too small a value. 0 where no block fits.
    """
    blocks = tuple(slice(size // 2 * 2) for size in data.shape)
    detail, inside = data[blocks], mask[blocks]
    for axis in range(3):
        even, odd = _pairs(axis)
        detail = detail[even] - detail[odd]
        inside = inside[even] & inside[odd]
    if not inside.any():
        return 0.0
    return float(np.median(np.abs(detail[inside]))) * _MAD_TO_SD / math.sqrt(8.0)


def bias_sd(data: Volume, mask: Mask, spacing: Triple) -> float:
    """SD of the logarithm of the bias field (N4) over the brighter half of the brain, robust against outliers.

    Measured on block means of about 6 mm: the field is smoother than that, and N4 takes a fraction of the time.
    """
    blocks = tuple(max(1, round(_BIAS_BLOCK_MM / mm)) for mm in spacing)
    filled = _block_means(mask.astype(np.float32), blocks)
    inside = filled > _BIAS_BLOCK_SHARE
    if not inside.any():
        return 0.0
    coarse = np.where(inside, _block_means(np.where(mask, data, 0), blocks) / np.maximum(filled, _BIAS_BLOCK_SHARE), 0)
    step = (spacing[0] * blocks[0], spacing[1] * blocks[1], spacing[2] * blocks[2])
    corrected = correct_bias(coarse, inside, step)
    bright = inside & (coarse > max(0.0, float(np.median(coarse[inside])))) & (corrected > 0)
    if not bright.any():
        return 0.0
    lower, upper = np.percentile(np.log(coarse[bright] / corrected[bright]), (16, 84))
    return float(upper - lower) / 2


def _block_means(data: Volume, blocks: tuple[int, ...]) -> Volume:
    counts = [size // block for size, block in zip(data.shape, blocks, strict=True)]
    whole = data[tuple(slice(count * block) for count, block in zip(counts, blocks, strict=True))]
    split = [number for pair in zip(counts, blocks, strict=True) for number in pair]
    means: Volume = whole.reshape(split).mean(axis=(1, 3, 5))
    return means


def _pairs(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    before = (slice(None),) * axis
    return (*before, slice(0, None, 2)), (*before, slice(1, None, 2))


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    edges = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        edges.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(edges)


def _canonical_extent(shape: tuple[int, ...], image: Image) -> Triple:
    extent = [0.0, 0.0, 0.0]
    for axis, (target, _) in enumerate(nib.io_orientation(image.affine)):
        extent[int(target)] = shape[axis] * image.spacing[axis]
    return _rounded((extent[0], extent[1], extent[2]))


def _rounded(values: Triple) -> Triple:
    return round(float(values[0]), 4), round(float(values[1]), 4), round(float(values[2]), 4)


def _measure_and_keep(case: Case, cache: Path) -> CaseFingerprint:
    stamp = _stamp(case)
    measured = measure_case(case)
    kept = _Cached(version=FINGERPRINT_VERSION, stamp=stamp, case=measured)
    write_json(cache / f"{case.id}.json", kept.model_dump(mode="json"))
    return measured


def _read_cached(case: Case, cache: Path) -> CaseFingerprint | None:
    try:
        kept = _Cached.model_validate_json((cache / f"{case.id}.json").read_bytes())
        current = kept.version == FINGERPRINT_VERSION and kept.stamp == _stamp(case)
    except (OSError, ValidationError):
        return None
    return kept.case if current else None


def _stamp(case: Case) -> tuple[tuple[int, str, int, int], ...]:
    files = [(number, path, path.stat()) for number, path in case.channels.items()]
    return tuple((number, path.name, status.st_size, status.st_mtime_ns) for number, path, status in files)
