"""The Sobel stencil over tiles of voxels. A border voxel is repeated beyond the border.

The transposed stencil meets, beyond the border, the border's own value, with its sign turned for the derivative across.
"""

import triton
import triton.language as tl


@triton.jit
def tile_of(job, depth, height, width, tz: tl.constexpr, ty: tl.constexpr, tx: tl.constexpr):
    """Batch entry and first voxel of a tile."""
    nx = tl.cdiv(width, tx)
    ny = tl.cdiv(height, ty)
    nz = tl.cdiv(depth, tz)
    return (job // nx // ny // nz).to(tl.int64), job // nx // ny % nz * tz, job // nx % ny * ty, job % nx * tx


@triton.jit
def voxels_of(z0, y0, x0, tz: tl.constexpr, ty: tl.constexpr, tx: tl.constexpr):
    """Coordinates of a tile's voxels."""
    z = z0 + tl.arange(0, tz)[:, None, None]
    y = y0 + tl.arange(0, ty)[None, :, None]
    x = x0 + tl.arange(0, tx)[None, None, :]
    return z, y, x


@triton.jit
def tile_at(job, depth, height, width, tz: tl.constexpr, ty: tl.constexpr, tx: tl.constexpr):
    """Place of the batch entry, coordinates of a tile's voxels, and which of these exist."""
    batch, z0, y0, x0 = tile_of(job, depth, height, width, tz, ty, tx)
    z, y, x = voxels_of(z0, y0, x0, tz, ty, tx)
    return batch * depth * height * width, z, y, x, (z < depth) & (y < height) & (x < width)


@triton.jit
def clamped(i, size):
    """The nearest place within [0, size)."""
    return tl.minimum(tl.maximum(i, 0), size - 1)


@triton.jit
def place(z, y, x, height, width, index: tl.constexpr):
    """Place within the volume."""
    return (z.to(index) * height + y) * width + x


@triton.jit
def value(field, at, k, member: tl.constexpr):
    """Number of a voxel: of an image, or of membership of class k."""
    loaded = tl.load(field + at)
    return (loaded == k).to(tl.float32) if member else loaded.to(tl.float32)


@triton.jit
def derivatives(field, z, y, x, depth, height, width, k, flat: tl.constexpr, member: tl.constexpr, index: tl.constexpr):
    """Sobel derivatives along depth, height and width at voxels of the volume, in whole weights."""
    before = clamped(x - 1, width)
    after = clamped(x + 1, width)
    gz = tl.zeros((z + y + x).shape, tl.float32)
    gy = tl.zeros_like(gz)
    gx = tl.zeros_like(gz)
    # Loops that are not unrolled: outside of a loop over classes, the compiler would keep every place in a register.
    for dz in tl.range(0 if flat else -1, 1 if flat else 2):
        across = 1 if flat else 2 - dz * dz
        for dy in tl.range(-1, 2):
            row = place(clamped(z + dz, depth), clamped(y + dy, height), 0, height, width, index)
            a = value(field, row + before, k, member)
            b = value(field, row + x, k, member)
            c = value(field, row + after, k, member)
            along = a + 2 * b + c
            gx += (c - a) * (across * (2 - dy * dy))
            gy += along * (across * dy)
            gz += along * ((2 - dy * dy) * dz)
    return gz, gy, gx


@triton.jit
def transposed(
    hz, hy, hx, z, y, x, oz, oy, ox, depth, height, width, rows, columns, flat: tl.constexpr, index: tl.constexpr
):
    """Transposed stencil of three fields, whose voxel (oz, oy, ox) comes first, in planes of rows x columns."""
    sum = tl.zeros((z + y + x).shape, tl.float32)
    for dz in tl.range(0 if flat else -1, 1 if flat else 2):
        zc = clamped(z + dz, depth)
        across = 1 if flat else 2 - dz * dz
        turned_z = tl.where(zc == z + dz, -dz, dz)
        for dy in tl.range(-1, 2):
            yc = clamped(y + dy, height)
            row = place(zc - oz, yc - oy, -ox, rows, columns, index)
            turned_y = tl.where(yc == y + dy, -dy, dy) * across
            for dx in tl.range(-1, 2):
                xc = clamped(x + dx, width)
                at = row + xc
                turned_x = tl.where(xc == x + dx, -dx, dx) * across
                sum += tl.load(hx + at) * (turned_x * (2 - dy * dy))
                sum += tl.load(hy + at) * (turned_y * (2 - dx * dx))
                if not flat:
                    sum += tl.load(hz + at) * (turned_z * ((2 - dy * dy) * (2 - dx * dx)))
    return sum
