import pytest
import torch

from anatomad.kernels import edges, label_map, one_hot
from anatomad.models.dal import DisentangledAnatomy, brain_position, logits_in_brain, one_hot_in_brain, standardised
from tests.train.fold import tiny_plan

SHAPE = (16, 16, 16)


def make(dimension: int = 3) -> DisentangledAnatomy:
    torch.manual_seed(0)
    return DisentangledAnatomy(tiny_plan(dimension=dimension)).eval()


def random_anatomy(seed: int = 0) -> torch.Tensor:
    return one_hot(torch.randint(4, (1, 1, *SHAPE), generator=torch.Generator().manual_seed(seed)), 4)


def whole_position() -> torch.Tensor:
    box = (slice(0, 16), slice(0, 16), slice(0, 16))
    return brain_position(box, torch.tensor([2.0, 2, 2]), torch.tensor([13.0, 14, 13]))[None]


@torch.no_grad()
def test_restoration_depends_on_edges_and_position_only() -> None:
    model, anatomy, position = make(), random_anatomy(), whole_position()
    # another anatomy with the same edges: every tissue renamed
    renamed = anatomy[:, [2, 3, 1, 0]]
    first = model.restore(model.edges_of(anatomy), position)
    assert torch.equal(first, model.restore(model.edges_of(renamed), position))
    assert (first - model.restore(model.edges_of(random_anatomy(1)), position)).abs().max() > 1e-3
    assert (first - model.restore(model.edges_of(anatomy), position * 0.5)).abs().max() > 1e-3


def test_restoration_needs_no_other_network() -> None:
    model = make()
    model.restore(model.edges_of(random_anatomy()), whole_position()).sum().backward()
    learnt = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learnt == {"restoration"}


@torch.no_grad()
def test_edges_weigh_what_the_plan_says() -> None:
    model = DisentangledAnatomy(tiny_plan(edge_mm=(8.0, 8.0, 16.0)))
    near, far = make().edges_of(random_anatomy()), model.edges_of(random_anatomy())
    assert torch.equal(far, near * torch.tensor([1.0, 1.0, 0.5]).view(1, 3, 1, 1, 1))


@torch.no_grad()
def test_2d_restoration_sees_the_edges_within_its_slices() -> None:
    model, anatomy, position = make(2), random_anatomy(), whole_position()
    mask = torch.ones(1, 1, *SHAPE, dtype=torch.bool)
    edge = model.edges_of(anatomy)
    assert torch.equal(edge, edges(anatomy, (8.0, 8.0, 8.0)))
    expected = torch.zeros(1, 4, *SHAPE)
    for axis in range(3):
        for place in range(SHAPE[axis]):
            plane = [v.narrow(2 + axis, place, 1).movedim(2 + axis, -1) for v in (anatomy, position)]
            answer = model.restore(model.edges_of(plane[0]), plane[1])
            expected.narrow(2 + axis, place, 1).add_(answer.movedim(-1, 2 + axis) / 3)
    torch.testing.assert_close(model.restore_whole(edge, position, mask), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("dimension", [2, 3])
def test_the_anatomy_seen_does_not_depend_on_gain_and_offset(dimension: int) -> None:
    model, position = make(dimension), whole_position()
    image = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    mask[..., 2:14, 3:15, 2:13] = True
    first = model.see_whole(image, position, mask)
    other = model.see_whole(3 * image + 7, position, mask)
    assert first.std() > 0.01
    torch.testing.assert_close(first[mask.expand_as(first)], other[mask.expand_as(other)], atol=1e-3, rtol=1e-3)


def test_standardised_within_each_brain() -> None:
    image = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(6)) * 4 + 9
    mask = torch.rand(2, 1, *SHAPE, generator=torch.Generator().manual_seed(7)) > 0.4
    result = standardised(image, mask)
    assert not result[~mask].any()
    for k in range(2):
        inside = result[k][mask[k]]
        torch.testing.assert_close(inside.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
        torch.testing.assert_close(inside.std(correction=0), torch.tensor(1.0), atol=1e-4, rtol=0)
    assert not standardised(image, torch.zeros_like(mask)).any()


def test_the_mask_settles_the_background() -> None:
    logits = torch.randn(1, 4, *SHAPE, generator=torch.Generator().manual_seed(3)) * 5
    mask = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(4)) > 0.5
    result = one_hot_in_brain(logits, mask)
    assert torch.equal(result[:, :1] == 1, ~mask)
    inside = logits[:, 1:].argmax(1, keepdim=True) + 1
    assert torch.equal(result.argmax(1, keepdim=True)[mask], inside[mask])
    assert torch.equal(logits_in_brain(logits, mask)[:, 1:], logits[:, 1:])


@pytest.mark.parametrize("start", [0, 5])
def test_position_runs_from_minus_one_to_one_over_the_brain(start: int) -> None:
    box = (slice(start, 16), slice(0, 16), slice(0, 16))
    place = brain_position(box, torch.tensor([6.0, 0, 3]), torch.tensor([10.0, 15, 3]))
    assert place.shape == (3, 16 - start, 16, 16)
    assert place[0, 6 - start, 4, 4] == -1
    assert place[0, 10 - start, 0, 9] == 1
    assert place[0, 8 - start, 0, 0] == 0
    assert place[1, 0, 15, 0] == 1
    assert place[2].isfinite().all()


@torch.no_grad()
def test_recoupling_takes_contrast_from_the_image_and_form_from_the_anatomy() -> None:
    model, anatomy = make(), random_anatomy()
    image = (anatomy * torch.tensor([0, 0.2, 0.5, 0.9]).view(1, 4, 1, 1, 1)).sum(1, keepdim=True)
    other = random_anatomy(1)
    drawn = model.recouple(other, whole_position(), image, label_map(anatomy))
    # the head starts at zero: what is left are the image's medians on the other anatomy
    for k, level in enumerate((0.2, 0.5, 0.9), start=1):
        torch.testing.assert_close(drawn[other[:, k : k + 1] == 1].unique(), torch.tensor([level]))
