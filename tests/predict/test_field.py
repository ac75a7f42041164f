import numpy as np
import torch

from anatomad.predict.field import CELLS, field_at, measure_field, position_in_brain
from anatomad.predict.score import Evidence, inner
from tests.predict.world import decomposition

SHAPE = (40, 44, 40)
MASK = torch.zeros(SHAPE, dtype=torch.bool)
MASK[3:37, 4:41, 2:39] = True
SPACING = (4.0, 4.0, 4.0)
RIM = (1, 1, 1)


def uneven(seed: int, gain: float = 1.0) -> torch.Tensor:
    """Noise that is three times as large in the lower third of the brain."""
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    low = torch.zeros(SHAPE)
    low[..., :14] = 1
    return gain * noise.abs() * (1 + 2 * low) * MASK


def fitted(*volumes: torch.Tensor) -> tuple[float, ...]:
    places = position_in_brain(MASK)[:, MASK]
    return measure_field([v[MASK].numpy() for v in volumes], [places] * len(volumes))


def test_a_field_says_where_residuals_are_large_whatever_a_scans_own_size() -> None:
    field = fitted(*(uneven(k, gain=1 + 20 * k) for k in range(12)))
    assert len(field) == np.prod(CELLS)
    values = field_at(field, position_in_brain(MASK))
    assert values.shape == SHAPE
    low, high = values[10:30, 10:30, 5:10].mean(), values[10:30, 10:30, 24:36].mean()
    assert 2.3 < low / high < 3.5
    inside = values[MASK]
    assert abs(float(inside.square().mean()) - 1) < 0.15


def test_even_residuals_give_an_even_field() -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).abs()
    values = field_at(fitted(noise), position_in_brain(MASK))[MASK]
    assert 0.9 < values.min() < values.max() < 1.1


def test_a_few_voxels_leave_a_cell_near_one() -> None:
    places = torch.zeros(3, 5)
    field = measure_field([np.array([9.0, 9, 9, 9, 9], np.float32)], [places])
    assert 0.9 < min(field) <= max(field) < 1.1


def test_a_field_lies_in_the_brain_box() -> None:
    cells = torch.zeros(CELLS)
    cells[0] = 2.0
    field = tuple(cells.flatten().tolist())
    for shift in (0, 5):
        mask = MASK.roll(shift // 2, 0)
        values = field_at(field, position_in_brain(mask))
        left = mask.nonzero()[:, 0].min()
        assert (values[left, 20, 20] == 2).all()
        assert (values[left + 10 :][mask[left + 10 :]] == 0).all()


def test_a_score_is_read_over_its_field() -> None:
    residual = uneven(7)
    parts = decomposition(residual, MASK)
    field = fitted(*(uneven(k) for k in range(12)))
    plain = Evidence(kind="learned", smoothing_mm=(0.0,), units=(2.0,))
    over = plain.model_copy(update={"fields": (field,)})
    expected = plain.of(parts, SPACING, inner(MASK, RIM)) / field_at(field, position_in_brain(MASK))
    torch.testing.assert_close(over.of(parts, SPACING, inner(MASK, RIM)), expected)
    for score, ratio in ((plain, (2.7, 3.3)), (over, (0.9, 1.25))):
        values = score.of(parts, SPACING, inner(MASK, RIM))
        low, high = values[10:30, 10:30, 5:10].mean(), values[10:30, 10:30, 24:36].mean()
        assert ratio[0] < low / high < ratio[1]
