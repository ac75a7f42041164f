"""Where a run computes and how precisely."""

from __future__ import annotations

import torch

from anatomad.errors import UsageError
from anatomad.planner.machine import Precision, native_bfloat16


def choose_device(name: str) -> torch.device:
    """Device of ``auto``, ``cpu`` or ``cuda``; ``auto`` takes a GPU where there is one.

    Raises:
        UsageError: ``cuda`` where torch sees none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu, or install torch for CUDA")
    return torch.device("cuda" if name != "cpu" and available else "cpu")


def precision_of(device: torch.device, wanted: Precision = "auto") -> str:
    """The precision ``wanted``; ``auto`` is ``bfloat16`` where hardware multiplies it natively, else ``float32``."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if native_bfloat16() else "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which convolutions run in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
