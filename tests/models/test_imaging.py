import numpy as np
import pytest
import torch

from anatomad.models.imaging import MIN_VOXELS, ImagingEncoder, RecouplingDecoder, tissue_quantiles

SHAPE = (16, 16, 16)


def scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, (1, 1, *SHAPE))
    image = np.choose(label, [5.0, 0.2, 0.5, 0.8]) + rng.normal(0, 0.05, label.shape)
    return torch.from_numpy(image).float(), torch.from_numpy(label).to(torch.uint8)


def test_quartiles_against_numpy() -> None:
    image, label = scene()
    result = tissue_quantiles(image, label, 4)
    expected = [np.quantile(image.numpy()[label.numpy() == k], (0.25, 0.5, 0.75)) for k in (1, 2, 3)]
    np.testing.assert_allclose(result[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_quartiles_of_a_large_volume_are_read_in_all_of_its_planes(axis: int) -> None:
    shape = (1, 1, 80, 104, 80)
    ramp = torch.linspace(0, 1, shape[axis]).view([-1 if a == axis else 1 for a in range(5)]).expand(shape)
    result = tissue_quantiles(ramp, torch.ones(shape, dtype=torch.uint8), 2)
    torch.testing.assert_close(result[0, 0], torch.tensor([0.25, 0.5, 0.75]), atol=0.01, rtol=0)


def test_each_of_a_batch_has_its_own() -> None:
    pairs = [scene(seed) for seed in (1, 2)]
    both = tissue_quantiles(
        torch.cat([p[0] for p in pairs]) * torch.tensor([1, 2]).view(2, 1, 1, 1, 1), torch.cat([p[1] for p in pairs]), 4
    )
    for row, (image, label), factor in zip(both, pairs, (1, 2), strict=True):
        torch.testing.assert_close(row, tissue_quantiles(image * factor, label, 4)[0])


def test_a_rare_tissue_takes_the_whole_brain_and_no_brain_gives_zero() -> None:
    image, label = scene()
    label[label == 2] = 3
    label.view(-1)[torch.nonzero(label.view(-1) == 1)[: MIN_VOXELS - 1, 0]] = 2
    result = tissue_quantiles(image, label, 4)[0]
    brain = np.quantile(image.numpy()[label.numpy() > 0], (0.25, 0.5, 0.75))
    np.testing.assert_allclose(result[1].numpy(), brain, atol=1e-6)
    assert not np.allclose(result[0].numpy(), brain, atol=1e-2)
    assert not tissue_quantiles(image, torch.zeros_like(label), 4).any()


def test_a_lesion_of_less_than_a_quarter_moves_quartiles_by_a_bounded_amount() -> None:
    image, label = scene()
    own = image[label == 2]
    for value in (1e3, -1e3):
        lesioned = image.clone()
        chosen = torch.nonzero(label.view(-1) == 2)[:, 0]
        lesioned.view(-1)[chosen[: int(0.2 * len(chosen))]] = value
        moved = tissue_quantiles(lesioned, label, 4)[0]
        # whatever the lesion's value, all quartiles stay within what healthy voxels of the tissue hold
        assert own.min() <= moved[1].min()
        assert moved[1].max() <= own.max()
        assert (moved[1, 1] - own.median()).abs() < 0.03
        torch.testing.assert_close(moved[[0, 2]], tissue_quantiles(image, label, 4)[0, [0, 2]])


def test_the_code_has_no_spatial_extent() -> None:
    torch.manual_seed(0)
    encoder, (image, label) = ImagingEncoder(4), scene()
    order = torch.randperm(16**3, generator=torch.Generator().manual_seed(0))
    shuffled, moved = (v.flatten()[order].view_as(v) for v in (image, label))
    code = encoder(tissue_quantiles(image, label, 4))
    assert code.shape == (1, ImagingEncoder.code)
    torch.testing.assert_close(code, encoder(tissue_quantiles(shuffled, moved, 4)))
    assert (code - encoder(tissue_quantiles(1 - image, label, 4))).abs().max() > 1e-3


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_code_modulates_the_decoder(dimension: int) -> None:
    torch.manual_seed(0)
    decoder = RecouplingDecoder(4, dimension)
    torch.nn.init.normal_(decoder.head.weight)
    anatomy, position = torch.rand(1, 4, 4, 4, 4), torch.rand(1, 3, 4, 4, 4)
    quantiles = torch.rand(1, 3, 3)
    images = [decoder(anatomy, position, quantiles, torch.full((1, 8), value)) for value in (0.0, 1.0)]
    assert images[0].shape == (1, 1, 4, 4, 4)
    assert (images[0] - images[1]).abs().max() > 1e-3
    brighter = decoder(anatomy, position, quantiles + 0.1, torch.zeros(1, 8))
    torch.testing.assert_close(brighter - images[0], 0.1 * anatomy[:, 1:].sum(1, keepdim=True), atol=1e-5, rtol=1e-5)


def test_a_2d_decoder_draws_slices_on_their_own() -> None:
    torch.manual_seed(0)
    decoder = RecouplingDecoder(4, 2)
    torch.nn.init.normal_(decoder.head.weight)
    anatomy, position, quantiles = torch.rand(2, 4, 6, 4, 3), torch.rand(2, 3, 6, 4, 3), torch.rand(2, 3, 3)
    code = torch.rand(2, 8)
    whole = decoder(anatomy, position, quantiles, code)
    for z in range(3):
        alone = decoder(anatomy[..., z : z + 1], position[..., z : z + 1], quantiles, code)
        torch.testing.assert_close(whole[..., z : z + 1], alone)
