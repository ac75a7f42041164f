"""Which backend runs a call: the first of its device that can serve it, or the one that ``ANATOMAD_KERNELS`` names."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import Tensor

from anatomad.errors import UsageError
from anatomad.kernels._agreement import agrees, disagreements

VARIABLE = "ANATOMAD_KERNELS"
ORDER = {"cpu": ("cpp", "reference"), "cuda": ("cuda", "triton", "reference")}
BACKENDS = ("cpp", "cuda", "triton", "reference")
_PROVEN_HERE = ("cuda", "triton")  # serve unasked where they agree with the reference on this very machine
_DEVICES = {"cpu": "cpu", "cuda": "gpu"}  # in words: one of the backends is called cuda
_ELSEWHERE = ("reference",)


@functools.cache
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


def backend_for(operator: str, *arguments: Any) -> ModuleType:
    """The backend for this call.

    Raises:
        UsageError: the backend that the environment asks for cannot serve it.
        ResourceError: see :func:`anatomad.kernels._agreement.agrees`.
    """
    tensors = [a for a in arguments if isinstance(a, Tensor)]
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
    able = (name for name in names if backend(name).supports(operator, *tensors))
    return backend(next(name for name in able if _proven(name, operator, arguments)))


def _proven(name: str, operator: str, arguments: Sequence[Any]) -> bool:
    return name not in _PROVEN_HERE or agrees(backend(name), backend("reference"), operator, arguments)


def status(name: str) -> str:
    """What there is to say about a backend, in words."""
    odd = disagreements(backend(name))
    told = str(backend(name).status())
    return f"{told}; not for {', '.join(odd)}, where it differs from the reference" if odd else told


def serving(device: str) -> str:
    """The backend that a call on a kind of device meets first, and its state: ``cpp, x86-64-v4``."""
    names = (forced(),) if forced() else ORDER.get(device, _ELSEWHERE)
    states = {name: status(name) for name in names if name}
    name = next(name for name, state in states.items() if state.startswith("ready") or name == forced())
    return f"{name}, {states[name].removeprefix('ready (').partition(')')[0]}"


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
