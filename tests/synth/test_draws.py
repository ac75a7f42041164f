import numpy as np
import pytest
import torch
from scipy import ndimage

from anatomad.synth.draws import Draws, gaussian_blur


def sequence(draws: Draws) -> list[float]:
    numbers = [draws.uniform(-1, 1), float(draws.integer(0, 1000)), float(draws.chance(0.5))]
    return (
        numbers
        + draws.normal(3).tolist()
        + draws.rand(2).tolist()
        + draws.field((4, 4, 4), (2, 2, 2)).flatten().tolist()
    )


def test_draws_are_a_function_of_their_keys() -> None:
    assert sequence(Draws(1, "anatomy", 7)) == sequence(Draws(1, "anatomy", 7))
    keys: list[tuple[int | str, ...]] = [
        (1, "a", 7),
        (1, "a", 8),
        (2, "a", 7),
        (1, "b", 7),
        (12, 3),
        (1, 23),
        (1, 2, 3),
    ]
    assert len({tuple(sequence(Draws(*key))) for key in keys}) == len(keys)


def test_draws_of_others_change_nothing() -> None:
    alone = sequence(Draws("x"))
    state = torch.get_rng_state()
    mine, other = Draws("x"), Draws("y")
    torch.rand(5)
    sequence(other)
    np.random.default_rng().normal()
    assert sequence(mine) == alone
    torch.set_rng_state(state)
    sequence(Draws("x"))
    assert torch.equal(torch.get_rng_state(), state)


def test_numbers_do_not_move_tensors() -> None:
    # a GPU draws other tensors than a CPU, but the same numbers
    first, second = Draws(3), Draws(3)
    for _ in range(10):
        first.uniform(0, 1)
    assert torch.equal(first.normal(4), second.normal(4))
    third = Draws(3)
    third.rand(100)
    assert third.uniform(0, 1) == Draws(3).uniform(0, 1)


def test_ranges() -> None:
    draws = Draws("ranges")
    numbers = [draws.uniform(2, 5) for _ in range(500)]
    assert 2 <= min(numbers) < 2.1
    assert 4.9 < max(numbers) < 5
    assert {draws.integer(-1, 2) for _ in range(100)} == {-1, 0, 1, 2}
    assert sum(draws.chance(0.2) for _ in range(2000)) == pytest.approx(400, abs=80)
    normal = draws.normal(20, 20, 20)
    assert float(normal.mean()) == pytest.approx(0, abs=0.05)
    assert float(normal.std()) == pytest.approx(1, abs=0.05)
    assert 0 <= float(draws.rand(1000).min()) < float(draws.rand(1000).max()) < 1


def test_a_field_interpolates_its_cells() -> None:
    field = Draws("f").field((9, 9, 9), (3, 1, 3), channels=2)
    assert field.shape == (2, 9, 9, 9)
    coarse = Draws("f").normal(1, 2, 3, 2, 3)[0]
    torch.testing.assert_close(field[:, ::4, ::8, ::4], coarse)
    torch.testing.assert_close(field[:, 2, 0, 0], (coarse[:, 0, 0, 0] + coarse[:, 1, 0, 0]) / 2)


def test_blur_against_scipy() -> None:
    volume = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 12, 13, 14)))
    result = gaussian_blur(volume, (1.5, 0.0, 0.8))
    for channel in range(2):
        expected = ndimage.gaussian_filter(volume[0, channel].numpy(), (1.5, 0, 0.8), mode="constant", radius=(5, 0, 2))
        np.testing.assert_allclose(result[0, channel].numpy(), expected, atol=1e-9)
