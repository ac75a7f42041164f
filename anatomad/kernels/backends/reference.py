"""Every operator in plain torch: the truth that the other backends are measured against. Serves any device.

Half precision is computed in float32 and rounded once at the end; float64 stays float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels.backends import noise

_SLAB = 1 << 22  # values that the median gathers at a time


def supports(operator: str, *tensors: Tensor) -> bool:
    """Whether this backend can run ``operator`` on these tensors: always."""
    return True


def status() -> str:
    """What there is to say about it."""
    return "ready (plain torch)"


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def label_map(logits: Tensor) -> Tensor:
    """Running comparison over the classes: argmax across a strided dimension is ten times slower on CPU."""
    best = logits[:, :1]
    label = torch.zeros_like(best, dtype=torch.uint8, memory_format=torch.contiguous_format)
    for k in range(1, logits.shape[1]):
        score = logits[:, k : k + 1]
        better = score > best
        best = torch.where(better, score, best)
        label = label.masked_fill(better, k)
    return label


def _members(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    index = torch.arange(classes, device=labels.device, dtype=torch.uint8)
    return (labels == index.view(1, -1, *[1] * (labels.ndim - 2))).to(dtype)


def _noisy(logits: Tensor, gumbel_seed: int | None) -> Tensor:
    wide = _wide(logits)
    if gumbel_seed is None:
        return wide
    return wide + noise.gumbel(tuple(logits.shape), gumbel_seed, logits.device).to(wide.dtype)


def _through_softmax(gradient: Tensor, scores: Tensor, temperature: float) -> Tensor:
    p = F.softmax(scores / temperature, dim=1)
    return p * (gradient - (p * gradient).sum(1, keepdim=True)) / temperature


def one_hot_argmax(logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """One-hot of the largest (noisy) logit."""
    return _members(label_map(_noisy(logits, gumbel_seed)), logits.shape[1], logits.dtype)


def one_hot_argmax_backward(gradient: Tensor, logits: Tensor, temperature: float, gumbel_seed: int | None) -> Tensor:
    """Gradient of the softmax of the same (noisy) logits."""
    result = _through_softmax(_wide(gradient), _noisy(logits, gumbel_seed), temperature)
    return result.to(logits.dtype).contiguous()


def label_edges(labels: Tensor, weights: Sequence[float]) -> Tensor:
    """Where the label changes towards the next voxel along each axis."""
    changes = []
    for dim, weight in enumerate(weights, start=2):
        change = torch.zeros_like(labels, dtype=torch.float32)
        here, there = (
            labels.narrow(dim, 0, max(0, labels.shape[dim] - 1)),
            labels[(slice(None),) * dim + (slice(1, None),)],
        )
        change.narrow(dim, 0, here.shape[dim]).copy_((here != there) * weight)
        changes.append(change)
    return torch.cat(changes, 1).contiguous()


def argmax_edges(logits: Tensor, weights: Sequence[float], temperature: float) -> tuple[Tensor, Tensor]:
    """The same edges of the label map of the logits, and the label map."""
    labels = label_map(logits)
    return label_edges(labels, weights).to(logits.dtype), labels


def argmax_edges_backward(
    gradient: Tensor, logits: Tensor, labels: Tensor, weights: Sequence[float], temperature: float
) -> Tensor:
    """Gradient of ``w_d (1 - <a(p), a(p + e_d)>)`` with respect to the one-hot, through the softmax."""
    wide, scores = _wide(gradient), _wide(logits)
    a = _members(labels, logits.shape[1], scores.dtype)
    towards = torch.zeros_like(a)
    for dim, weight in enumerate(weights, start=2):
        pairs = a.shape[dim] - 1
        if pairs < 1:
            continue
        pull = wide[:, dim - 2 : dim - 1].narrow(dim, 0, pairs) * weight
        towards.narrow(dim, 0, pairs).sub_(pull * a.narrow(dim, 1, pairs))
        towards.narrow(dim, 1, pairs).sub_(pull * a.narrow(dim, 0, pairs))
    return _through_softmax(towards, scores, temperature).to(logits.dtype).contiguous()


def _neighbours(x: Tensor, dim: int, sign: int = 1) -> tuple[Tensor, Tensor]:
    """The values before and after each voxel; beyond the border, its own value times ``sign``."""
    end = max(0, x.shape[dim] - 1)
    first, last = x.narrow(dim, 0, min(1, x.shape[dim])), x.narrow(dim, end, x.shape[dim] - end)
    before = torch.cat([sign * first, x.narrow(dim, 0, end)], dim)
    after = torch.cat([x.narrow(dim, min(1, x.shape[dim]), end), sign * last], dim)
    return before, after


def _smooth(x: Tensor, dim: int) -> Tensor:
    before, after = _neighbours(x, dim)
    return (before + 2 * x + after) / 4


def _gradient(x: Tensor, axis: int) -> Tensor:
    """Sobel derivative per voxel along a spatial axis; the border voxel is repeated beyond the border."""
    for other in range(x.ndim - 2):
        if other != axis:
            x = _smooth(x, other + 2)
    before, after = _neighbours(x, axis + 2)
    return (after - before) / 2


def _gradient_transposed(h: Tensor, axis: int) -> Tensor:
    """Transpose of :func:`_gradient`: smoothing is its own, the difference's sign turns at the border."""
    for other in range(h.ndim - 2):
        if other != axis:
            h = _smooth(h, other + 2)
    before, after = _neighbours(h, axis + 2, -1)
    return (before - after) / 2


