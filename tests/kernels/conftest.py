from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from anatomad.kernels import _select

BACKENDS = [name for name in _select.ORDER["cpu"] if name == "reference" or _select.status(name).startswith("ready")]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backend that can run here, asked for by name."""
    monkeypatch.setenv(_select.VARIABLE, request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Two threads, so that work is divided on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
