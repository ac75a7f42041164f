import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anatomad.models.closed_form import recouple
from anatomad.models.dal import DisentangledAnatomy
from anatomad.predict.decompose import DOUBT, RECOUPLINGS, TISSUES, Decomposition, decompose
from anatomad.preprocess.store import load_case
from tests.train.fold import tiny_plan, write_case


@pytest.fixture(params=[2, 3])
def networks(request: pytest.FixtureRequest) -> DisentangledAnatomy:
    torch.manual_seed(0)
    return DisentangledAnatomy(tiny_plan(dimension=request.param)).eval()


@pytest.fixture
def scan(tmp_path: Path) -> tuple[Tensor, Tensor]:
    write_case(tmp_path, "a", tiny_plan())
    case = load_case(tmp_path, "a")
    mask = torch.from_numpy(case.mask)
    image = torch.where(mask, torch.from_numpy(case.image[0]).float(), 0)
    image[5:7, 6:9, 5:8] *= 0.3  # left is not right
    return image, mask


def check(parts: Decomposition, mask: Tensor) -> None:
    for p in (parts.anatomy, parts.restored):
        assert p.shape == (3, *mask.shape)
        torch.testing.assert_close(p.sum(0), mask.float(), atol=1e-5, rtol=0)
        assert p.min() >= 0
    for name in RECOUPLINGS:
        answer = parts.recoupled[name]
        assert not answer.image[~mask].any()
        assert (answer.spread > 0).all()
        residual = parts.residual(name)
        assert not residual[~mask].any()
        torch.testing.assert_close(residual[mask], ((parts.image - answer.image) / answer.spread)[mask])


def test_what_comes_out(networks: DisentangledAnatomy, scan: tuple[Tensor, Tensor]) -> None:
    image, mask = scan
    parts = decompose(networks, image, mask, "float32")
    check(parts, mask)
    closed = recouple(image, parts.restored, mask)
    torch.testing.assert_close(parts.recoupled["closed form"].image, closed.image)
    assert not torch.equal(parts.recoupled["learned"].image, closed.image)
    assert parts.residual(TISSUES).abs().max() > 1e-3
    doubt = parts.residual(DOUBT)
    certain = parts.anatomy.amax(0) > 0.999
    assert not doubt[~mask].any()
    assert 0 <= doubt.min() < doubt.max() <= math.log(3) + 1e-5
    assert doubt[mask & certain].numel() == 0 or doubt[mask & certain].max() < 0.02
    p = parts.anatomy[:, mask].clamp(min=1e-12)
    torch.testing.assert_close(doubt[mask], -(p * p.log()).sum(0), atol=1e-5, rtol=1e-4)


def test_the_mirror_image_has_the_mirrored_answer(networks: DisentangledAnatomy, scan: tuple[Tensor, Tensor]) -> None:
    image, mask = scan
    parts = decompose(networks, image, mask, "float32")
    mirrored = decompose(networks, image.flip(0), mask.flip(0), "float32")
    assert (parts.anatomy - parts.anatomy.flip(1)).abs().max() > 1e-3
    torch.testing.assert_close(mirrored.anatomy.flip(1), parts.anatomy, atol=1e-4, rtol=0)
    torch.testing.assert_close(mirrored.restored.flip(1), parts.restored, atol=1e-4, rtol=0)
    for name in RECOUPLINGS:
        torch.testing.assert_close(
            mirrored.recoupled[name].image.flip(0), parts.recoupled[name].image, atol=1e-3, rtol=0
        )


def test_bfloat16_is_close(networks: DisentangledAnatomy, scan: tuple[Tensor, Tensor]) -> None:
    parts = decompose(networks, *scan, "bfloat16")
    check(parts, scan[1])
    exact = decompose(networks, *scan, "float32")
    assert parts.recoupled["closed form"].image.dtype == torch.float32
    assert (parts.anatomy - exact.anatomy).abs().mean() < 0.02
