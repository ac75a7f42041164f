"""The operators under DistributedDataParallel: two processes that share a batch learn what one would."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from anatomad.kernels import argmax_edges, edge_magnitude, one_hot_argmax
from tests.kernels.cases import normal

PROCESSES = 2
SPACING = (1.0, 1.0, 1.0)


class Edges(nn.Module):
    """A convolution, the anatomy that it sees, and its edges."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Conv3d(1, 4, 3, padding=1)
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                parameter.copy_(normal(*parameter.shape, seed=number))

    def forward(self, image: Tensor) -> Tensor:
        logits = self.logits(image)
        hard = (one_hot_argmax(logits, 0.7) * logits).mean()
        result: Tensor = hard + edge_magnitude(logits, SPACING).mean() + argmax_edges(logits, SPACING).mean()
        return result


def gradients_of(rank: int, folder: Path) -> None:
    """One process: its share of the batch, and the gradient that all agree on."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES)
    torch.save(shared_gradients(images().chunk(PROCESSES)[rank]), folder / f"{rank}.pt")
    # Not while a model lives: the last to hold the group would then end it with Python's lock held, which the
    # group's own thread may be waiting for.
    distributed.destroy_process_group()


def shared_gradients(share: Tensor) -> list[Tensor | None]:
    model = DistributedDataParallel(Edges())
    model(share).backward()
    return [p.grad for p in model.module.parameters()]


def images() -> Tensor:
    return normal(2 * PROCESSES, 1, 6, 7, 8, seed=9)


def test_two_processes_learn_what_one_would(tmp_path: Path) -> None:
    alone = Edges()
    alone(images()).backward()
    multiprocessing.spawn(gradients_of, (tmp_path,), PROCESSES)
    for rank in range(PROCESSES):
        for found, parameter in zip(torch.load(tmp_path / f"{rank}.pt"), alone.parameters(), strict=True):
            torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-6)
