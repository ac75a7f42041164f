"""Magnitude of the Sobel gradient of a one-hot anatomy that is never written, and its gradient.

A tile that holds one class only, with the voxels that its stencils reach, is done at once. Else the classes that are
near are taken in turn; memberships sum to one, so that the last has minus the sum of the others' derivatives.
"""

import triton
import triton.language as tl

from anatomad.kernels._triton.classes import softmax_step
from anatomad.kernels._triton.stencil import clamped, derivatives, place, tile_at, tile_of, transposed, voxels_of


@triton.jit
def corners(labels, z, y, x, depth, height, width, reach: tl.constexpr, flat: tl.constexpr, index: tl.constexpr):
    """Smallest and largest label within `reach` of a tile, which spans at least `2 reach` voxels along every axis."""
    low = tl.full((z + y + x).shape, 255, tl.int32)
    high = tl.zeros_like(low)
    for dz in tl.range(0 if flat else -1, 1 if flat else 2, 2):
        for dy in tl.range(-1, 2, 2):
            row = place(clamped(z + reach * dz, depth), clamped(y + reach * dy, height), 0, height, width, index)
            for dx in tl.static_range(-1, 2, 2):
                label = tl.load(labels + row + clamped(x + reach * dx, width)).to(tl.int32)
                low = tl.minimum(low, label)
                high = tl.maximum(high, label)
    return tl.min(low), tl.max(high)


@triton.jit
def next_label(
    labels, last, z, y, x, depth, height, width, reach: tl.constexpr, flat: tl.constexpr, index: tl.constexpr
):
    """The smallest label above `last` within `reach` of the tile."""
    low = tl.full((z + y + x).shape, 255, tl.int32)
    for dz in tl.range(0 if flat else -1, 1 if flat else 2, 2):
        for dy in tl.range(-1, 2, 2):
            row = place(clamped(z + reach * dz, depth), clamped(y + reach * dy, height), 0, height, width, index)
            for dx in tl.static_range(-1, 2, 2):
                label = tl.load(labels + row + clamped(x + reach * dx, width)).to(tl.int32)
                low = tl.where(label > last, tl.minimum(low, label), low)
    return tl.min(low)


@triton.jit
def edge_magnitude_kernel(
    labels,
    magnitude,
    depth,
    height,
    width,
    square_z,
    square_y,
    square_x,
    eps,
    flat: tl.constexpr,
    tz: tl.constexpr,
    ty: tl.constexpr,
    tx: tl.constexpr,
    index: tl.constexpr,
):
    """``sqrt(eps + sum over classes and axes of the squared derivative)``."""
    start, z, y, x, inside = tile_at(tl.program_id(0), depth, height, width, tz, ty, tx)
    source = labels + start
    at = start + place(z, y, x, height, width, index)
    squares = tl.zeros([tz, ty, tx], tl.float32) + eps
    low, high = corners(source, z, y, x, depth, height, width, 1, flat, index)
    if low != high:
        zc, yc, xc = tl.minimum(z, depth - 1), tl.minimum(y, height - 1), tl.minimum(x, width - 1)
        sz = tl.zeros([tz, ty, tx], tl.float32)
        sy = tl.zeros([tz, ty, tx], tl.float32)
        sx = tl.zeros([tz, ty, tx], tl.float32)
        k = low
        while k != high:
            gz, gy, gx = derivatives(source, zc, yc, xc, depth, height, width, k, flat, True, index)
            squares += square_z * gz * gz + square_y * gy * gy + square_x * gx * gx
            sz += gz
            sy += gy
            sx += gx
            k = next_label(source, k, z, y, x, depth, height, width, 1, flat, index)
        squares += square_z * sz * sz + square_y * sy * sy + square_x * sx * sx
    tl.store(magnitude + at, tl.sqrt_rn(squares).to(magnitude.dtype.element_ty), mask=inside)


