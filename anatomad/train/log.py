"""The training log: one JSON object per line, cut back to the checkpoint when a run goes on.

Kinds of lines: ``run`` (once, at the top), ``steps`` (means over the last steps), ``skipped``, ``rollback`` and
``validation``. Apart from times, a run that was interrupted leaves the same log as one that was not.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import anatomad
from anatomad.io.atomic import write_text
from anatomad.kernels import serving
from anatomad.train.learner import Outcome

TIMES = ("seconds", "voxels_per_second", "seconds_per_step")
"""Keys whose values differ between two runs of the same thing."""

Record = dict[str, Any]


class RunLog:
    """Append-only log file whose number of lines is known.

    Args:
        path: ``log.jsonl``.
        lines: Keep that many lines of what is there and drop the others.
    """

    def __init__(self, path: Path, lines: int = 0) -> None:
        self._path = path
        self.records: list[Record] = []
        self.cut(lines, self._read())

    def cut(self, lines: int, records: list[Record] | None = None) -> None:
        """Drop every line after the first ``lines`` ones."""
        self.records = (self.records if records is None else records)[:lines]
        write_text(self._path, "".join(map(_line, self.records)))

    def add(self, kind: str, **values: Any) -> None:
        """Append one line."""
        record = {"kind": kind, **values}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        self.records.append(record)

    def sync(self) -> None:
        """Wait until the disk has every line."""
        with self._path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def _read(self) -> list[Record]:
        records: list[Record] = []
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    records.append(json.loads(line))
                except ValueError:
                    break  # the line that a killed process was writing
        return records


@dataclass
class Window:
    """Means since the last line of the log."""

    outcomes: list[Outcome] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    steps: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count a step; one that was skipped has no part in the means."""
        self.steps += 1
        if outcome.finite:
            self.outcomes.append(outcome)

    def summary(self, voxels: int) -> Record:
        """Mean losses, gradient norm, rate and speed; then the window is empty."""
        now = time.monotonic()
        seconds = max((now - self.began) / max(1, self.steps), 1e-9)
        good = self.outcomes
        record: Record = {"losses": {}}
        if good:
            record = {
                "losses": {name: sum(o.losses[name] for o in good) / len(good) for name in good[0].losses},
                "gradient_norm": sum(o.gradient_norm for o in good) / len(good),
                "learning_rate": good[-1].learning_rate,
            }
        self.outcomes, self.began, self.steps = [], now, 0
        return record | {"seconds": round(seconds, 4), "voxels_per_second": round(voxels / seconds)}


def environment(device: torch.device, precision: str) -> Record:
    """What else than plan and data decides the last bit of a result."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "anatomad": anatomad.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device.type,
        "hardware": name,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "kernels": serving(device.type),
    }


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
