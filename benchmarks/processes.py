"""What a command and all processes that it starts take: seconds, and the most memory at a time. Linux only."""

from __future__ import annotations

import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_EVERY_S = 0.1
_LAST_WORDS = 2000


class Cost(NamedTuple):
    """Seconds by the wall and of the processor, and peaks of memory over the tree of processes.

    ``rss_mib`` adds up what each process has in memory, so that pages which several share count several times;
    ``pss_mib`` gives each its part of those.
    """

    wall_s: float
    processor_s: float
    rss_mib: float
    pss_mib: float


def cost_of(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Cost:
    """Run a command, its output into ``log``, and look at its processes ten times a second.

    Raises:
        RuntimeError: it failed; ends with its last words.
    """
    before, began = _children_s(), time.perf_counter()
    peaks = [0.0, 0.0]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            found = [_memory_mib(number) for number in _tree(process.pid)]
            peaks = [max(peak, now) for peak, now in zip(peaks, map(sum, zip(*found, strict=True)), strict=False)]
            time.sleep(_EVERY_S)
    wall = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {log.read_text(encoding='utf-8', errors='replace')[-_LAST_WORDS:]}")
    return Cost(round(wall, 2), round(_children_s() - before, 2), *(round(peak, 1) for peak in peaks))


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            parent = _read(folder / "stat").rpartition(")")[2].split()
            if parent:
                children[int(parent[1])].append(int(folder.name))
    found = [root]
    for number in found:  # grows while it is gone through
        found += children[number]
    return found


def _memory_mib(number: int) -> tuple[float, float]:
    lines = _read(Path(f"/proc/{number}/smaps_rollup")).splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("Rss:", "Pss:"))}
    return sizes.get("Rss", 0.0), sizes.get("Pss", 0.0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
