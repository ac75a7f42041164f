import pytest
import torch

from anatomad.kernels import label_map


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 5, 4, 3, 2), (1, 256, 2, 2)])
def test_against_argmax(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = label_map(logits)
    assert result.dtype == torch.uint8
    assert torch.equal(result, logits.argmax(1, keepdim=True).to(torch.uint8))


def test_the_lowest_index_wins_ties() -> None:
    scores = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0], [-1.0, -2.0, -1.0]])
    assert label_map(scores.T.reshape(1, 3, 3, 1)).flatten().tolist() == [0, 1, 0]


def test_nan_never_wins_over_an_earlier_class() -> None:
    scores = torch.tensor([[0.0, float("nan"), 1.0], [0.0, float("nan"), -1.0]])
    assert label_map(scores.T.reshape(1, 3, 2, 1)).flatten().tolist() == [2, 0]


def test_more_than_256_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 256 classes, got 257"):
        label_map(torch.zeros(1, 257, 2, 2))
