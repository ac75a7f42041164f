"""The records of ``fingerprint.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

FINGERPRINT_VERSION = 2
PERCENTILES = (0.5, 25.0, 50.0, 75.0, 99.5)

Triple = tuple[float, float, float]
Sequence = Literal["T1-like", "T2-like", "FLAIR-like", "unclear"]
Severity = Literal["look", "mend"]
Kind = Literal[
    "orientation",
    "cut off",
    "brain mask",
    "outside the brain",
    "bright area",
    "noise",
    "bias field",
    "sequence",
    "duplicate",
    "same person",
    "missing channel",
]


class Record(BaseModel):
    """Base of everything in the file: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelFingerprint(Record):
    """One image file. File axes unless said otherwise.

    Fields from ``anisotropy`` on have neutral defaults, for records that are made by hand.

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
        bias: SD of the logarithm of the bias field in the brighter half of the brain.
        nonfinite_share: NaN and infinite voxels, 0 to 1.
        anisotropy: longest side of a voxel over its shortest.
        obliqueness_deg: largest angle between an axis of the file and the closest one of the scanner, degrees.
        foreground_share: voxels that are not background, 0 to 1.
        tissue_means: mean of CSF, grey and white matter, found without labels; 0 and 1 are the ends of ``percentiles``.
        tissue_order: the tissues from dark to bright, like ``csf < grey < white``.
        looks_like: the sequence that this order suggests.
        axes: which way the axes that the header calls R, A and S seem to point; left and right cannot be told apart.
        axes_margin: agreement with the atlas as the header has it, less that of the best other way; -1 to 1.
        symmetry: correlation of the brain with its mirror image, -1 to 1.
        outside_share: part of the mask that lies where no brain should be, 0 to 1.
        bright_share: part of the brain in areas brighter than any of its tissues, 0 to 1.
        cut_cm2: largest area in which the brain touches a side of the volume, cm².
        digest: of voxels and shape; equal for equal content.
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
    anisotropy: float = 1.0
    obliqueness_deg: float = 0.0
    foreground_share: float = 1.0
    tissue_means: Triple = (0.25, 0.5, 0.75)
    tissue_order: str = "csf < grey < white"
    looks_like: Sequence = "unclear"
    axes: str = "RAS"
    axes_margin: float = 1.0
    symmetry: float = 1.0
    outside_share: float = 0.0
    bright_share: float = 0.0
    cut_cm2: float = 0.0
    digest: str = ""


class CaseFingerprint(Record):
    """A case's channels, by channel number; absent ones are missing."""

    id: str
    channels: dict[int, ChannelFingerprint]


class Distribution(Record):
    """How a figure is spread over the scans of a channel."""

    median: float
    p05: float
    p95: float


class Outlier(Record):
    """What should be looked at (suspicious) or mended (harmful), and why.

    Attributes:
        case: id.
        channel: number; None when the whole case is meant.
        kind: of the finding.
        severity: ``look`` or ``mend``.
        reason: a sentence.
        related: ids of the other cases that it concerns.
    """

    case: str
    channel: int | None
    kind: Kind
    severity: Severity
    reason: str
    related: tuple[str, ...] = ()


class Fingerprint(Record):
    """A data set: its channels and its measured cases in order of their id.

    Attributes:
        version: of the schema.
        dataset: name.
        channel_names: sequence names as ``dataset.json`` gives them.
        cases: what was measured.
        distributions: per channel number and figure.
        outliers: cases in order of their id.
        repeats: groups of cases that are scans of one person, by name or by anatomy.
    """

    version: int = FINGERPRINT_VERSION
    dataset: str
    channel_names: dict[int, str]
    cases: tuple[CaseFingerprint, ...]
    distributions: dict[int, dict[str, Distribution]] = {}
    outliers: tuple[Outlier, ...] = ()
    repeats: tuple[tuple[str, ...], ...] = ()

    def channels(self) -> list[ChannelFingerprint]:
        """Every measured image."""
        return [channel for case in self.cases for channel in case.channels.values()]
