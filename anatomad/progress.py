"""Progress on stderr: a rich bar on a terminal, plain timed lines with the time left elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    import rich.progress

T = TypeVar("T")


class Progress:
    """Context manager that reports ``total`` units of work.

    Args:
        total: units of work altogether.
        label: what is being done, one or two words.
        done: units already done by an earlier run; they count as progress but not towards the speed.
        interval_s: least time between two plain lines, seconds.
    """

    def __init__(self, total: int, label: str, done: int = 0, interval_s: float = 10.0) -> None:
        self.total, self.label, self.done = total, label, done
        self._earlier, self._interval, self._text, self._spoken_done = done, interval_s, "", done
        self._started = self._spoken = time.monotonic()
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Self:
        self._started = self._spoken = time.monotonic()
        if sys.stderr.isatty():
            self._bar = _rich_bar()
            self._bar.start()
            self._bar.add_task(self.label, total=self.total, completed=self.done, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._spoken_done != self.done:
            self._speak()

    def advance(self, n: int = 1, text: str = "") -> None:
        """Count ``n`` more units as done; ``text`` (a case, a loss) is shown beside them."""
        self.done, self._text = self.done + n, text
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, text=text)
        elif time.monotonic() - self._spoken >= self._interval:
            self._speak()

    def _speak(self) -> None:
        self._spoken, self._spoken_done = time.monotonic(), self.done
        elapsed = self._spoken - self._started
        left = elapsed / max(1, self.done - self._earlier) * (self.total - self.done)
        rest = f"about {clock(left)} left" if self.done < self.total else "done"
        line = f"[{clock(elapsed)}] {self.label} {self.done}/{self.total}, {rest}  {self._text}"
        sys.stderr.write(line.rstrip() + "\n")
        sys.stderr.flush()


def track(items: Collection[T], label: str) -> Iterator[T]:
    """Iterate over ``items`` and report each as done when the next is asked for."""
    with Progress(len(items), label) as progress:
        for item in items:
            yield item
            progress.advance()


def clock(seconds: float) -> str:
    """``mm:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def _rich_bar() -> rich.progress.Progress:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True),
    )
