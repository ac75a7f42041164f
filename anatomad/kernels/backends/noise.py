"""Counter-based noise: Philox 4x32-10 words, and numbers made of them with operations that round alike everywhere.

A draw is a function of (seed, place) and of nothing else, so that it does not depend on threads, layout or backend. The
logarithm is a polynomial of single products and sums, none of them fused: every backend repeats them in this order, and
noise is equal bit for bit (``csrc/common`` has the same text in C++).
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
GUMBEL_STREAM, NORMAL_STREAM = 0, 1


def philox(seed: int, low: Tensor, block: int, stream: int) -> list[Tensor]:
    """Four words (int64 holding 32 bits) of each counter ``(low, low >> 32, block, stream)``.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
    """
    c = [low & _MASK, low >> 32, torch.full_like(low, block), torch.full_like(low, stream)]
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(10):
        # The product wraps around 2^63 in int64; its bits are those of the unsigned product.
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [((p1 >> 32) & _MASK) ^ c[1] ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c[3] ^ k1, p0 & _MASK]
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c


def uniform(word: Tensor) -> Tensor:
    """float32 in (0, 1): the word's upper 23 bits plus a half, so that neither end is reached and none is rounded."""
    return ((word >> 9).float() + 0.5) * 2.0**-23


def log(x: Tensor) -> Tensor:
    """Natural logarithm of float32 x in [2^-126, 2^126], to 2e-6 of its value: as good as the noise is fine.

    ``log(1 + m) = m P(m)`` with the mantissa between sqrt(1/2) and sqrt(2), so that small logarithms are as exact; P is
    the polynomial of degree 6 whose largest relative error is least.
    """
    # The mantissa between sqrt(1/2) and sqrt(2), and the exponent that belongs to it.
    shifted = x.view(torch.int32) - 0x3F3504F3
    exponent = (shifted >> 23).float()
    m = ((shifted & 0x7FFFFF) + 0x3F3504F3).view(torch.float32) - 1.0
    y = torch.full_like(m, 1.1896108836e-1)
    for c in (
        -1.8667855859e-1,
        2.0496328175e-1,
        -2.4909743667e-1,
        3.3314508200e-1,
        -5.0001114607e-1,
        1.0000009537,
    ):
        y = y * m + c
    return y * m + exponent * 0.693147182


def gumbel(shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Standard Gumbel noise [batch, class, *spatial], float32: a voxel's classes are words of one counter."""
    batch, classes, *spatial = shape
    voxels = torch.arange(batch * torch.Size(spatial).numel(), device=device)
    words: list[Tensor] = []
    for block in range(-(-classes // 4)):
        words += philox(seed, voxels, block, GUMBEL_STREAM)
    noise = (
        torch.stack([-log(-log(uniform(word))) for word in words[:classes]]) if classes else voxels.float()[None][:0]
    )
    return noise.view(classes, batch, *spatial).transpose(0, 1)


def normal(count: int, seed: int, device: torch.device) -> Tensor:
    """Standard normal numbers [count], float32; four in a row share a counter.

    Source: Giles, Approximating the erfinv function, GPU Computing Gems, 2010 (single precision).
    """
    groups = torch.arange(-(-count // 4), device=device)
    word = torch.stack(philox(seed, groups, 0, NORMAL_STREAM), 1).flatten()[:count]
    x = uniform(word) * 2.0 - 1.0
    w = -log((1.0 - x) * (1.0 + x))
    # torch rounds the float32 root as it likes; through float64 it is the nearest.
    centre, tail = w - 2.5, w.double().sqrt().float() - 3.0
    p, q = torch.full_like(w, 2.81022636e-08), torch.full_like(w, -0.000200214257)
    for a, b in (
        (3.43273939e-07, 0.000100950558),
        (-3.5233877e-06, 0.00134934322),
        (-4.39150654e-06, -0.00367342844),
        (0.00021858087, 0.00573950773),
        (-0.00125372503, -0.0076224613),
        (-0.00417768164, 0.00943887047),
        (0.246640727, 1.00167406),
        (1.50140941, 2.83297682),
    ):
        p, q = p * centre + a, q * tail + b
    return torch.where(w < 5.0, p, q) * x * 1.41421356
