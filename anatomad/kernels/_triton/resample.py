"""Linear interpolation of class scores at the places of an output grid, and the label of the largest, in one pass."""

import triton
import triton.language as tl

from anatomad.kernels._triton.classes import run_of


@triton.jit
def neighbours(matrix, axis: tl.constexpr, z, y, x, size, flat: tl.constexpr):
    """The two source places along an axis, and the share of the second."""
    m = matrix + 4 * axis
    inner = tl.load(m + 1) * y + tl.load(m + 2) * x
    if not flat:
        inner = tl.load(m) * z + tl.load(m + 1) * y + tl.load(m + 2) * x
    at = tl.load(m + 3) + inner
    at = tl.minimum(tl.maximum(at, 0.0), (size - 1).to(tl.float32))
    low = tl.floor(at)
    first = low.to(tl.int32)
    return first, tl.minimum(first + 1, size - 1), at - low


@triton.jit
def resample_argmax_kernel(
    logits,
    labels,
    matrix,
    depth,
    height,
    width,
    rows,
    columns,
    places,
    flat: tl.constexpr,
    classes: tl.constexpr,
    block: tl.constexpr,
    index: tl.constexpr,
):
    """Corners and shares once, then class by class; the output grid's places come in planes of rows x columns."""
    batch, q, inside = run_of(tl.program_id(0), places, block, index)
    z = (q // columns // rows).to(tl.float32)
    y = (q // columns % rows).to(tl.float32)
    x = (q % columns).to(tl.float32)
    z0, z1, fz = neighbours(matrix, 0, z, y, x, tl.cast(depth, tl.int32), flat)
    y0, y1, fy = neighbours(matrix, 1, z, y, x, tl.cast(height, tl.int32), flat)
    x0, x1, fx = neighbours(matrix, 2, z, y, x, tl.cast(width, tl.int32), flat)
    a0 = (z0.to(index) * height + y0) * width
    a1 = (z0.to(index) * height + y1) * width
    b0 = (z1.to(index) * height + y0) * width
    b1 = (z1.to(index) * height + y1) * width
    voxels = tl.cast(width, index) * height * depth
    row = logits + batch * classes * voxels
    best = tl.zeros([block], tl.float32)
    label = tl.zeros([block], tl.int32)
    for k in tl.range(0, classes):
        value = (1 - fz) * (1 - fy) * (1 - fx) * tl.load(row + (a0 + x0)).to(tl.float32)
        value += (1 - fz) * (1 - fy) * fx * tl.load(row + (a0 + x1)).to(tl.float32)
        value += (1 - fz) * fy * (1 - fx) * tl.load(row + (a1 + x0)).to(tl.float32)
        value += (1 - fz) * fy * fx * tl.load(row + (a1 + x1)).to(tl.float32)
        if not flat:
            value += fz * (1 - fy) * (1 - fx) * tl.load(row + (b0 + x0)).to(tl.float32)
            value += fz * (1 - fy) * fx * tl.load(row + (b0 + x1)).to(tl.float32)
            value += fz * fy * (1 - fx) * tl.load(row + (b1 + x0)).to(tl.float32)
            value += fz * fy * fx * tl.load(row + (b1 + x1)).to(tl.float32)
        better = (value > best) | (k == 0)
        best = tl.where(better, value, best)
        label = tl.where(better, k, label)
        row += voxels
    tl.store(labels + batch * places + q, label.to(tl.uint8), mask=inside)
