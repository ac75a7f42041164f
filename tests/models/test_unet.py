import pytest
import torch

from anatomad.models.unet import Layout, UNet


def layout(dimension: int, features: tuple[int, ...]) -> Layout:
    kernel, stride = ((3, 3, 3), (2, 2, 2)) if dimension == 3 else ((3, 3, 1), (2, 2, 1))
    return Layout(dimension, features, (kernel,) * len(features), ((1, 1, 1), *(stride,) * (len(features) - 1)))


def make(dimension: int, features: tuple[int, ...] = (4, 8)) -> UNet:
    torch.manual_seed(0)
    return UNet(2, 3, layout(dimension, features)).eval()


def test_2d_slices_are_on_their_own() -> None:
    net, volume = make(2), torch.randn(2, 2, 8, 12, 5)
    with torch.no_grad():
        whole = net(volume)
        for z in range(5):
            torch.testing.assert_close(whole[..., z], net(volume[..., z : z + 1])[..., 0], atol=1e-5, rtol=1e-5)
        changed = volume.clone()
        changed[..., 3] += 1
        moved = (net(changed) - whole).abs().amax((0, 1, 2, 3))
    assert moved[3] > 0.01
    assert moved[[0, 1, 2, 4]].max() < 1e-5


def test_3d_looks_across_slices() -> None:
    net, volume = make(3), torch.randn(1, 2, 8, 8, 8)
    changed = volume.clone()
    changed[..., 3] += 1
    with torch.no_grad():
        moved = (net(changed) - net(volume)).abs().amax((0, 1, 2, 3))
    assert moved.min() > 1e-4


@pytest.mark.parametrize(
    ("dimension", "features", "shape"), [(2, (4, 8, 8), (8, 12, 3)), (3, (4, 8, 8), (8, 12, 4)), (3, (4, 8), (2, 4, 6))]
)
def test_shape_is_kept_and_every_weight_learns(
    dimension: int, features: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    net = make(dimension, features).train()
    result = net(torch.randn(2, 2, *shape))
    assert result.shape == (2, 3, *shape)
    result.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_cases_of_a_batch_are_on_their_own() -> None:
    net, volume = make(3), torch.randn(2, 2, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(net(volume)[1:], net(volume[1:]), atol=1e-5, rtol=1e-5)
