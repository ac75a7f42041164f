"""Exact median of each voxel's window: its bits are found from the highest down.

A value with a bit set is kept if no more than half of the window lies below it.
"""

import triton
import triton.language as tl

from anatomad.kernels._triton.stencil import clamped, place, tile_at


@triton.jit
def median_kernel(
    score,
    result,
    depth,
    height,
    width,
    bits: tl.constexpr,
    size: tl.constexpr,
    flat: tl.constexpr,
    tz: tl.constexpr,
    ty: tl.constexpr,
    tx: tl.constexpr,
    index: tl.constexpr,
):
    """The window's values are read anew for every bit, from the cache."""
    start, z, y, x, inside = tile_at(tl.program_id(0), depth, height, width, tz, ty, tx)
    radius: tl.constexpr = size // 2
    deep: tl.constexpr = 0 if flat else radius
    half: tl.constexpr = (size * size if flat else size * size * size) // 2
    found = tl.zeros([tz, ty, tx], tl.int32)
    for bit in tl.range(0, bits):
        candidate = found | (1 << (bits - 1 - bit))
        below = tl.zeros([tz, ty, tx], tl.int32)
        for dz in tl.range(-deep, deep + 1):
            for dy in tl.range(-radius, radius + 1):
                row = place(clamped(z + dz, depth), clamped(y + dy, height), 0, height, width, index)
                for dx in tl.static_range(-radius, radius + 1):
                    near = tl.load(score + start + row + clamped(x + dx, width)).to(tl.int32)
                    below += (near < candidate).to(tl.int32)
        found = tl.where(below <= half, candidate, found)
    at = start + place(z, y, x, height, width, index)
    tl.store(result + at, found.to(result.dtype.element_ty), mask=inside)
