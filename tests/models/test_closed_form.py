from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from anatomad.models.closed_form import imaging_of, recouple, regain

SHAPE = (16, 18, 16)
T1, T2 = (0.2, 0.55, 0.85), (1.1, 0.6, 0.4)


@dataclass
class Scene:
    tissue: Tensor
    mask: Tensor
    label: Tensor
    healthy: Tensor  # means times gain, without noise
    noise: Tensor
    gain: Tensor

    @property
    def image(self) -> Tensor:
        return self.healthy + self.noise


def scene(means: tuple[float, ...] = T1, bias: float = 0.0, noise: float = 0.02) -> Scene:
    generator = torch.Generator().manual_seed(0)
    lines = [torch.linspace(-1, 1, n) for n in SHAPE]
    x, y, z = torch.meshgrid(*lines, indexing="ij")
    radius = (x**2 + y**2 + z**2).sqrt()
    mask = radius < 0.98
    label = torch.randint(3, SHAPE, generator=generator)
    tissue = torch.nn.functional.one_hot(label, 3).movedim(-1, 0) * mask
    gain = 1 + bias * (0.6 * x - 0.4 * y + 0.5 * x * y - 0.3 * z**2)
    healthy = torch.tensor(means)[label] * gain * mask
    return Scene(tissue.float(), mask, label, healthy, noise * torch.randn(SHAPE, generator=generator) * mask, gain)


def worst(first: Tensor, second: Tensor, mask: Tensor) -> float:
    return float((first - second)[mask].abs().max())


@pytest.mark.parametrize("means", [T1, T2])
def test_known_means_come_back(means: tuple[float, ...]) -> None:
    s = scene(means)
    imaging = imaging_of(s.image, s.tissue, s.mask)
    torch.testing.assert_close(imaging.means, torch.tensor(means), atol=0.015, rtol=0)
    torch.testing.assert_close(imaging.spreads, torch.full((3,), 0.02), atol=0.004, rtol=0)
    result = recouple(s.image, s.tissue, s.mask)
    assert worst(result.image, s.healthy, s.mask) < 0.03
    assert not result.image[~s.mask].any()


@pytest.mark.parametrize("means", [T1, T2])
def test_a_low_order_bias_comes_back(means: tuple[float, ...]) -> None:
    s = scene(means, bias=0.3)
    assert s.gain[s.mask].std() > 0.05
    imaging = imaging_of(s.image, s.tissue, s.mask)
    assert worst(imaging.recouple(s.tissue, s.mask).image, s.healthy, s.mask) < 0.05
    assert (imaging.gain[~s.mask] == 1).all()
    ratio = (imaging.gain / s.gain)[s.mask]  # gain and means share a factor; their product does not
    assert ratio.std() / ratio.mean() < 0.01


@pytest.mark.parametrize("bias", [0.0, 0.2])
@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_lesion_of_a_tenth_of_the_brain_does_not_pull(value: float, bias: float) -> None:
    s = scene(bias=bias)
    lesion = torch.zeros_like(s.mask)
    lesion[2:9, 3:12, 3:9] = True
    lesion &= s.mask
    assert 0.09 < lesion.sum() / s.mask.sum() < 0.2
    image = torch.where(lesion, value, s.image)
    result = recouple(image, s.tissue, s.mask)
    assert worst(result.image, s.healthy, s.mask) < 0.06
    residual = ((image - result.image) / result.spread).abs()
    assert residual[lesion].median() > 5
    assert residual[s.mask & ~lesion].median() < 1.5


def test_doubt_between_tissues_widens_the_spread() -> None:
    s = scene()
    soft = torch.where(torch.arange(SHAPE[0]).view(1, -1, 1, 1) < 8, s.tissue, 0.5 * s.tissue + 0.5 / 3 * s.mask)
    imaging = imaging_of(s.image, soft, s.mask)
    result = imaging.recouple(soft, s.mask)
    sure, unsure = s.mask.clone(), s.mask.clone()
    sure[8:], unsure[:8] = False, False
    assert result.spread[unsure].mean() > 3 * result.spread[sure].mean()
    p, means = soft[:, unsure], imaging.means
    doubt = (p * (means[:, None] - means @ p) ** 2).sum(0)
    expected = ((imaging.spreads.square() @ p) + doubt).sqrt()
    torch.testing.assert_close(result.spread[unsure], expected, atol=1e-4, rtol=1e-3)


def test_an_absent_tissue_takes_the_whole_brain_and_stays_finite() -> None:
    s = scene()
    two = s.tissue.clone()
    two[0] += two[2]
    two[2] = 0
    imaging = imaging_of(torch.where(s.label == 2, s.healthy - 0.65, s.healthy), two, s.mask)
    assert imaging.recouple(two, s.mask).image.isfinite().all()
    torch.testing.assert_close(imaging.means[:2], torch.tensor([0.2, 0.55]), atol=0.02, rtol=0)


def test_regain_puts_the_bias_onto_a_drawn_image() -> None:
    s = scene(bias=0.3)
    start = imaging_of(s.image, s.tissue, s.mask)
    drawn = torch.tensor(T1)[s.label] * s.mask
    result = regain(s.image, drawn, s.tissue, s.mask, start)
    assert worst(drawn, s.healthy, s.mask) > 0.15
    assert worst(result.image, s.healthy, s.mask) < 0.03


@pytest.mark.parametrize("means", [T1, T2])
def test_distances_are_in_spreads_of_each_tissue_under_the_gain(means: tuple[float, ...]) -> None:
    s = scene(means, bias=0.2)
    apart = imaging_of(s.image, s.tissue, s.mask).distances(s.image)
    own = apart.gather(0, s.label[None])[0][s.mask]
    assert own.mean().abs() < 0.1
    assert own.std() == pytest.approx(1, abs=0.15)
    for k, mean in enumerate(means):
        expected = (s.healthy - mean * s.gain)[s.mask] / 0.02
        slope = (apart[k][s.mask] * expected).sum() / expected.square().sum()
        assert slope == pytest.approx(1, abs=0.15)


def test_another_anatomy_gets_the_same_imaging_information() -> None:
    s = scene(bias=0.2)
    shifted = s.tissue.roll(1, 0)
    result = imaging_of(s.image, s.tissue, s.mask).recouple(shifted, s.mask)
    expected = torch.tensor(T1).roll(-1)[s.label] * s.gain * s.mask
    assert worst(result.image, expected, s.mask) < 0.06
