"""More than 2^31 elements: places that 32 bits do not hold."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from anatomad.kernels import argmax_edges, label_map, one_hot_argmax, resample_argmax

SHAPE = (1, 2, 1030, 1030, 1030)  # 4.4 GB of float16
NEEDED = 12 * 2**30
FREE = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
LAST = (1029, 1029, 1029)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        FREE < NEEDED, reason=f"needs {NEEDED / 2**30:.0f} GiB of free memory, found {FREE / 2**30:.1f}"
    ),
]


@pytest.fixture(scope="module")
def logits() -> Tensor:
    """Class 0 everywhere, but class 1 in the first voxel and the last."""
    x = torch.zeros(SHAPE, dtype=torch.float16)
    x[0, 1, 0, 0, 0] = x[(0, 1, *LAST)] = 1
    return x


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    from anatomad.kernels import _select

    if not _select.status("cpp").startswith("ready"):
        pytest.skip("the reference keeps too many copies; the C++ module is not built")
    monkeypatch.setenv(_select.VARIABLE, "cpp")


def test_label_map(logits: Tensor) -> None:
    assert logits.numel() > 2**31
    label = label_map(logits)
    assert label[0, 0, 0, 0, 0] == label[(0, 0, *LAST)] == 1
    assert torch.count_nonzero(label) == 2


def test_one_hot(logits: Tensor) -> None:
    hard = one_hot_argmax(logits)
    assert hard[0, 1, 0, 0, 0] == hard[(0, 1, *LAST)] == 1
    assert hard[0, 0, 0, 0, 0] == hard[(0, 0, *LAST)] == 0
    assert torch.count_nonzero(hard[0, 0]) == hard[0, 0].numel() - 2
    assert torch.count_nonzero(hard[0, 1]) == 2


def test_edges(logits: Tensor) -> None:
    found = argmax_edges(logits[:, :, :700], (1.0, 1.0, 1.0))
    assert found.numel() > 2**31
    assert torch.count_nonzero(found) == 3  # around the first voxel: the last one was cut off
    assert found[0, :, 0, 0, 0].tolist() == [1, 1, 1]


def test_resampled_labels(logits: Tensor) -> None:
    corner = [[1.0, 0, 0, 1026], [0, 1.0, 0, 1026], [0, 0, 1.0, 1026]]
    label = resample_argmax(logits, corner, (4, 4, 4))
    assert label[0, 0, 3, 3, 3] == 1
    assert torch.count_nonzero(label) == 1
