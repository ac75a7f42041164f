"""The operators on a GPU: equality with the reference, then speed against the memory's floor and framework code.

``python benchmarks/gpu.py [--only NAME ...] [--seconds S]`` needs a CUDA device, torch, triton and numpy. Rows hold
the median time of a call, forward and backward, the floor that the memory sets (bytes that must be moved over the
bandwidth that a copy reaches in this run), and framework calls, eager and with torch.compile, in the same run.
The cache is overwritten between calls. Writes ``benchmarks/results/gpu.json``; stops before that if a result is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from anatomad import kernels
from anatomad.kernels.backends import reference

Run = Callable[[], object]
RESULT = Path(__file__).parent / "results" / "gpu.json"
BACKENDS = ("cuda", "triton")
SHAPES = {"volume": (2, 9, 160, 192, 160), "slices": (32, 9, 256, 256), "small": (2, 4, 64, 64)}
FLUSH = 2**28  # bytes: more than any cache
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


def say(line: str) -> None:
    """Show progress at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def logits(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Scores of a network that is sure of most voxels, around smooth regions."""
    generator = torch.Generator().manual_seed(0)
    batch, classes, *size = shape
    coarse = torch.randn(batch, classes, *(max(2, n // 12) for n in size), generator=generator).cuda()
    smooth = F.interpolate(coarse, size=size, mode="trilinear" if len(size) == 3 else "bilinear")
    return (4 * smooth + 0.1 * torch.randn_like(smooth)).to(dtype)


def forward_backward(function: Callable[[Tensor], Tensor], x: Tensor) -> Run:
    """The function and its gradient for a fixed upstream gradient."""
    leaf = x.clone().requires_grad_()
    upstream = torch.randn_like(function(leaf.detach()))
    return lambda: torch.autograd.grad(function(leaf), leaf, upstream)


def eager_one_hot(x: Tensor) -> Tensor:
    """Straight-through one-hot in framework calls."""
    soft = torch.softmax(x, 1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


def eager_magnitude(x: Tensor) -> Tensor:
    """Sobel magnitude of the one-hot with shifted views, which compilers fuse."""
    a, axes = eager_one_hot(x), x.ndim - 2
    squares = torch.zeros_like(a[:, :1])
    for axis in range(axes):
        g = F.pad(a, [1, 1] * axes, mode="replicate")
        for dim in range(2, a.ndim):
            before, at, after = (g.narrow(dim, i, a.shape[dim]) for i in range(3))
            g = (after - before) / 2 if dim == axis + 2 else (before + 2 * at + after) / 4
        squares = squares + g.square().sum(1, keepdim=True)
    return (squares + 1e-6).sqrt()


def magnitude(x: Tensor) -> Tensor:
    """Edge magnitude of the one-hot of the logits."""
    return kernels.edge_magnitude(x, (1.0,) * (x.ndim - 2))


# Operator: ours, framework calls, and what must be moved: tensors of logits, tensors of one channel, label maps.
TASKS: dict[str, tuple[Callable[[Tensor], Run], Callable[[Tensor], Tensor], tuple[int, int, int]]] = {
    "edge_magnitude": (lambda x: forward_backward(magnitude, x), eager_magnitude, (3, 3, 3)),
    "one_hot_argmax": (lambda x: forward_backward(kernels.one_hot_argmax, x), eager_one_hot, (5, 0, 0)),
    "label_map": (lambda x: lambda: kernels.label_map(x), lambda x: x.argmax(1), (1, 0, 1)),
}


def floor_bytes(x: Tensor, counts: tuple[int, int, int]) -> int:
    """Bytes that must be moved."""
    voxels = x.numel() // x.shape[1]
    return counts[0] * x.nbytes + counts[1] * voxels * x.element_size() + counts[2] * voxels


def median_ms(run: Run, seconds: float) -> float:
    """Median milliseconds of a call with a cold cache."""
    flush = torch.empty(FLUSH, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        run()
    times, began = [], time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - began < seconds and len(times) < 200):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def copy_bandwidth(seconds: float) -> float:
    """Bytes per second that a copy reads and writes."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / (median_ms(lambda: target.copy_(source), seconds) / 1000)


def differences(dtype: torch.dtype) -> dict[str, float]:
    """Largest difference of each result from the reference on the CPU."""
    x = logits((2, 9, 21, 34, 40), dtype)
    upstream = torch.randn(2, 1, 21, 34, 40, device="cuda").to(dtype)
    whole = torch.randn_like(x)
    weights = [1.0, 0.5, 0.8]
    label, edge = reference.label_map(x.cpu()), reference.edge_magnitude(x.cpu(), weights, 0.7, 1e-6)[0]
    ops = torch.ops.anatomad
    calls = {
        "label_map": (x,),
        "one_hot_argmax": (x, 0.7, 5),
        "one_hot_argmax_backward": (whole, x, 0.7, None),
        "argmax_edges": (x, weights, 0.7),
        "edge_magnitude": (x, weights, 0.7, 1e-6),
        "edge_magnitude_backward": (upstream, edge.cuda(), label.cuda(), x, weights, 0.7),
        "sobel": (x, weights, 1e-4),
        "sobel_backward": (whole, x, weights, 1e-4),
    }
    found = {}
    for name, arguments in calls.items():
        ours = getattr(ops, name)(*arguments)
        truth = getattr(reference, name)(*(a.cpu() if isinstance(a, Tensor) else a for a in arguments))
        ours, truth = (r if isinstance(r, Tensor) else r[0] for r in (ours, truth))
        found[name] = float((ours.cpu().double() - truth.double()).abs().max())
    return found


def check(backend: str) -> dict[str, dict[str, float]]:
    """Differences by type.

    Raises:
        SystemExit: one is too large.
    """
    found = {str(dtype): differences(dtype) for dtype in TOLERANCE}
    for dtype, most in TOLERANCE.items():
        wrong = {name: value for name, value in found[str(dtype)].items() if not value <= most}
        if wrong:
            sys.exit(f"{backend} differs from the reference in {dtype} by more than {most}: {wrong}; nothing was timed")
    return found


def timed(
    task: str, shape: tuple[int, ...], dtype: torch.dtype, backends: list[str], options: argparse.Namespace
) -> dict[str, object]:
    """One row."""
    ours, framework, counts = TASKS[task]
    x = logits(shape, dtype)
    milliseconds = {}
    for backend in backends:
        os.environ["ANATOMAD_KERNELS"] = backend
        milliseconds[backend] = median_ms(ours(x), options.seconds)
    plain = (lambda f: lambda: f(x)) if task == "label_map" else (lambda f: forward_backward(f, x))
    for name, function in (("eager", framework), ("torch.compile", torch.compile(framework, dynamic=False))):
        try:
            milliseconds[name] = median_ms(plain(function), options.seconds)
        except torch.OutOfMemoryError:
            say(f"{task} {shape}: {name} does not fit the memory")
    torch.compiler.reset()
    floor = floor_bytes(x, counts) / options.bandwidth * 1000
    best = min(milliseconds[b] for b in backends)
    return {
        "operator": task,
        "shape": list(shape),
        "dtype": str(dtype),
        "ms": {name: round(ms, 4) for name, ms in milliseconds.items()},
        "floor_ms": round(floor, 4),
        "share_of_floor": round(floor / best, 3),
        "times_as_fast_as": {n: round(ms / best, 2) for n, ms in milliseconds.items() if n not in backends},
    }


def main() -> None:
    """Check, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each time")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: this benchmark measures GPUs; benchmarks/kernels.py measures the CPU")
    states = kernels.info()
    backends = [name for name in BACKENDS if states[name].startswith("ready")]
    if not backends:
        sys.exit("no backend for GPUs: " + "; ".join(f"{name}: {states[name]}" for name in BACKENDS))
    equal = {}
    for backend in backends:
        os.environ["ANATOMAD_KERNELS"] = backend
        equal[backend] = check(backend)
        say(f"{backend} equals the reference")
    options.bandwidth = copy_bandwidth(options.seconds)
    say(f"copy: {options.bandwidth / 1e9:.0f} GB/s")
    rows = []
    for task in options.only:
        for shape in SHAPES.values():
            for dtype in (torch.bfloat16, torch.float32):
                rows.append(timed(task, shape, dtype, backends, options))
                say(json.dumps(rows[-1]))
    machine = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "copy_gb_per_s": round(options.bandwidth / 1e9),
        "backends": states,
    }
    found = {"machine": machine, "largest_difference": equal, "rows": rows}
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
