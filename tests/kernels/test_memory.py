"""Memory of large results on the CPU: kept for the next result, never shared by two."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anatomad import kernels
from anatomad.kernels._select import VARIABLE
from anatomad.kernels.backends import cpp
from tests.kernels.cases import normal

pytestmark = pytest.mark.skipif(not kernels.info()["cpp"].startswith("ready"), reason="the C++ operators are not built")
LARGE = (1, 4, 64, 72, 64)  # 4.5 MiB
SPACING = (1.0, 1.0, 1.0)
STATE = Path("/proc/self/statm")


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cpp")


def test_a_result_takes_the_memory_of_one_that_is_gone() -> None:
    x = normal(*LARGE)
    first = kernels.one_hot_argmax(x)
    address = first.data_ptr()
    del first
    assert kernels.one_hot_argmax(x).data_ptr() == address


def test_results_that_are_in_use_share_nothing() -> None:
    inputs = [normal(*LARGE, seed=seed) for seed in range(4)]
    results = [kernels.one_hot_argmax(x) for x in inputs]
    assert len({r.data_ptr() for r in results}) == len(results)
    for x, result in zip(inputs, results, strict=True):
        assert torch.equal(result.argmax(1), x.argmax(1))


def test_a_view_keeps_its_memory() -> None:
    view = kernels.one_hot_argmax(normal(*LARGE))[:, 1, :3]
    kept = view.clone()
    assert kernels.one_hot_argmax(normal(*LARGE, seed=1)).data_ptr() != view.untyped_storage().data_ptr()
    assert torch.equal(view, kept)


def test_gradients_are_those_of_small_pieces() -> None:
    x = normal(*LARGE).requires_grad_()
    kernels.edge_magnitude(x, SPACING).sum().backward()
    piece = x.detach()[:, :, :9].clone().requires_grad_()
    kernels.edge_magnitude(piece, SPACING).sum().backward()
    assert x.grad is not None
    assert piece.grad is not None
    assert torch.equal(x.grad[:, :, :7], piece.grad[:, :, :7])


def test_threads_that_work_side_by_side() -> None:
    inputs = [normal(*LARGE, seed=seed) for seed in range(4)]
    expected = [kernels.label_map(x) for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            result: Tensor = kernels.one_hot_argmax(inputs[number])
            if not torch.equal(kernels.label_map(result), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_every_level_writes_the_same_bits_past_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    x, found = normal(1, 1, 83, 157, 176), []
    for level in cpp._native().levels():
        monkeypatch.setattr(cpp, "_level", lambda level=level: level)
        found.append(kernels.sobel(x, SPACING))
    assert all(torch.equal(each, found[0]) for each in found)


def test_large_results_begin_a_page() -> None:
    for extra in range(3):
        assert kernels.one_hot_argmax(normal(1, 4, 64 + extra, 73, 67)).data_ptr() % 2**21 == 0


@pytest.mark.parametrize("shape", [(90, 160, 160), (83, 157, 163), (1600, 1500), (2_000_001, 3)])
def test_what_is_written_past_the_cache_is_all_there(shape: tuple[int, ...]) -> None:
    x, spacing = normal(1, 1, *shape), (1.0,) * len(shape)  # more than 8 MiB
    whole = kernels.sobel(x, spacing)
    piece = kernels.sobel(x[:, :, :40].contiguous(), spacing)
    assert torch.equal(whole[:, :, :39], piece[:, :, :39])
    end = kernels.sobel(x[:, :, -40:].contiguous(), spacing)
    assert torch.equal(whole[:, :, -39:], end[:, :, -39:])
    start = shape[0] // 2
    middle = kernels.sobel(x[:, :, start : start + 40].contiguous(), spacing)
    assert torch.equal(whole[:, :, start + 1 : start + 39], middle[:, :, 1:-1])


@pytest.mark.skipif(not STATE.exists(), reason="this system does not say how much memory is in use")
def test_what_is_kept_is_bounded() -> None:
    before = resident()
    for extra in range(40):  # of 40 sizes, 2.4 GiB together
        kernels.sobel(torch.zeros(1, 1, 250 + extra, 250, 250), SPACING)
    assert resident() - before < 1.4 * 2**30  # 1 GiB is kept, and the last is in use


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(STATE.read_text().split()[1]) * resource.getpagesize()
