"""Tiles cover the brain, are of the trained size, and blend into what the network says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anatomad.models.tiling import tiled


def _brain(shape: tuple[int, int, int], low: tuple[int, int, int], high: tuple[int, int, int]) -> Tensor:
    mask = torch.zeros(1, 1, *shape, dtype=torch.bool)
    mask[0, 0, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    return mask


@pytest.mark.parametrize(
    ("low", "high"), [((0, 0, 0), (20, 24, 20)), ((3, 5, 2), (9, 20, 13)), ((18, 22, 18), (20, 24, 20))]
)
def test_pointwise_network_comes_back_unchanged_in_the_brain(
    low: tuple[int, int, int], high: tuple[int, int, int]
) -> None:
    volume = torch.randn(1, 2, 20, 24, 20, generator=torch.Generator().manual_seed(0))
    mask = _brain((20, 24, 20), low, high)
    answer = tiled(lambda tile: 2 * tile + 1, volume, mask, (8, 8, 8))
    inside = mask.expand_as(volume)
    torch.testing.assert_close(answer[inside], (2 * volume + 1)[inside])


def test_every_tile_has_the_trained_size() -> None:
    seen: list[tuple[int, ...]] = []

    def network(tile: Tensor) -> Tensor:
        seen.append(tuple(tile.shape[2:]))
        return tile

    tiled(network, torch.zeros(1, 1, 20, 24, 20), _brain((20, 24, 20), (1, 1, 1), (19, 23, 19)), (8, 16, 8))
    assert len(seen) > 1
    assert set(seen) == {(8, 16, 8)}


def test_neighbouring_tiles_blend_instead_of_jumping() -> None:
    count = iter(range(100))

    def network(tile: Tensor) -> Tensor:
        return torch.full_like(tile, float(next(count)))

    answer = tiled(network, torch.zeros(1, 1, 14, 8, 8), _brain((14, 8, 8), (0, 0, 0), (14, 8, 8)), (8, 8, 8))
    line = answer[0, 0, :, 4, 4]
    assert line[0] == 0
    assert line[-1] == 1
    assert (line.diff() >= 0).all()
    assert line.diff().max() < 0.6
