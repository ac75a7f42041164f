"""The demo's picture: scans, what they would look like in health, where they differ, and the truth."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatomad.io.atomic import write_bytes
from anatomad.io.geometry import to_canonical
from anatomad.io.nifti import read_image

_PANELS = ("scan", "pseudo-healthy", "anomaly map", "lesion")
_LOOK = {"anomaly map": ("inferno", 5.0)}  # colours, and the -log10 p that is drawn brightest
_INCHES, _DPI = 1.5, 110
_MARGIN = 3

Slice = NDArray[np.float32]


def draw_picture(path: Path, subjects: Sequence[str], sequences: Sequence[str], data_set: Path, out: Path) -> None:
    """Write a PNG: a row per sequence; per subject, the scan and its results in the slice with the most lesion.

    Args:
        path: of the picture.
        subjects: case ids with a label.
        sequences: names of channels 0, 1, ...
        data_set: raw data set with ``imagesTs`` and ``labelsTs``.
        out: folder of predictions, every channel a case of its own.

    Raises:
        ImageError: a file cannot be read.
        UsageError, ResourceError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    rows = _slices(subjects, len(sequences), data_set, out)
    columns = len(_PANELS) * len(subjects)
    height = rows[0][0].shape[0] / rows[0][0].shape[1]
    figure = Figure(figsize=(_INCHES * columns + 0.3, _INCHES * height * len(sequences) + 0.3), facecolor="black")
    axes = figure.subplots(len(sequences), columns, squeeze=False)
    for row, (sequence, panels) in enumerate(zip(sequences, rows, strict=True)):
        for axis, title, panel in zip(axes[row], _PANELS * len(subjects), panels, strict=True):
            colours, brightest = _LOOK.get(title, ("gray", 1.0))
            axis.imshow(panel, origin="lower", vmin=0.0, vmax=brightest, cmap=colours)
            axis.set_title(title if row == 0 else "", color="white", fontsize=10)
            axis.set(xticks=[], yticks=[], frame_on=False)
        axes[row, 0].set_ylabel(sequence, color="white", fontsize=11)
    figure.tight_layout(pad=0.3, h_pad=0.1, w_pad=0.1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor=figure.get_facecolor())
    write_bytes(path, buffer.getvalue())


def _slices(subjects: Sequence[str], channels: int, data_set: Path, out: Path) -> list[list[Slice]]:
    """Rows of equally large panels: per channel, the four panels of each subject; scans scaled to [0, 1]."""
    rows: list[list[Slice]] = [[] for _ in range(channels)]
    for subject in subjects:
        label = _canonical(data_set / "labelsTs" / f"{subject}.nii.gz")
        z = int(label.sum((0, 1)).argmax())
        for channel, row in enumerate(rows):
            case = f"{subject}_{channel:04d}"
            scan = _canonical(data_set / "imagesTs" / f"{case}.nii.gz")
            healthy, anomaly = (_canonical(out / f"{case}_{name}.nii.gz") for name in ("phi", "anomaly"))
            brightest = np.float32(np.percentile(scan[scan != 0], 99.5))
            box = _bounds(scan[:, :, z] != 0)
            row += [v[:, :, z][box].T for v in (scan / brightest, healthy / brightest, anomaly, label)]
    height, width = np.max([panel.shape for row in rows for panel in row], axis=0)
    return [[_centred(panel, height, width) for panel in row] for row in rows]


def _centred(panel: Slice, height: int, width: int) -> Slice:
    gaps = height - panel.shape[0], width - panel.shape[1]
    return np.pad(panel, [(gap // 2, gap - gap // 2) for gap in gaps])


def _canonical(path: Path) -> Slice:
    image = read_image(path)
    return np.asarray(to_canonical(image.data, image.affine)[0], dtype=np.float32)


def _bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    spans = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    x, y = (slice(max(0, int(span[0]) - _MARGIN), int(span[-1]) + _MARGIN + 1) for span in spans)
    return x, y
