"""Label-change edges of an anatomy: its high-frequency information."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad.kernels import _checks, _ops
from anatomad.kernels._smoothing import smooth_gradient


def edges(anatomy: Tensor, spacing: tuple[float, ...], *, per_class: bool = False, smoothing: float = 0.0) -> Tensor:
    """Thin edges between neighbouring voxels, one channel per axis.

    Along axis ``d`` the "any" edge is ``w_d (1 - <a(p), a(p + e_d)>)`` and the edge of class ``k`` is
    ``w_d (a_k(p) - a_k(p + e_d))^2``. For one-hot input both are ``w_d`` where the label (or class membership) changes
    and 0 elsewhere; both are smooth in ``a``, so gradients reach the logits through :func:`one_hot_argmax`.
    The weight ``w_d = min(spacing) / spacing_d`` makes an edge across thick slices count less.

    Args:
        anatomy: Label map [batch, 1, *spatial], uint8, or (soft) one-hot [batch, class, *spatial]; 2D or 3D. For the
            label map of logits, with gradient and no one-hot, see :func:`argmax_edges`.
        spacing: Voxel size in mm along each spatial axis.
        per_class: Return each class's edges instead of those of any class; of a one-hot only.
        smoothing: How far, in mm, the gradient with respect to a one-hot reaches beyond the voxels it arises at, >= 0.
            That of a class's edge is 0 where its membership does not change. Edges stay as they are; the gradient
            ``g`` becomes ``B g`` with the tent filter ``B = prod_d B_d``, ``r_d = round(smoothing / spacing_d)``,
            ``B_d(p, q) = max(0, r_d + 1 - |p_d - q_d|) / (r_d + 1)^2``: symmetric and positive definite, so that
            ``-B g`` descends like ``-g`` (Sundaramoorthi et al., Sobolev active contours, IJCV 2007).

    Returns:
        [batch, axes, *spatial], or [batch, axes * class, *spatial] per class (axis-major); values in [0, 1]; float32
        for a label map. The last voxel along an axis has no neighbour and no edge.

    Raises:
        ValueError: rank and spacing that do not fit, a spacing that is not positive, a negative smoothing, a label map
            that is not uint8, or classes asked of one.
    """
    _checks.spacings(anatomy, spacing)
    _checks.not_negative(smoothing, "smoothing")
    weights = _checks.relative(spacing)
    if anatomy.dtype == torch.uint8:
        _checks.label_maps(anatomy)
        if per_class:
            raise ValueError("edges per class need a one-hot: one_hot(labels, classes) makes it")
        return _ops.edges(anatomy, weights, 1.0)
    if not anatomy.is_floating_point():
        raise ValueError(f"anatomy must be a label map of uint8 or a floating point one-hot, got {anatomy.dtype}")
    anatomy = smooth_gradient(anatomy, spacing, smoothing)
    channels = []
    for axis, weight in enumerate(weights):
        dim = axis + 2
        size = max(0, anatomy.shape[dim] - 1)
        here, there = anatomy.narrow(dim, 0, size), anatomy.narrow(dim, anatomy.shape[dim] - size, size)
        change = (here - there) ** 2 if per_class else 1 - (here * there).sum(1, keepdim=True)
        padding = [0, 0] * (len(spacing) - 1 - axis) + [0, anatomy.shape[dim] - size]
        channels.append(F.pad(change * weight, padding))
    return torch.cat(channels, 1)


def argmax_edges(
    logits: Tensor, spacing: tuple[float, ...], temperature: float = 1.0, *, smoothing: float = 0.0
) -> Tensor:
    """The "any" edges of the one-hot of the largest logit, which is never written.

    Equal, forward and backward, to ``edges(one_hot_argmax(logits, temperature), spacing)``: the gradient of
    ``w_d (1 - <a(p), a(p + e_d)>)`` with respect to ``a`` goes through the softmax of ``logits / temperature``.

    Args:
        logits: [batch, class, *spatial], floating point, 2D or 3D, at most 64 classes.
        spacing: Voxel size in mm along each spatial axis.
        temperature: Softness of the gradient, > 0.
        smoothing: Reach in mm of the gradient's tent filter, as in :func:`edges`; here of that of the logits, >= 0.

    Returns:
        [batch, axes, *spatial] in [0, 1], like ``logits``.

    Raises:
        ValueError: wrong rank, integer logits, too many classes, a spacing or temperature that is not positive, or a
            negative smoothing.
    """
    _checks.scores(logits, "logits", _checks.MAX_EDGE_CLASSES)
    _checks.spacings(logits, spacing)
    _checks.positive(temperature, "temperature")
    _checks.not_negative(smoothing, "smoothing")
    return _ops.edges(smooth_gradient(logits, spacing, smoothing), _checks.relative(spacing), temperature)


def edge_magnitude(
    anatomy: Tensor,
    spacing: tuple[float, ...],
    *,
    temperature: float = 1.0,
    eps: float = 1e-6,
    smoothing: float = 0.0,
) -> Tensor:
    """Magnitude of the gradient of the one-hot anatomy, which is never written.

    ``E = sqrt(eps + sum_k sum_d (w_d (S_d a_k))^2)`` with the Sobel derivative ``S_d`` per voxel (difference of the
    neighbours over 2 along the axis, [1, 2, 1] / 4 along the others; the border is repeated) and
    ``w_d = min(spacing) / spacing_d``. Gradient: ``dL/da_k = sum_d S_d^T (w_d^2 (S_d a_k) dL/dE / E)``, then through
    the softmax of ``logits / temperature`` as in :func:`one_hot_argmax`. It is 0 where no label changes within two
    voxels, and the logits are not read there.

    Args:
        anatomy: Logits [batch, class, *spatial], floating point, at most 64 classes, or a label map
            [batch, 1, *spatial], uint8; 2D or 3D.
        spacing: Voxel size in mm along each spatial axis.
        temperature: Softness of the gradient, > 0.
        eps: Keeps the root differentiable, > 0.
        smoothing: Reach in mm of the gradient's tent filter, as in :func:`edges`; here of that of the logits, >= 0.

    Returns:
        [batch, 1, *spatial], at least sqrt(eps) and below 1.3; like ``logits``, or float32 for a label map.

    Raises:
        ValueError: wrong rank, integer logits, too many classes, a spacing, temperature or eps that is not positive, or
            a negative smoothing.
    """
    if anatomy.dtype == torch.uint8:
        _checks.label_maps(anatomy)
    else:
        _checks.scores(anatomy, "logits", _checks.MAX_EDGE_CLASSES)
    _checks.spacings(anatomy, spacing)
    _checks.positive(temperature, "temperature")
    _checks.positive(eps, "eps")
    _checks.not_negative(smoothing, "smoothing")
    if anatomy.is_floating_point():
        anatomy = smooth_gradient(anatomy, spacing, smoothing)
    return _ops.edge_magnitude(anatomy, _checks.relative(spacing), temperature, eps)
