import pytest
import torch

from anatomad.synth.blocks import BLOCK_MM, chequered


def test_neighbouring_blocks_differ_along_every_axis() -> None:
    side = int(BLOCK_MM / 3)
    pattern = chequered((4 * side, 4 * side, 4 * side), (3.0, 3.0, 3.0), torch.device("cpu"))
    for axis in range(3):
        first, second = pattern.narrow(axis, 0, side), pattern.narrow(axis, side, side)
        assert torch.equal(first, ~second)
        assert torch.equal(first, pattern.narrow(axis, 2 * side, side))
    assert pattern[:side, :side, :side].all()


@pytest.mark.parametrize("offset", [0.0, 7.5, BLOCK_MM, 30.0])
def test_an_offset_moves_the_pattern(offset: float) -> None:
    spacing = 1.5
    moved = chequered((40, 1, 1), (spacing,) * 3, torch.device("cpu"), (offset, 0.0, 0.0))
    longer = chequered((80, 1, 1), (spacing,) * 3, torch.device("cpu"))
    start = round(offset / spacing)
    assert torch.equal(moved, longer[start : start + 40])


def test_blocks_are_as_wide_in_mm_along_every_axis() -> None:
    blocks = chequered((40, 20, 10), (1.5, 3.0, 9.0), torch.device("cpu"))
    assert blocks.shape == (40, 20, 10)
    for axis, wide in enumerate((12, 6, 2)):
        line = blocks[tuple(slice(None) if a == axis else 0 for a in range(3))]
        assert line.tolist() == [(k // wide) % 2 == 0 for k in range(len(line))]
    assert (blocks[:12, 0, 0] != blocks[:12, 6, 0]).all()
