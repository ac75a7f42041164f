"""``progress.png``: the losses of every stage, and validation scans on their way through the model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatomad.io.atomic import write_bytes
from anatomad.models.closed_form import recouple
from anatomad.models.dal import DisentangledAnatomy
from anatomad.planner.plan import TISSUES
from anatomad.preprocess.store import StoredCase
from anatomad.train.cases import whole_case
from anatomad.train.log import Record
from anatomad.train.stages import STAGES
from anatomad.train.validate import decoder_image, decompose, healthy_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CASES = 3
_MAP_LIMIT = 4.0
_STAGES = tuple(stage.name for stage in STAGES)

_COLUMNS = (
    ("x", {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ("anatomy", {"cmap": "viridis", "vmin": 0, "vmax": len(TISSUES) - 1}),
    ("edges", {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ("restored anatomy", {"cmap": "viridis", "vmin": 0, "vmax": len(TISSUES) - 1}),
    ("PHI, closed form", {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ("PHI, decoder", {"cmap": "gray", "vmin": 0, "vmax": 1}),
    (f"|x - PHI| / spread, 0 to {_MAP_LIMIT:g}", {"cmap": "inferno", "vmin": 0, "vmax": _MAP_LIMIT}),
)


@dataclass(frozen=True)
class Row:
    """One case of the mosaic: its id, and per column one axial slice (x, y), its title and its look."""

    case_id: str
    slices: tuple[NDArray[np.float32], ...]
    columns: tuple[tuple[str, dict[str, Any]], ...] = _COLUMNS


@torch.no_grad()
def mosaic_row(model: DisentangledAnatomy, case: StoredCase, device: torch.device, precision: str) -> Row:
    """Take a validation case through the model and keep the axial slice through the middle of its brain."""
    patch = whole_case(case, device)
    parts = decompose(model, patch.image, patch, precision)
    healthy = healthy_labels(parts, patch)
    tissue = parts.restored[0, 1:].float().softmax(0)  # without background, which the brain mask has ruled out
    closed = recouple(patch.image[0, 0], tissue, patch.mask[0, 0])
    residual = (patch.image[0, 0] - closed.image).abs() / closed.spread * patch.mask[0, 0]
    columns = (
        patch.image,
        parts.labels,
        parts.edges.amax(1),
        healthy,
        closed.image,
        decoder_image(model, patch.image, healthy, patch, precision),
        residual,
    )
    middle = int(np.median(np.nonzero(case.mask)[2]))
    return Row(case.id, tuple(axial(column, middle) for column in columns))


def draw(
    path: Path,
    records: Sequence[Record],
    rows: Sequence[Row],
    stages: Sequence[str] = _STAGES,
) -> None:
    """Write the picture.

    Args:
        path: ``progress.png``.
        records: Lines of the log.
        rows: Validation cases.
        stages: Names of the stages.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.2 + 2.7 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + len(rows), 1, height_ratios=[3.2] + [2.7] * len(rows))
    for place, stage in enumerate(stages):
        _curves(figure.add_subplot(grid[0].subgridspec(1, len(stages))[place]), stage, records)
    for line, row in enumerate(rows):
        places = grid[1 + line].subgridspec(1, len(row.slices))
        _line([figure.add_subplot(places[column]) for column in range(len(row.slices))], row, titled=line == 0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def _curves(axes: Axes, stage: str, records: Sequence[Record]) -> None:
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record["kind"] == "steps" and record["stage"] == stage:
            for name, loss in record["losses"].items():
                points.setdefault(name, []).append((record["step"], loss))
    for name, line in sorted(points.items()):
        axes.plot(*zip(*line, strict=True), label=name, linewidth=1, marker="." if len(line) == 1 else None)
    axes.set(title=f"{stage} stage", xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    if points:
        axes.legend(fontsize="small")
    else:
        axes.text(0.5, 0.5, "not begun", transform=axes.transAxes, ha="center", va="center")


def _line(line: Sequence[Axes], row: Row, titled: bool) -> None:
    for axes, values, (title, look) in zip(line, row.slices, row.columns, strict=True):
        style: dict[str, Any] = dict(look)
        axes.imshow(values.T, origin="lower", interpolation="nearest", **style)
        axes.set(xticks=[], yticks=[])
        if titled:
            axes.set_title(title, fontsize="small")
    line[0].set_ylabel(row.case_id[:24], fontsize="small")


def axial(volume: Tensor, z: int) -> NDArray[np.float32]:
    """Slice [x, y] across the last axis of a volume [..., x, y, z]."""
    return volume.reshape(volume.shape[-3:])[..., z].float().cpu().numpy()
