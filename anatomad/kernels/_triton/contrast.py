"""An image drawn from a tissue map. Noise is numbered over the whole tensor, four voxels to a counter."""

import triton
import triton.language as tl

from anatomad.kernels._triton.noise import normal, philox


@triton.jit
def _noise(first, seed_low, seed_high, block: tl.constexpr):
    counter = first // 4 + tl.arange(0, block // 4)
    low = counter.to(tl.uint32)
    high = (counter.to(tl.int64) >> 32).to(tl.uint32)
    zero = tl.zeros_like(low)
    a, b, c, d = philox(seed_low, seed_high, low, high, zero, zero + 1)
    return normal(tl.interleave(tl.interleave(a, c), tl.interleave(b, d)))


@triton.jit(do_not_specialize=["seed_low", "seed_high"])
def contrast_kernel(
    labels, means, spreads, image, voxels, count, classes, seed_low, seed_high, block: tl.constexpr, index: tl.constexpr
):
    """Mean plus spread times noise; each counter's words go to neighbouring voxels."""
    first = tl.program_id(0).to(index) * block
    at = first + tl.arange(0, block)
    inside = at < count
    label = tl.load(labels + at, mask=inside, other=0).to(tl.int32)
    entry = at // voxels * classes + label
    mean = tl.load(means + entry, mask=inside, other=0.0)
    spread = tl.load(spreads + entry, mask=inside, other=0.0)
    tl.store(image + at, mean + spread * _noise(first, seed_low, seed_high, block), mask=inside)


@triton.jit(do_not_specialize=["seed_low", "seed_high"])
def soft_contrast_kernel(
    shares,
    means,
    spreads,
    image,
    voxels,
    count,
    seed_low,
    seed_high,
    classes: tl.constexpr,
    block: tl.constexpr,
    index: tl.constexpr,
):
    """Means and spreads weighted by the classes' shares, summed class by class."""
    first = tl.program_id(0).to(index) * block
    at = first + tl.arange(0, block)
    inside = at < count
    entry = at // voxels * classes
    source = shares + entry * voxels + at % voxels
    mean = tl.zeros([block], tl.float32)
    spread = tl.zeros([block], tl.float32)
    for k in range(classes):
        share = tl.load(source, mask=inside, other=0.0)
        mean += share * tl.load(means + entry + k, mask=inside, other=0.0)
        spread += share * tl.load(spreads + entry + k, mask=inside, other=0.0)
        source += voxels
    tl.store(image + at, mean + spread * _noise(first, seed_low, seed_high, block), mask=inside)
