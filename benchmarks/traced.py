"""Memory of a step without the machine that could run it: the real code on fake tensors, every storage accounted for.

Fake tensors have shapes but no values. Where the code asks for a value, the answer is that of a patch half of which is
brain: masks choose half of what they cover, numbers are one. Only what torch's operators return is seen, not the
scratch space within them.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from anatomad.models import unet
from anatomad.models.dal import DisentangledAnatomy
from anatomad.planner.plan import Plan
from anatomad.predict.decompose import decompose
from anatomad.synth.deform import CaseVolumes
from anatomad.synth.draws import Draws
from anatomad.train.cases import Sample
from anatomad.train.learner import Learner
from anatomad.train.stages import STAGES

FILLED = 0.5
_aten = torch.ops.aten


class Account(TorchDispatchMode):
    """Bytes of all storages that are alive, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(  # type: ignore[override]
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = _ANSWERS.get(func, func)
        result = answer(*args, **kwargs or {})
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            size = storage.nbytes()
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _value(tensor: Tensor) -> Any:
    return True if tensor.dtype == torch.bool else 1.0 if tensor.dtype.is_floating_point else 1


def _nonzero(tensor: Tensor) -> Tensor:
    return tensor.new_empty((_chosen(tensor), tensor.ndim), dtype=torch.int64)


def _index(tensor: Tensor, indices: list[Tensor | None]) -> Tensor:
    masks = [index for index in indices if index is not None]
    if masks[0].dtype != torch.bool:
        return _aten.index.Tensor(tensor, indices)
    before = list(tensor.shape[: len(indices) - 1])
    return tensor.new_empty([*before, _chosen(masks[0]), *tensor.shape[len(before) + masks[0].ndim :]])


def _chosen(mask: Tensor) -> int:
    return max(1, int(mask.numel() * FILLED))


_ANSWERS: dict[Any, Callable[..., Any]] = {
    _aten._local_scalar_dense.default: _value,
    _aten.nonzero.default: _nonzero,
    _aten.index.Tensor: _index,
}


def _as_on_a_gpu(x: Tensor, *others: Any) -> Tensor:
    """Framework code, which autocast takes to float32."""
    return functional.silu(functional.group_norm(x.float(), *others), inplace=not torch.is_grad_enabled())


@contextmanager
def _accounted(device: str) -> Iterator[Account]:
    numbers = random.Random(0)
    account = Account()
    norm = _as_on_a_gpu if device == "gpu" else unet.group_norm_silu
    with (
        mock.patch.object(unet, "group_norm_silu", norm),
        mock.patch.object(Draws, "uniform", lambda _, low, high: numbers.uniform(low, high)),
        mock.patch.object(Draws, "integer", lambda _, low, high: numbers.randint(low, high)),
        FakeTensorMode(),
        account,
    ):
        yield account


def step_peaks(plan: Plan, precision: str, device: str = "cpu", steps: int = 2) -> dict[str, int]:
    """Peak bytes of a training step, by stage; the first step also makes the optimiser's state.

    Training keeps a copy of its last good state, and so does this.
    """
    peaks = {}
    for stage in STAGES:
        with _accounted(device) as account:
            learner = Learner(DisentangledAnatomy(plan), stage, plan, steps, precision)
            samples = [_sample(plan, number) for number in range(plan.batch_size)]
            good: list[dict[str, Tensor]] = []
            for number in range(steps):
                good[:] = [learner.tensors()]
                account.peak = account.now
                learner.step(samples, number)
            peaks[stage.name] = account.peak
    return peaks


def prediction_peak(plan: Plan, precision: str, device: str = "cpu") -> int:
    """Peak bytes while a scan of the plan's box is taken apart."""
    with _accounted(device) as account:
        networks = DisentangledAnatomy(plan).eval().requires_grad_(False)
        mask = torch.ones(plan.box, dtype=torch.bool)
        decompose(networks, torch.rand(plan.box), mask, precision)
        return account.peak


def _sample(plan: Plan, number: int) -> Sample:
    high = torch.tensor(plan.box).float() - 1
    volumes = CaseVolumes(torch.rand(len(plan.tissues), *plan.box), torch.zeros(3), high)
    return Sample(f"case{number}", volumes, Draws(number))
