"""Whether a backend equals the reference on the machine at hand: asked once per kind of call, on a piece of its input.

The kernels for GPUs are compiled for, and by, drivers and cards that their tests have not seen. So the first call of a
kind (operator, types, classes) is also made on a small piece of its own input by both; a backend that differs, or
fails, does not serve that kind in this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from anatomad.errors import ResourceError

_SIDE = 24  # voxels of the piece along each axis: more than a vector, a tile's border and an odd rest
_BATCH = 2
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}
_ODD_SHARE = 1e-3  # of values may lie elsewhere: rounding decides between classes that are as good as equal

Kind = tuple[Any, ...]

_log = logging.getLogger(__name__)
_found: dict[Kind, bool] = {}


def agrees(module: ModuleType, truth: ModuleType, operator: str, arguments: Sequence[Any]) -> bool:
    """Whether a backend gave, for the first call of this kind, what the reference gives.

    Args:
        module: The backend.
        truth: The reference.
        operator: Name of the function in both.
        arguments: Of the call at hand.

    Raises:
        ResourceError: the kernel left the GPU in a state in which nothing runs any more.
    """
    kind = (module.__name__, operator, *_kinds(arguments))
    if kind not in _found:
        if _capturing(arguments):  # what a graph records cannot be looked at
            return False
        _found[kind] = _compare(getattr(module, operator), getattr(truth, operator), kind, _piece(arguments))
    return _found[kind]


def disagreements(module: ModuleType) -> tuple[str, ...]:
    """Operators that a backend does not serve here."""
    return tuple(sorted({kind[1] for kind, good in _found.items() if kind[0] == module.__name__ and not good}))


def _kinds(arguments: Sequence[Any]) -> Iterator[Kind]:
    for value in arguments:
        if isinstance(value, Tensor):
            yield value.device, value.dtype, value.ndim, value.shape[1] if value.ndim > 1 else 0


def _capturing(arguments: Sequence[Any]) -> bool:
    on_gpu = any(isinstance(value, Tensor) and value.is_cuda for value in arguments)
    return on_gpu and torch.cuda.is_current_stream_capturing()


def _piece(arguments: Sequence[Any]) -> list[Any]:
    """The arguments with volumes cut to a few voxels, all in the same place; rows per sample too."""
    return [_cut(value) if isinstance(value, Tensor) and value.ndim > 1 else value for value in arguments]


def _cut(volume: Tensor) -> Tensor:
    for axis in range(2, volume.ndim):
        size = volume.shape[axis]
        side = min(size, _SIDE)
        volume = volume.narrow(axis, (size - side) // 2, side)
    return volume[:_BATCH].contiguous()


def _compare(ours: Callable[..., Any], theirs: Callable[..., Any], kind: Kind, arguments: Sequence[Any]) -> bool:
    try:
        expected = _volumes(theirs(*arguments))
    except IndexError:
        return True  # labels that no table holds: the call at hand says so itself
    try:
        given = _volumes(ours(*arguments))
        good = all(_close(a, b) for a, b in zip(given, expected, strict=True))
        reason = "its result differs from the reference"
    except Exception as error:  # noqa: BLE001  # whatever a kernel fails with, the reference can serve
        good, reason = False, f"{type(error).__name__}: {error}"
        _check_device(expected, kind, reason)
    if not good:
        _log.warning("%s does not serve %s here: %s", kind[0].rpartition(".")[2], kind[1], reason)
    return good


def _check_device(there: Sequence[Tensor], kind: Kind, reason: str) -> None:
    """Check that the device still works.

    Raises:
        ResourceError: it does not.
    """
    try:
        [volume.cpu() for volume in there]  # sums of uint16, say, are not there on every device
    except RuntimeError:
        name = kind[0].rpartition(".")[2]
        raise ResourceError(
            f"the {name} kernel of {kind[1]} failed and left the GPU unusable for this process ({reason}); start again "
            "with ANATOMAD_KERNELS=reference"
        ) from None


def _volumes(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _close(a: Tensor, b: Tensor) -> bool:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    tolerance = _TOLERANCE.get(a.dtype, 0.0)
    x, y = a.double(), b.double()
    scale = y[y.isfinite()].abs().max().clamp(min=1.0) if bool(y.isfinite().any()) else 1.0
    odd = ~torch.isclose(x, y, rtol=tolerance, atol=float(tolerance * scale), equal_nan=True)
    return int(odd.sum()) <= _ODD_SHARE * odd.numel()
