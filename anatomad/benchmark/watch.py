"""What the runs are at, said now and then while they run."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from anatomad.benchmark.runs import LOG, Run

_log = logging.getLogger(__name__)

EVERY_S = 60.0
_LONGEST = 110
_END_BYTES = 4096


class Watch:
    """Context manager that logs the last line of every run's log that has grown since the last look.

    Args:
        runs: Whose logs.
        every_s: Seconds between two looks.
    """

    def __init__(self, runs: Sequence[Run], every_s: float = EVERY_S) -> None:
        self._runs, self._every_s = runs, every_s
        self._over = threading.Event()
        self._seen = time.time()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            since, self._seen = self._seen, time.time()
            for run in self._runs:
                with contextlib.suppress(OSError):
                    if (run.folder / LOG).stat().st_mtime > since:
                        _log.info("%s: %s", run.name, last_line(run))


def last_line(run: Run) -> str:
    """The last line of a run's log that says anything."""
    with (run.folder / LOG).open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _END_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip()[:_LONGEST] for line in reversed(lines) if line.strip()), "")
