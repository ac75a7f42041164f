from itertools import permutations, product

import numpy as np
import pytest

from anatomad.planner.anatomy import atlas_at, detail, in_cube, pose, settle, turned
from tests.planner import brains

SPACING = (2.0, 2.0, 2.0)
TURNS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


@pytest.fixture(scope="module")
def cube() -> tuple[np.ndarray, np.ndarray]:
    data = brains.brain()
    place, _ = settle(np.argwhere(data > 0) * 2.0)
    return in_cube(data, data > 0, SPACING, place)


@pytest.mark.parametrize("turn", TURNS)
def test_every_turn_is_recognised(cube: tuple[np.ndarray, np.ndarray], turn: tuple[tuple, tuple]) -> None:
    found = pose(*(turned(volume, *turn) for volume in cube))
    order, signs = turn
    # Axis i of the turned cube is axis order[i] of the brain; the sign of left and right is not to be known.
    expected = "".join(("RL", "AP", "SI")[axis][sign < 0] for axis, sign in zip(order, signs, strict=True))
    assert found.axes.replace("L", "R") == expected.replace("L", "R")
    assert (found.margin > 0) == (found.axes == "RAS")


def test_atlas_lies_on_a_brain_of_another_size() -> None:
    data = brains.brain()
    points = np.argwhere(data > 0) * np.array([1.7, 2.2, 2.0])
    place, prior = settle(points)
    assert prior.sum(1) == pytest.approx(1.0, abs=1e-5)
    assert (prior[:, 0] < 0.5).mean() > 0.97
    assert atlas_at(place.centre[None] + 500, place)[0] == pytest.approx((1, 0, 0, 0))


def test_what_hangs_on_does_not_move_the_atlas() -> None:
    data = brains.with_neck(brains.brain())
    clean, _ = settle(np.argwhere(brains.brain() > 0) * 2.0)
    necked, _ = settle(np.argwhere(data > 0) * 2.0)
    assert necked.centre == pytest.approx(clean.centre, abs=2.0)


def test_detail_is_a_persons_own() -> None:
    def of(person: int, seed: int) -> np.ndarray:
        data = brains.brain(person=person, seed=seed)
        place, _ = settle(np.argwhere(data > 0) * 2.0)
        return detail(*in_cube(data, data > 0, SPACING, place)).astype(float)

    first, again, other = of(1, 0), of(1, 5), of(2, 0)
    assert np.corrcoef(first, again)[0, 1] > 0.97
    assert np.corrcoef(first, other)[0, 1] < 0.8