def _magnitude(x: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """sqrt(eps + sum over channels and axes of the squared weighted Sobel derivative), one channel."""
    squares = torch.full_like(x[:, :1], eps)
    for axis, weight in enumerate(weights):
        squares += (_gradient(x, axis) * weight).square().sum(1, keepdim=True)
    return squares.sqrt()


def _magnitude_backward(ratio: Tensor, x: Tensor, weights: Sequence[float]) -> Tensor:
    """Gradient with respect to ``x``, of an upstream gradient over the magnitude."""
    result = torch.zeros_like(x)
    for axis, weight in enumerate(weights):
        result += _gradient_transposed(ratio * _gradient(x, axis) * weight**2, axis)
    return result


def label_edge_magnitude(labels: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Magnitude of the Sobel gradient of the one-hot of a label map."""
    squares = torch.full(labels.shape, eps, dtype=torch.float32, device=labels.device)
    for k in labels.unique().tolist():
        member = (labels == k).float()
        for axis, weight in enumerate(weights):
            squares += (_gradient(member, axis) * weight).square()
    return squares.sqrt()


def edge_magnitude(logits: Tensor, weights: Sequence[float], temperature: float, eps: float) -> tuple[Tensor, Tensor]:
    """The same of the one-hot of the largest logit, and the label map."""
    labels = label_map(logits)
    a = _members(labels, logits.shape[1], _wide(logits).dtype)
    return _magnitude(a, weights, eps).to(logits.dtype).contiguous(), labels


def edge_magnitude_backward(
    gradient: Tensor, magnitude: Tensor, labels: Tensor, logits: Tensor, weights: Sequence[float], temperature: float
) -> Tensor:
    """Through the magnitude to the one-hot, and through the softmax to the logits."""
    scores = _wide(logits)
    a = _members(labels, logits.shape[1], scores.dtype)
    towards = _magnitude_backward(_wide(gradient) / _wide(magnitude), a, weights)
    return _through_softmax(towards, scores, temperature).to(logits.dtype).contiguous()


def sobel(image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Magnitude of the Sobel gradient of each channel."""
    flat = _wide(image).flatten(0, 1)[:, None]
    return _magnitude(flat, weights, eps).view(image.shape).to(image.dtype).contiguous()


def sobel_backward(gradient: Tensor, image: Tensor, weights: Sequence[float], eps: float) -> Tensor:
    """Gradient with respect to the image."""
    flat = _wide(image).flatten(0, 1)[:, None]
    ratio = _wide(gradient).reshape(flat.shape) / _magnitude(flat, weights, eps)
    return _magnitude_backward(ratio, flat, weights).view(image.shape).to(image.dtype).contiguous()


def median(score: Tensor, size: int) -> Tensor:
    """Median of each voxel's cube, slab by slab along the first spatial axis."""
    radius, axes = size // 2, score.ndim - 2
    if score.numel() == 0:
        return score.clone(memory_format=torch.contiguous_format)
    whole = score.to(torch.int32).float()  # exact below 2^24, and the padding has no integer version
    padded = F.pad(whole, [radius] * 2 * axes, mode="replicate").int()
    rows = max(1, _SLAB * 2 // (size**axes * max(1, math.prod(score.shape) // score.shape[2])))
    slabs = []
    for start in range(0, score.shape[2], rows):
        windows = padded.narrow(2, start, min(rows, score.shape[2] - start) + 2 * radius)
        for dim in range(2, score.ndim):
            windows = windows.unfold(dim, size, 1)
        slabs.append(windows.flatten(score.ndim).median(-1).values)
    return torch.cat(slabs, 2).to(score.dtype)


def resample_argmax(logits: Tensor, matrix: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Linear interpolation of the scores at the mapped place of every output voxel, then the label."""
    axes, device = len(shape), logits.device
    scores = _wide(logits)
    rows = torch.tensor(matrix, dtype=scores.dtype, device=device).view(axes, axes + 1)
    index = torch.meshgrid(*(torch.arange(n, dtype=scores.dtype, device=device) for n in shape), indexing="ij")
    corners = [(torch.ones((), dtype=scores.dtype, device=device), torch.zeros((), dtype=torch.long, device=device))]
    for axis in range(axes):
        size = logits.shape[axis + 2]
        place = rows[axis, axes] + sum(rows[axis, d] * index[d] for d in range(axes))
        place = place.clamp(0, size - 1)
        low = place.floor()
        fraction, start = place - low, low.long()
        after = (start + 1).clamp(max=size - 1)
        corners = [
            (weight * share, offset * size + voxel)
            for weight, offset in corners
            for share, voxel in ((1 - fraction, start), (fraction, after))
        ]
    flat = scores.flatten(2)
    values = sum(weight * flat[:, :, offset.flatten()].view(*logits.shape[:2], *shape) for weight, offset in corners)
    return label_map(torch.as_tensor(values))


def contrast(labels: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """Mean of the voxel's class plus its spread times counter-based normal noise.

    Raises:
        IndexError: a label without a mean.
    """
    if labels.numel() and int(labels.max()) >= means.shape[1]:
        raise IndexError(f"labels must be below {means.shape[1]}, the number of means; got {int(labels.max())}")
    draw = noise.normal(labels.numel(), seed, labels.device).view(labels.shape)
    index = labels.flatten(1).long()
    mean, spread = (table.float().gather(1, index).view(labels.shape) for table in (means, spreads))
    return mean + spread * draw


def soft_contrast(shares: Tensor, means: Tensor, spreads: Tensor, seed: int) -> Tensor:
    """The same where several classes share a voxel; summed in their order, so that every backend rounds alike."""
    mean, spread = (torch.zeros_like(shares[:, :1]) for _ in range(2))
    for k in range(shares.shape[1]):
        share, entry = shares[:, k : k + 1], (slice(None), k, *[None] * (shares.ndim - 1))
        mean, spread = mean + share * means[entry], spread + share * spreads[entry]
    return mean + spread * noise.normal(mean.numel(), seed, shares.device).view(mean.shape)
