"""A backend that was never seen on this machine serves where it agrees with the reference, and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from anatomad.errors import ResourceError
from anatomad.kernels import _agreement, _select, argmax_edges, contrast, info, label_map, one_hot_argmax, sobel
from anatomad.kernels._ops import OPERATORS
from anatomad.kernels.backends import reference
from tests.kernels.cases import patches
from tests.kernels.test_registration import ARGUMENTS

X = patches(3, 4, 30, 9, 31)


class Card:
    """Stands for the backend ``cuda`` on the CPU; counts its calls and how large they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **wrong: Callable[..., Any]) -> None:
        self.calls: list[tuple[str, int]] = []
        self.module = ModuleType("anatomad.kernels.backends.cuda")
        self.module.supports = lambda operator, *tensors: True  # type: ignore[attr-defined]
        self.module.status = lambda: "ready (made up)"  # type: ignore[attr-defined]
        for operator in OPERATORS:
            setattr(self.module, operator, self._noted(operator, wrong.get(operator, getattr(reference, operator))))
        found = _select.backend
        monkeypatch.setattr(_select, "backend", lambda name: self.module if name == "cuda" else found(name))
        monkeypatch.setitem(_select.ORDER, "cpu", ("cuda", "reference"))
        monkeypatch.setattr(_agreement, "_found", {})

    def _noted(self, operator: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            self.calls.append((operator, arguments[0].numel()))
            return run(*arguments)

        return noted


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_agrees_serves_after_one_look_at_a_piece(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    for _ in range(3):
        getattr(torch.ops.anatomad, operator)(*ARGUMENTS[operator])
    assert [name for name, _ in card.calls] == [operator] * 4
    assert "not for" not in info()["cuda"]


def test_the_look_is_at_a_piece_of_every_kind_of_call(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    label_map(X)
    label_map(X)
    assert [size for _, size in card.calls] == [2 * 4 * 24 * 9 * 24, X.numel(), X.numel()]
    label_map(X.bfloat16())
    label_map(X[:, :3])
    assert len(card.calls) == 7


def one_wrong(x: Tensor) -> Tensor:
    result = reference.label_map(x)
    result[..., 0] += 1
    return result


def failing(*_: Any) -> Tensor:
    raise RuntimeError("no kernel image is available")


WRONG: list[tuple[str, Callable[..., Any], Callable[[], Tensor], str]] = [
    ("label_map", one_wrong, lambda: label_map(X), "its result differs from the reference"),
    ("label_map", failing, lambda: label_map(X), "RuntimeError: no kernel image is available"),
    ("label_map", lambda x: reference.label_map(x).int(), lambda: label_map(X), "differs"),
    (
        "one_hot_argmax",
        lambda x, t, g: reference.one_hot_argmax(x, t, 1),
        lambda: one_hot_argmax(X, gumbel_seed=2),
        "differs",
    ),
    (
        "argmax_edges",
        lambda x, w, t: (reference.argmax_edges(x, w, t)[0] * 1.01, reference.label_map(x)),
        lambda: argmax_edges(X, (1.0, 1.0, 1.0)),
        "differs",
    ),
    ("sobel", lambda x, w, e: torch.full_like(x, float("nan")), lambda: sobel(X, (1.0, 1.0, 1.0)), "differs"),
]


@pytest.mark.parametrize(("operator", "wrong", "call", "reason"), WRONG)
def test_what_differs_or_fails_does_not_serve(
    operator: str,
    wrong: Callable[..., Any],
    call: Callable[[], Tensor],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(_select.VARIABLE, "reference")
    expected = call()
    monkeypatch.delenv(_select.VARIABLE)
    card = Card(monkeypatch, **{operator: wrong})
    with caplog.at_level(logging.WARNING):
        results = [call() for _ in range(2)]
    assert all(torch.equal(result, expected) for result in results)
    assert [name for name, _ in card.calls] == [operator]
    (record,) = caplog.records
    assert f"cuda does not serve {operator} here" in record.getMessage()
    assert reason in record.getMessage()
    assert info()["cuda"].endswith(f"not for {operator}, where it differs from the reference")


def test_a_forced_backend_is_not_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch, label_map=one_wrong)
    monkeypatch.setenv(_select.VARIABLE, "cuda")
    label_map(X)
    assert len(card.calls) == 1


def test_labels_beyond_the_table_are_refused_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch)
    with pytest.raises(IndexError, match="the number of means; got 3"):
        contrast(torch.full((1, 1, 4, 4), 3, dtype=torch.uint8), torch.zeros(2), torch.zeros(2), 0)


def test_a_kernel_that_breaks_the_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def cpu(self) -> Tensor:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    Card(monkeypatch, label_map=failing)
    monkeypatch.setattr(_agreement, "_volumes", lambda result: (Broken(),))
    with pytest.raises(
        ResourceError, match=r"cuda kernel of label_map failed .*start again with ANATOMAD_KERNELS=refer"
    ):
        label_map(X)


def test_rows_per_sample_are_cut_with_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    card, shares = Card(monkeypatch), torch.softmax(X, 1)
    rows = torch.linspace(0, 1, 12).view(3, 4)
    image = contrast(shares, rows, rows / 10, 5)
    assert image.shape == (3, 1, *X.shape[2:])
    assert [size for _, size in card.calls] == [2 * 4 * 24 * 9 * 24, X.numel()]
