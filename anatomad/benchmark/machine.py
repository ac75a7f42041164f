"""What a run was made on, and how much memory it took."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def describe_machine() -> dict[str, Any]:
    """Processor, threads and versions of this process."""
    import torch

    return {
        "processor": platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def forget_peak() -> None:
    """Let the peak of this process's memory count from now; does nothing where the system cannot."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")  # see proc(5): resets VmHWM


def peak_memory_mb() -> int | None:
    """Peak of this process's memory (10^6 bytes) since `forget_peak`; None where the system does not say."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6)
    return None


def threads_per_worker(workers: int, cores: int) -> int:
    """Threads that give every worker the same share of the cores."""
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # one number for each nested level
    return max(1, min(cores, int(limit) if limit.isdecimal() and int(limit) else cores) // workers)
