from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from anatomad.predict.decompose import TISSUES
from anatomad.predict.score import Evidence, Score, inner, opposite, own_level, reading, smoothed
from tests.predict.world import decomposition

SPACING = (2.0, 2.0, 4.0)
RIM = (1, 1, 1)
MASK = torch.zeros(16, 16, 16, dtype=torch.bool)
MASK[2:14, 3:13, 2:14] = True


def score(*widths: float) -> Score:
    return Score(residual=Evidence(kind="learned", smoothing_mm=widths, units=tuple(2.0 for _ in widths)))


def test_the_rim_scores_nothing() -> None:
    expected = ndimage.binary_erosion(MASK.numpy(), np.ones((3, 3, 3)))
    assert np.array_equal(inner(MASK, RIM).numpy(), expected)
    result = score(0.0).of(decomposition(torch.full(MASK.shape, -3.0), MASK), SPACING, RIM)
    np.testing.assert_allclose(result.numpy(), 1.5 * expected)


def test_a_thicker_rim_is_as_thick_along_every_axis_as_it_says() -> None:
    expected = ndimage.binary_erosion(MASK.numpy(), np.ones((5, 3, 7)))
    assert np.array_equal(inner(MASK, (2, 1, 3)).numpy(), expected)


def test_opposite_signs_cancel_and_lesions_stay() -> None:
    border, lesion = torch.zeros(MASK.shape), torch.zeros(MASK.shape)
    border[6], border[7] = 4.0, -4.0
    lesion[6:8] = 4.0
    parts = [decomposition(residual, MASK) for residual in (border, lesion)]
    sharp, wide = ([float(score(width).of(p, SPACING, RIM).max()) for p in parts] for width in (0.0, 8.0))
    assert sharp == [2.0, 2.0]
    assert wide[1] > 2.5 * wide[0]
    assert wide[1] > 0.5