@triton.jit
def shares(
    gradient,
    magnitude,
    labels,
    hz,
    hy,
    hx,
    z0,
    y0,
    x0,
    depth,
    height,
    width,
    square_z,
    square_y,
    square_x,
    k,
    flat: tl.constexpr,
    ty: tl.constexpr,
    tx: tl.constexpr,
    halo: tl.constexpr,
    index: tl.constexpr,
):
    """What class k's derivatives have of the upstream gradient, in the tile and one voxel around it."""
    i = tl.arange(0, halo)
    z = clamped(z0 + i // ((ty + 2) * (tx + 2)) - (0 if flat else 1), depth)
    y = clamped(y0 + i // (tx + 2) % (ty + 2) - 1, height)
    x = clamped(x0 + i % (tx + 2) - 1, width)
    at = place(z, y, x, height, width, index)
    ratio = tl.load(gradient + at).to(tl.float32) / tl.load(magnitude + at).to(tl.float32)
    gz, gy, gx = derivatives(labels, z, y, x, depth, height, width, k, flat, True, index)
    if not flat:
        tl.store(hz + i, ratio * square_z * gz)
    tl.store(hy + i, ratio * square_y * gy)
    tl.store(hx + i, ratio * square_x * gx)


@triton.jit
def through_softmax(
    logits,
    result,
    towards,
    at,
    own,
    mask,
    reached,
    present,
    voxels,
    temperature,
    classes: tl.constexpr,
    tile: tl.constexpr,
):
    """Gradient of a tile's logits; those that no gradient reaches are not read."""
    top = tl.full(at.shape, float("-inf"), tl.float32)
    total = tl.zeros(at.shape, tl.float32)
    dot = tl.zeros(at.shape, tl.float32)
    row, upstream, bits = logits, towards + own, present
    for _ in tl.range(0, classes):
        score = tl.load(row + at, mask=mask & reached, other=0.0).to(tl.float32) / temperature
        g = tl.load(upstream, mask=reached & ((bits & 1) != 0), other=0.0)
        top, total, dot = softmax_step(score, g, top, total, dot)
        row += voxels
        upstream += tile
        bits = bits >> 1
    dot /= total
    total *= temperature
    row, upstream, bits, out = logits, towards + own, present, result
    for _ in tl.range(0, classes):
        score = tl.load(row + at, mask=mask & reached, other=0.0).to(tl.float32) / temperature
        g = tl.load(upstream, mask=reached & ((bits & 1) != 0), other=0.0)
        value = tl.where(reached, tl.exp(score - top) / total * (g - dot), 0.0)
        tl.store(out + at, value.to(result.dtype.element_ty), mask=mask)
        row += voxels
        upstream += tile
        bits = bits >> 1
        out += voxels


@triton.jit
def edge_magnitude_backward_kernel(
    gradient,
    magnitude,
    labels,
    logits,
    result,
    scratch,
    jobs,
    depth,
    height,
    width,
    square_z,
    square_y,
    square_x,
    temperature,
    flat: tl.constexpr,
    classes: tl.constexpr,
    tz: tl.constexpr,
    ty: tl.constexpr,
    tx: tl.constexpr,
    halo: tl.constexpr,
    index: tl.constexpr,
):
    """Each program takes tile after tile, with a scratch of its own that stays in the cache.

    Three fields of `halo` numbers hold a class's shares, a tile per class the gradients with respect to memberships.
    """
    tile: tl.constexpr = tz * ty * tx
    hz = scratch + tl.program_id(0).to(tl.int64) * (3 * halo + classes * tile)
    hy = hz + halo
    hx = hy + halo
    towards = hx + halo
    iz, iy, ix = voxels_of(0, 0, 0, tz, ty, tx)
    own = (iz * ty + iy) * tx + ix
    voxels = tl.cast(width, index) * height * depth
    job = tl.program_id(0)
    while job < jobs:
        batch, z0, y0, x0 = tile_of(job, depth, height, width, tz, ty, tx)
        z, y, x = voxels_of(z0, y0, x0, tz, ty, tx)
        inside = (z < depth) & (y < height) & (x < width)
        at = place(z, y, x, height, width, index)
        start = batch * voxels
        source = labels + start
        out = result + start * classes
        low, high = corners(source, z, y, x, depth, height, width, 2, flat, index)
        if low == high:
            for _ in tl.range(0, classes):
                tl.store(out + at, tl.zeros([tz, ty, tx], result.dtype.element_ty), mask=inside)
                out += voxels
        else:
            zc, yc, xc = tl.minimum(z, depth - 1), tl.minimum(y, height - 1), tl.minimum(x, width - 1)
            rest = tl.zeros([tz, ty, tx], tl.float32)
            reached = tl.zeros([tz, ty, tx], tl.int32)
            present = tl.full([], 0, tl.int64)
            one = tl.full([], 1, tl.int64)
            oz = 0 if flat else z0 - 1
            k = low
            while k != high:
                tl.debug_barrier()
                shares(
                    gradient + start,
                    magnitude + start,
                    source,
                    hz,
                    hy,
                    hx,
                    z0,
                    y0,
                    x0,
                    depth,
                    height,
                    width,
                    square_z,
                    square_y,
                    square_x,
                    k,
                    flat,
                    ty,
                    tx,
                    halo,
                    index,
                )
                tl.debug_barrier()
                sum = transposed(
                    hz,
                    hy,
                    hx,
                    zc,
                    yc,
                    xc,
                    oz,
                    y0 - 1,
                    x0 - 1,
                    depth,
                    height,
                    width,
                    ty + 2,
                    tx + 2,
                    flat,
                    tl.int32,
                )
                tl.store(towards + k * tile + own, sum)
                reached |= (sum != 0).to(tl.int32)
                rest -= sum
                present |= one << k
                k = next_label(source, k, z, y, x, depth, height, width, 2, flat, index)
            tl.store(towards + high * tile + own, rest)
            tl.debug_barrier()  # what follows reads it in another layout: by other threads
            present |= one << high
            through_softmax(
                logits + start * classes,
                out,
                towards,
                at,
                own,
                inside,
                reached != 0,
                present,
                voxels,
                temperature,
                classes,
                tile,
            )
        job += tl.num_programs(0)
