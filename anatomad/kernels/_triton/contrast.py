"""An image drawn from a tissue map. Noise is numbered over the whole tensor, four voxels to a counter."""

import triton
import triton.language as tl

from anatomad.kernels._triton.noise import normal, philox


@triton.jit(do_not_specialize=["seed_low", "seed_high"])
def contrast_kernel(
    labels, means, spreads, image, voxels, count, classes, seed_low, seed_high, block: tl.constexpr, index: tl.constexpr
):
    """Mean plus spread times noise; each counter's words go to neighbouring voxels."""
    first = tl.program_id(0).to(index) * block
    counter = first // 4 + tl.arange(0, block // 4)
    low = counter.to(tl.uint32)
    high = (counter.to(tl.int64) >> 32).to(tl.uint32)
    zero = tl.zeros_like(low)
    a, b, c, d = philox(seed_low, seed_high, low, high, zero, zero + 1)
    word = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
    at = first + tl.arange(0, block)
    inside = at < count
    label = tl.load(labels + at, mask=inside, other=0).to(tl.int32)
    entry = at // voxels * classes + label
    mean = tl.load(means + entry, mask=inside, other=0.0)
    spread = tl.load(spreads + entry, mask=inside, other=0.0)
    tl.store(image + at, mean + spread * normal(word), mask=inside)
