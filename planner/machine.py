"""The machine that a plan is made for: GPU or CPU, its memory, cores and the time at hand. No torch here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from anatomad.errors import UsageError
from anatomad.parallel import cores, total_memory

GB = 10**9
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GB?|GiB)", re.IGNORECASE)
_UNITS = {"g": GB, "gb": GB, "gib": 2**30}
_NATIVE_BFLOAT16 = {"amx_bf16", "avx512_bf16"}
_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits")
_UNKNOWN_GB = 4.0
_LEAST_GB = 0.1  # a plan keeps tenths
_CPUINFO = Path("/proc/cpuinfo")


Precision = Literal["auto", "float32", "bfloat16"]


class Machine(BaseModel):
    """What a plan must fit into.

    Attributes:
        kind: Where the networks run.
        memory_gb: Memory for a training step, GB (10^9 bytes): of the GPU, or RAM.
        precision: In which convolutions run there when a plan leaves it to the hardware.
        time_s: Seconds that training may take; None takes the steps of the plan.
        ram_gb: RAM, GB; None where it is not known. Of a CPU that is ``memory_gb``.
        cores: Of the CPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["cpu", "gpu"]
    memory_gb: Annotated[float, Field(gt=0)]
    precision: Literal["float32", "bfloat16"]
    time_s: Annotated[float, Field(gt=0)] | None = None
    ram_gb: Annotated[float, Field(gt=0)] | None = None
    cores: Annotated[int, Field(gt=0)] = 1

    def precision_of(self, wanted: Precision) -> Precision:
        """What a plan's ``precision`` means here."""
        return self.precision if wanted == "auto" else wanted


def find_machine(memory: str = "auto", time_s: float | None = None) -> Machine:
    """The machine that ``--memory`` names.

    Args:
        memory: ``auto`` (the GPU's free memory, else RAM), ``cpu`` (RAM), or a GPU's memory like ``8GB``.
        time_s: Seconds for training.

    Raises:
        UsageError: anything else.
    """
    if memory in ("auto", "cpu"):
        card = free_gpu_memory() if memory == "auto" else None
        return _gpu(card / GB, time_s) if card else _cpu(time_s)
    size = _SIZE.fullmatch(memory)
    memory_gb = float(size[1]) * _UNITS[size[2].lower()] / GB if size else 0.0
    if memory_gb < _LEAST_GB:
        least = f"{_LEAST_GB:g}GB at least"
        raise UsageError(f"--memory {memory!r}: expected auto, cpu, or the memory of a GPU like 8GB, {least}")
    return _gpu(memory_gb, time_s)


def free_gpu_memory() -> int | None:
    """Free bytes of the first GPU that ``nvidia-smi`` lists and ``CUDA_VISIBLE_DEVICES`` leaves; None without one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = None if visible is None else visible.split(",")[0].strip()
    if first in ("", "-1"):
        return None
    command = _NVIDIA_SMI if first is None else (*_NVIDIA_SMI, f"--id={first}")
    try:
        shown = subprocess.run(command, capture_output=True, check=True, text=True, timeout=20).stdout
        return int(shown.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def native_bfloat16() -> bool:
    """Whether this machine's CPU multiplies bfloat16 natively."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return bool(_NATIVE_BFLOAT16 & set(next((line.split() for line in lines if line.startswith("flags")), [])))


def _gpu(memory_gb: float, time_s: float | None) -> Machine:
    size = max(_LEAST_GB, round(memory_gb, 1))
    return Machine(kind="gpu", memory_gb=size, precision="bfloat16", time_s=time_s, ram_gb=_ram_gb(), cores=cores())


def _cpu(time_s: float | None) -> Machine:
    ram_gb = _ram_gb()
    memory_gb = ram_gb or _UNKNOWN_GB
    precision: Literal["float32", "bfloat16"] = "bfloat16" if native_bfloat16() else "float32"
    return Machine(kind="cpu", memory_gb=memory_gb, precision=precision, time_s=time_s, ram_gb=ram_gb, cores=cores())


def _ram_gb() -> float | None:
    """RAM in whole GB: not what is free just now, or the same command would plan differently from day to day."""
    ram = total_memory()
    return None if ram is None else max(1.0, float(ram // GB))
