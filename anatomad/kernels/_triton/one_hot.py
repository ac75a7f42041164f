"""Differentiable one-hot, with or without Gumbel noise. Classes go in fours: they share a counter of the noise."""

import triton
import triton.language as tl

from anatomad.kernels._triton.classes import run_of, softmax_step
from anatomad.kernels._triton.noise import gumbel, philox


@triton.jit
def words(seed_low, seed_high, batch, voxels, at, first, noisy: tl.constexpr):
    """The four classes' words of each voxel; nothing to rely on without noise."""
    voxel = batch * voxels + at
    low = voxel.to(tl.uint32)
    if noisy:
        zero = tl.zeros_like(low)
        result = philox(seed_low, seed_high, low, (voxel >> 32).to(tl.uint32), zero + first // 4, zero)
    else:
        result = (low, low, low, low)
    return result


@triton.jit
def score(row, at, mask, word, noisy: tl.constexpr):
    """Score of a class, with its noise."""
    x = tl.load(row + at, mask=mask, other=float("-inf")).to(tl.float32)
    if noisy:
        x += gumbel(word)
    return x


@triton.jit(do_not_specialize=["seed_low", "seed_high"])
def one_hot_kernel(
    logits,
    one_hot,
    voxels,
    seed_low,
    seed_high,
    noisy: tl.constexpr,
    classes: tl.constexpr,
    block: tl.constexpr,
    index: tl.constexpr,
    unroll: tl.constexpr,
):
    """The largest score's class is 1, every other 0."""
    batch, at, inside = run_of(tl.program_id(0), voxels, block, index)
    start = batch * classes * voxels
    row = logits + start
    best = tl.zeros([block], tl.float32)
    label = tl.zeros([block], tl.int32)
    for first in tl.range(0, classes, 4, loop_unroll_factor=unroll):
        word = words(seed_low, seed_high, batch, voxels, at, first, noisy)
        for j in tl.static_range(4):
            k = first + j
            x = score(row, at, inside & (k < classes), word[j], noisy)
            better = (k < classes) & ((x > best) | (k == 0))
            best = tl.where(better, x, best)
            label = tl.where(better, k, label)
            row += voxels
    out = one_hot + start
    for k in tl.range(0, classes, loop_unroll_factor=4 * unroll):
        tl.store(out + at, (label == k).to(tl.float32).to(one_hot.dtype.element_ty), mask=inside)
        out += voxels


@triton.jit(do_not_specialize=["seed_low", "seed_high"])
def one_hot_backward_kernel(
    gradient,
    logits,
    result,
    voxels,
    seed_low,
    seed_high,
    temperature,
    noisy: tl.constexpr,
    classes: tl.constexpr,
    block: tl.constexpr,
    index: tl.constexpr,
    unroll: tl.constexpr,
):
    """``p (g - <p, g>) / temperature`` with p the softmax: one pass finds its sums, another writes."""
    batch, at, inside = run_of(tl.program_id(0), voxels, block, index)
    start = batch * classes * voxels
    row, upstream = logits + start, gradient + start
    scale = 1.0 / temperature
    top = tl.full([block], float("-inf"), tl.float32)
    total = tl.zeros([block], tl.float32)
    dot = tl.zeros([block], tl.float32)
    for first in tl.range(0, classes, 4, loop_unroll_factor=unroll):
        word = words(seed_low, seed_high, batch, voxels, at, first, noisy)
        for j in tl.static_range(4):
            mask = inside & (first + j < classes)
            x = score(row, at, mask, word[j], noisy) * scale
            g = tl.load(upstream + at, mask=mask, other=0.0).to(tl.float32)
            top, total, dot = softmax_step(x, g, top, total, dot)
            row += voxels
            upstream += voxels
    dot /= total
    total *= temperature
    row, upstream, out = logits + start, gradient + start, result + start
    for first in tl.range(0, classes, 4, loop_unroll_factor=unroll):
        word = words(seed_low, seed_high, batch, voxels, at, first, noisy)
        for j in tl.static_range(4):
            mask = inside & (first + j < classes)
            x = score(row, at, mask, word[j], noisy) * scale
            g = tl.load(upstream + at, mask=mask, other=0.0).to(tl.float32)
            value = tl.exp(x - top) / total * (g - dot)
            tl.store(out + at, value.to(result.dtype.element_ty), mask=mask)
            row += voxels
            upstream += voxels
            out += voxels
