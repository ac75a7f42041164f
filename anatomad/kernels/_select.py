"""Which backend runs a call: the first of its device that can serve it, or the one that ``ANATOMAD_KERNELS`` names."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from torch import Tensor

from anatomad.errors import UsageError

VARIABLE = "ANATOMAD_KERNELS"
# The GPU kernels have compiled and been interpreted, but never run on a GPU: until they have, they serve by name only.
ORDER = {"cpu": ("cpp", "reference"), "cuda": ("reference",)}
BACKENDS = ("cpp", "cuda", "triton", "reference")
_DEVICES = {"cpu": "cpu", "cuda": "gpu"}  # in words: one of the backends is called cuda
_ELSEWHERE = ("reference",)


def backend(name: str) -> ModuleType:
    """The backend's module."""
    return importlib.import_module(f"anatomad.kernels.backends.{name}")


def forced() -> str | None:
    """The backend that the environment asks for.

    Raises:
        UsageError: it names none of ours.
    """
    name = os.environ.get(VARIABLE) or None
    if name is not None and name not in BACKENDS:
        raise UsageError(f"{VARIABLE}={name} names no backend; expected one of {', '.join(BACKENDS)}, or nothing")
    return name


def backend_for(operator: str, *tensors: Tensor) -> ModuleType:
    """The backend for this call.

    Raises:
        UsageError: the backend that the environment asks for cannot serve it.
    """
    name = forced()
    if name is not None:
        module = backend(name)
        if not module.supports(operator, *tensors):
            given = ", ".join(f"{t.dtype} {list(t.shape)} on {t.device}" for t in tensors)
            raise UsageError(
                f"{VARIABLE}={name} cannot run {operator} on {given} ({status(name)}); "
                f"unset {VARIABLE} to let anatomad choose"
            )
        return module
    names = ORDER.get(tensors[0].device.type, _ELSEWHERE)
    return next(module for module in map(backend, names) if module.supports(operator, *tensors))


def status(name: str) -> str:
    """What there is to say about a backend, in words."""
    return str(backend(name).status())


def info() -> dict[str, str]:
    """Every backend and its state, and which of them a tensor on each device meets first.

    Returns:
        One sentence per backend; under ``cpu`` and ``gpu`` the backends in the order they are asked, under ``forced``
        the backend that ``ANATOMAD_KERNELS`` names, if it names one.
    """
    result = {name: status(name) for name in BACKENDS}
    result |= {_DEVICES[device]: " > ".join(names) for device, names in ORDER.items()}
    name = forced()
    return result | ({"forced": name} if name else {})
