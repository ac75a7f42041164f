"""What the kernels over class scores share: runs of voxels, the running argmax, the softmax in one pass."""

import triton
import triton.language as tl


@triton.jit
def run_of(job, voxels, block: tl.constexpr, index: tl.constexpr):
    """Batch entry, places within the volume, and which of them exist."""
    runs = tl.cdiv(voxels, block)
    at = (job % runs).to(index) * block + tl.arange(0, block)
    return (job // runs).to(tl.int64), at, at < voxels


@triton.jit
def softmax_step(x, g, top, total, dot):
    """Takes one class in: the largest score, the sum of the exponentials, and their product with the gradient."""
    larger = tl.maximum(top, x, propagate_nan=tl.PropagateNan.ALL)
    base = tl.where(larger == float("-inf"), 0.0, larger)
    shrink = tl.exp(top - base)
    e = tl.exp(x - base)
    return larger, total * shrink + e, dot * shrink + e * g
