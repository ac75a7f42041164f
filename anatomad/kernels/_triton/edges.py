"""Thin edges of a label map, and their gradient through the label map of logits."""

import triton
import triton.language as tl

from anatomad.kernels._triton.classes import run_of, softmax_step


@triton.jit
def label_edges_kernel(
    labels,
    edges,
    depth,
    height,
    width,
    weight_z,
    weight_y,
    weight_x,
    flat: tl.constexpr,
    block: tl.constexpr,
    index: tl.constexpr,
):
    """The weight where the label changes towards the next voxel along the axis; one channel per axis."""
    voxels = tl.cast(width, index) * height * depth
    batch, at, inside = run_of(tl.program_id(0), voxels, block, index)
    source = labels + batch * voxels + at
    here = tl.load(source, mask=inside, other=0)
    x = at % width
    row = at // width
    out = edges + batch * (2 if flat else 3) * voxels + at
    if not flat:
        after = inside & (row // height < depth - 1)
        there = tl.load(source + tl.cast(height, index) * width, mask=after, other=0)
        change = (after & (here != there)).to(tl.float32) * weight_z
        tl.store(out, change.to(edges.dtype.element_ty), mask=inside)
        out += voxels
    after = inside & (row % height < height - 1)
    there = tl.load(source + width, mask=after, other=0)
    change = (after & (here != there)).to(tl.float32) * weight_y
    tl.store(out, change.to(edges.dtype.element_ty), mask=inside)
    out += voxels
    after = inside & (x < width - 1)
    there = tl.load(source + 1, mask=after, other=0)
    change = (after & (here != there)).to(tl.float32) * weight_x
    tl.store(out, change.to(edges.dtype.element_ty), mask=inside)


@triton.jit
def pulls(labels, upstream, step, first, last, inside, weight):
    """Labels before and after along an axis, and what the edges towards them pull with."""
    before = inside & ~first
    after = inside & ~last
    g0 = tl.load(upstream - step, mask=before, other=0.0).to(tl.float32) * weight
    g1 = tl.load(upstream, mask=after, other=0.0).to(tl.float32) * weight
    l0 = tl.load(labels - step, mask=before, other=0)
    l1 = tl.load(labels + step, mask=after, other=0)
    return l0, g0, l1, g1


@triton.jit
def towards(k, near, flat: tl.constexpr):
    """Gradient with respect to membership of class k."""
    l0, g0, l1, g1, l2, g2, l3, g3, l4, g4, l5, g5 = near
    sum = tl.where(l0 == k, g0, 0.0) + tl.where(l1 == k, g1, 0.0)
    sum += tl.where(l2 == k, g2, 0.0) + tl.where(l3 == k, g3, 0.0)
    if not flat:
        sum += tl.where(l4 == k, g4, 0.0) + tl.where(l5 == k, g5, 0.0)
    return -sum


@triton.jit
def argmax_edges_backward_kernel(
    gradient,
    logits,
    labels,
    result,
    depth,
    height,
    width,
    weight_z,
    weight_y,
    weight_x,
    temperature,
    flat: tl.constexpr,
    classes: tl.constexpr,
    block: tl.constexpr,
    index: tl.constexpr,
    unroll: tl.constexpr,
):
    """Every voxel gathers from its neighbours' labels; logits are read where an upstream gradient arrives."""
    voxels = tl.cast(width, index) * height * depth
    batch, at, inside = run_of(tl.program_id(0), voxels, block, index)
    axes: tl.constexpr = 2 if flat else 3
    label = labels + batch * voxels + at
    upstream = gradient + batch * axes * voxels + at
    x = at % width
    y = at // width % height
    l0, g0, l1, g1 = pulls(label, upstream + (axes - 1) * voxels, 1, x == 0, x == width - 1, inside, weight_x)
    l2, g2, l3, g3 = pulls(label, upstream + (axes - 2) * voxels, width, y == 0, y == height - 1, inside, weight_y)
    l4, g4, l5, g5 = l0, g0, l1, g1  # not looked at in 2D
    if not flat:
        z = at // width // height
        plane = tl.cast(height, index) * width
        l4, g4, l5, g5 = pulls(label, upstream, plane, z == 0, z == depth - 1, inside, weight_z)
    near = (l0, g0, l1, g1, l2, g2, l3, g3, l4, g4, l5, g5)
    pulled = (g0 != 0) | (g1 != 0) | (g2 != 0) | (g3 != 0)
    if not flat:
        pulled |= (g4 != 0) | (g5 != 0)
    start = batch * classes * voxels
    row = logits + start
    top = tl.full([block], float("-inf"), tl.float32)
    total = tl.zeros([block], tl.float32)
    dot = tl.zeros([block], tl.float32)
    for k in tl.range(0, classes, loop_unroll_factor=unroll):
        score = tl.load(row + at, mask=inside & pulled, other=0.0).to(tl.float32) / temperature
        top, total, dot = softmax_step(score, towards(k, near, flat), top, total, dot)
        row += voxels
    dot /= total
    total *= temperature
    row, out = logits + start, result + start
    for k in tl.range(0, classes, loop_unroll_factor=unroll):
        score = tl.load(row + at, mask=inside & pulled, other=0.0).to(tl.float32) / temperature
        value = tl.exp(score - top) / total * (towards(k, near, flat) - dot)
        tl.store(out + at, tl.where(pulled, value, 0.0).to(result.dtype.element_ty), mask=inside)
        row += voxels
        out += voxels
