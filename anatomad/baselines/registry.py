"""Every method by name; nothing that a file says can pick other code."""

from __future__ import annotations

from anatomad.baselines import (
    ablations,
    adversarial,
    atlas,
    autoencoder,
    denoising,
    diffusion,
    inpainting,
    intensity,
    memory,
    mixture,
    restoration,
    synthetic,
)
from anatomad.errors import UsageError
from anatomad.planner.plan import METHOD
from anatomad.train.method import DAL, Method

_PEERS = (
    intensity,
    atlas,
    mixture,
    autoencoder,
    denoising,
    inpainting,
    synthetic,
    restoration,
    adversarial,
    memory,
    diffusion,
    ablations,
)

METHODS: dict[str, Method] = {method.name: method for method in (DAL, *(m for peer in _PEERS for m in peer.METHODS))}


def find_method(name: str | None = None) -> Method:
    """Method of a name; our own when there is none.

    Raises:
        UsageError: no such method; lists those that exist.
    """
    chosen = name or METHOD
    if chosen not in METHODS:
        raise UsageError(f"no method {chosen!r}; there are {', '.join(METHODS)}")
    return METHODS[chosen]
