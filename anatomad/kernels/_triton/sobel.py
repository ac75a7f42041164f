"""Sobel gradient magnitude of an image, and its gradient. Channels are batch entries here."""

import triton
import triton.language as tl

from anatomad.kernels._triton.stencil import derivatives, place, tile_at, transposed


@triton.jit
def gradient_of(
    image,
    z,
    y,
    x,
    depth,
    height,
    width,
    scale_z,
    scale_y,
    scale_x,
    eps,
    flat: tl.constexpr,
    index: tl.constexpr,
):
    """Scaled derivatives of a tile's voxels, and their magnitude; voxels beyond the border stand for the border's."""
    zc, yc, xc = tl.minimum(z, depth - 1), tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    gz, gy, gx = derivatives(image, zc, yc, xc, depth, height, width, 0, flat, False, index)
    gz, gy, gx = gz * scale_z, gy * scale_y, gx * scale_x
    return gz, gy, gx, tl.sqrt_rn(eps + gz * gz + gy * gy + gx * gx)


@triton.jit
def sobel_kernel(
    image,
    magnitude,
    depth,
    height,
    width,
    scale_z,
    scale_y,
    scale_x,
    eps,
    flat: tl.constexpr,
    tz: tl.constexpr,
    ty: tl.constexpr,
    tx: tl.constexpr,
    index: tl.constexpr,
):
    """``sqrt(eps + sum of the squared scaled derivatives)``."""
    start, z, y, x, inside = tile_at(tl.program_id(0), depth, height, width, tz, ty, tx)
    _, _, _, length = gradient_of(
        image + start, z, y, x, depth, height, width, scale_z, scale_y, scale_x, eps, flat, index
    )
    at = place(z, y, x, height, width, index)
    tl.store(magnitude + start + at, length.to(magnitude.dtype.element_ty), mask=inside)


@triton.jit
def sobel_shares_kernel(
    gradient,
    image,
    hz,
    hy,
    hx,
    depth,
    height,
    width,
    scale_z,
    scale_y,
    scale_x,
    eps,
    flat: tl.constexpr,
    tz: tl.constexpr,
    ty: tl.constexpr,
    tx: tl.constexpr,
    index: tl.constexpr,
):
    """What each derivative has of the upstream gradient, scaled for the transposed stencil."""
    start, z, y, x, inside = tile_at(tl.program_id(0), depth, height, width, tz, ty, tx)
    gz, gy, gx, length = gradient_of(
        image + start, z, y, x, depth, height, width, scale_z, scale_y, scale_x, eps, flat, index
    )
    at = start + place(z, y, x, height, width, index)
    ratio = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32) / length
    if not flat:
        tl.store(hz + at, ratio * gz * scale_z, mask=inside)
    tl.store(hy + at, ratio * gy * scale_y, mask=inside)
    tl.store(hx + at, ratio * gx * scale_x, mask=inside)


@triton.jit
def sobel_gather_kernel(
    hz,
    hy,
    hx,
    result,
    depth,
    height,
    width,
    flat: tl.constexpr,
    tz: tl.constexpr,
    ty: tl.constexpr,
    tx: tl.constexpr,
    index: tl.constexpr,
):
    """Transposed stencil of the shares."""
    start, z, y, x, inside = tile_at(tl.program_id(0), depth, height, width, tz, ty, tx)
    zc, yc, xc = tl.minimum(z, depth - 1), tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    sum = transposed(
        hz + start, hy + start, hx + start, zc, yc, xc, 0, 0, 0, depth, height, width, height, width, flat, index
    )
    at = start + place(z, y, x, height, width, index)
    tl.store(result + at, sum.to(result.dtype.element_ty), mask=inside)