def test_smoothing_is_a_gaussian_within_the_brain() -> None:
    residual = torch.randn(MASK.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    result = smoothed(residual, MASK, 6.0, SPACING)
    sigma = [6.0 / 2.3548 / s for s in SPACING]
    radius = [max(1, int(3 * s + 0.5)) for s in sigma]
    weight, total = (
        ndimage.gaussian_filter(v.astype(np.float64), sigma, mode="constant", radius=radius)
        for v in (MASK.numpy(), (residual * MASK).numpy())
    )
    np.testing.assert_allclose(result.numpy(), np.where(MASK, total / np.maximum(weight, 0.05), 0), atol=1e-5)
    flat = smoothed(torch.ones(MASK.shape), MASK, 6.0, SPACING)
    torch.testing.assert_close(flat, MASK.float())  # no dark seam along the brain's surface


def test_a_score_reads_its_own_recoupling() -> None:
    parts = decomposition(torch.ones(MASK.shape), MASK)
    brighter = replace(parts.recoupled["learned"], image=torch.full(MASK.shape, 3.0))
    parts.recoupled["learned"] = brighter
    assert float(score(0.0).of(parts, SPACING, RIM).max()) == 1.0
    closed = Evidence(kind="closed form", smoothing_mm=(0.0,), units=(2.0,))
    assert float(closed.of(parts, SPACING, inner(MASK, RIM)).max()) == 0.5


def test_a_scan_is_read_over_its_own_level() -> None:
    noise = torch.randn(MASK.shape, generator=torch.Generator().manual_seed(0))
    noise[6:8, 6:8, 6:8] = 30.0
    inside = inner(MASK, RIM)
    usual = own_level(noise.abs()[inside])
    assert usual == pytest.approx(float(np.quantile(noise.abs()[inside].numpy(), 0.7)), rel=0.01)
    plain = Evidence(kind="learned", smoothing_mm=(0.0,), units=(2.0,))
    levelled = plain.model_copy(update={"usual": (usual,)})
    health = plain.of(decomposition(noise, MASK), SPACING, inside)
    for gain in (0.5, 1.0, 7.0):  # a sequence that restores better or worse
        torch.testing.assert_close(levelled.of(decomposition(gain * noise, MASK), SPACING, inner(MASK, RIM)), health)
    faint = levelled.of(decomposition(0.01 * noise, MASK), SPACING, inner(MASK, RIM))  # restored all but exactly
    torch.testing.assert_close(faint, 0.1 * health)
    nothing = plain.model_copy(update={"usual": (0.0,)})
    torch.testing.assert_close(nothing.of(decomposition(noise, MASK), SPACING, inner(MASK, RIM)), health)


ALL_GREY = torch.tensor([0.0, 1.0, 0.0])[:, None, None, None]


def test_tissues_that_disagree_add_their_share() -> None:
    parts = decomposition(torch.ones(MASK.shape), MASK)
    seen, restored = torch.zeros(3, *MASK.shape), torch.zeros(3, *MASK.shape)
    seen[1], restored[1] = 1.0, 1.0
    seen[:, 6:8], restored[:, 6:8] = (
        torch.tensor([0.8, 0.2, 0.0])[:, None, None, None],
        torch.tensor([0.1, 0.3, 0.6])[:, None, None, None],
    )
    parts = replace(parts, anatomy=seen * MASK, restored=restored * MASK)
    expected = np.sqrt(0.7**2 + 0.1**2 + 0.6**2)
    inside = inner(MASK, RIM)
    disagreement = reading(parts, (TISSUES, 0.0), SPACING, inner(MASK, RIM))
    assert disagreement[7, 8, 8].item() == pytest.approx(expected, rel=1e-5)
    assert not disagreement[~inside].any()
    assert not disagreement[10].any()
    residual = Evidence(kind="learned", smoothing_mm=(0.0,), units=(2.0,))
    tissues = Evidence(kind=TISSUES, smoothing_mm=(0.0,), units=(0.5,))
    both = Score(residual=residual, supplements=(tissues,), shares=(0.25,)).of(parts, SPACING, RIM)
    torch.testing.assert_close(both, 0.5 * inside + 0.25 * disagreement / 0.5)


def test_a_misplaced_border_of_tissues_cancels_and_a_lesion_stays() -> None:
    seen, restored = torch.zeros(3, *MASK.shape), torch.zeros(3, *MASK.shape)
    seen[2], restored[2] = 1.0, 1.0
    seen[:, ::2], restored[:, 1::2] = ALL_GREY, ALL_GREY  # borders a voxel out of place, all over
    border = replace(decomposition(torch.zeros(MASK.shape), MASK), anatomy=seen * MASK, restored=restored * MASK)
    seen, restored = torch.zeros(3, *MASK.shape), torch.zeros(3, *MASK.shape)
    seen[1], restored[2] = 1.0, 1.0
    lesion = replace(border, anatomy=seen * MASK, restored=restored * MASK)
    (sharp, smooth), (own, kept) = (
        [reading(p, (TISSUES, width), SPACING, inner(MASK, RIM))[8, 8, 8].item() for width in (0.0, 12.0)]
        for p in (border, lesion)
    )
    assert sharp == pytest.approx(own)
    assert kept == pytest.approx(own, rel=0.05)
    assert smooth < 0.2 * sharp


def test_evidence_is_the_mean_over_its_widths() -> None:
    parts = decomposition(torch.randn(MASK.shape, generator=torch.Generator().manual_seed(0)), MASK)
    both = Evidence(kind="learned", smoothing_mm=(0.0, 6.0), units=(2.0, 0.5)).of(parts, SPACING, inner(MASK, RIM))
    alone = [reading(parts, ("learned", width), SPACING, inner(MASK, RIM)) for width in (0.0, 6.0)]
    torch.testing.assert_close(both, (alone[0] / 2.0 + alone[1] / 0.5) / 2)


def test_a_scan_that_scores_high_all_over_is_read_over_its_own_level() -> None:
    def score_of(scale: float, usual: float) -> torch.Tensor:
        residual = torch.where(MASK, torch.linspace(0.5, 1.5, MASK.numel()).view(MASK.shape), 0.0)
        score = Score(residual=Evidence(kind="learned", smoothing_mm=(0.0,), units=(1.0,)), usual=usual)
        return score.of(decomposition(scale * residual, MASK), SPACING, RIM)

    plain = score_of(1.0, 0.0)
    usual = own_level(plain[inner(MASK, RIM)])
    torch.testing.assert_close(score_of(1.0, usual), plain)
    torch.testing.assert_close(score_of(3.0, usual), plain)
    torch.testing.assert_close(score_of(0.5, usual), 0.5 * plain)


def test_the_other_side_is_the_mirror_image_in_the_brain_box() -> None:
    evidence = torch.zeros(MASK.shape)
    evidence[3, 6, 7] = 2.0  # the brain lies in 2 to 13
    found = opposite(evidence, MASK, (1, 1, 0))
    expected = torch.zeros(MASK.shape)
    expected[11:14, 5:8, 7] = 2.0  # around 12
    assert torch.equal(found, expected)


def test_what_both_sides_show_counts_less_than_what_one_shows() -> None:
    residual = torch.zeros(MASK.shape)
    residual[4, 6, 7] = residual[10, 6, 7] = 4.0  # a pair, a voxel off the mirror place
    residual[5, 10, 10], residual[11, 10, 11] = 6.0, 1.0  # a faint counterpart
    residual[4, 4, 11] = 3.0  # one side only
    plain = score(0.0).of(decomposition(residual, MASK), SPACING, RIM)
    found = score(0.0).model_copy(update={"symmetry": 0.25}).of(decomposition(residual, MASK), SPACING, RIM)
    lost = plain**2 - found**2
    assert float(lost[4, 6, 7]) == pytest.approx(0.25 * 2.0**2)
    assert float(lost[10, 6, 7]) == pytest.approx(0.25 * 2.0**2)
    assert float(lost[5, 10, 10]) == pytest.approx(0.25 * 0.5**2, abs=1e-5)  # no more than the other side shows
    assert float(lost[11, 10, 11]) == pytest.approx(0.25 * 0.5**2)  # and no more than its share
    assert float(lost[4, 4, 11]) == 0
