"""Label map of class scores."""

import triton
import triton.language as tl

from anatomad.kernels._triton.classes import run_of


@triton.jit
def label_map_kernel(
    logits, labels, voxels, classes: tl.constexpr, block: tl.constexpr, index: tl.constexpr, unroll: tl.constexpr
):
    """One pass over the classes; the first wins ties, comparisons with NaN fail."""
    batch, at, inside = run_of(tl.program_id(0), voxels, block, index)
    row = logits + batch * classes * voxels
    best = tl.load(row + at, mask=inside).to(tl.float32)
    label = tl.zeros([block], tl.int32)
    for k in tl.range(1, classes, loop_unroll_factor=unroll):
        row += voxels
        x = tl.load(row + at, mask=inside).to(tl.float32)
        better = x > best
        best = tl.where(better, x, best)
        label = tl.where(better, k, label)
    tl.store(labels + batch * voxels + at, label.to(tl.uint8), mask=inside)
