"""Speed of the operators against what they replace.

``python benchmarks/kernels.py [--operators NAME ...] [--classes 4 9 32] [--shapes 2D 3D] [--threads N]``

Every row is a ratio within one run: the operator and its rivals take turns, and medians are compared. Rivals: framework
calls (eager and torch.compile), ``F.gumbel_softmax``, SimpleITK, scipy, and kornia and MONAI, which
``pip install 'anatomad[baselines]'`` brings; a row says which was missing. Logits are drawn around a smooth random
tissue map and around the bundled atlas' tissues, which are real. Writes a table to standard output and its rows, in
place of older ones of the same operator, shape, map and allocator, to ``benchmarks/results/kernels.json``, so that it
can be run in pieces. It asks for an idle machine: two threads that share a processor with other work wait for each
other. Each row says how busy it was, and where memory came from: rivals allocate their results anew, and a fresh page
costs more than what is written to it. It also says how fast memory was copied in the same turns, since that changes
from hour to hour on a machine shared with others. With
``GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296`` the C library keeps the
pages that it has, for all alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from anatomad import kernels
from anatomad.io.atomic import write_json
from anatomad.preprocess.atlas import load_atlas

Run = Callable[[], object]
Runs = dict[str, Run | None]  # None: what it needs is not installed
RESULT = Path(__file__).parent / "results" / "kernels.json"
SHAPES = {"2D": (8, 192, 192), "3D": (1, 160, 192, 160)}
EAGER_MEMORY = 2**31  # logits of this size and more are too much for eager edges, which keep six copies
COMPILED = "torch.compile"
COPIED = 2**24  # floats: 64 MiB, more than caches hold
ALLOCATORS = ("GLIBC_TUNABLES", "LD_PRELOAD", "THP_MEM_ALLOC_ENABLE")  # and MALLOC_*


def synthetic(shape: tuple[int, ...], classes: int) -> Tensor:
    """Label map [batch, *spatial] of smooth regions."""
    batch, *size = shape
    coarse = torch.randn(batch, classes, *(max(2, n // 12) for n in size))
    smooth = F.interpolate(coarse, size=size, mode="trilinear" if len(size) == 3 else "bilinear")
    return smooth.argmax(1)


def atlas(shape: tuple[int, ...], classes: int) -> Tensor:
    """Label map [batch, *spatial] of the bundled atlas, resampled; more classes than tissues split them by place."""
    batch, *size = shape
    prior = torch.from_numpy(np.asarray(load_atlas().tissue, np.float32))
    label = F.interpolate(prior[None], size=(160, 192, 160), mode="trilinear").argmax(1)[0]
    if len(size) == 2:
        planes = torch.linspace(40, 110, batch).long()
        label = F.interpolate(label[:, :, planes].permute(2, 0, 1)[:, None].float(), size=size)[:, 0].long()
    else:
        label = label[None]
    parts = -(-(classes - 1) // (len(prior) - 1))
    place = torch.arange(label.shape[1]).view(-1, *[1] * (label.ndim - 2)) * parts // label.shape[1]
    return torch.where(label > 0, ((label - 1) * parts + place).remainder(classes - 1) + 1, 0)


def logits_of(label: Tensor, classes: int) -> Tensor:
    """Scores of a network that is sure of most voxels."""
    scores = torch.randn(label.shape[0], classes, *label.shape[1:])
    return scores.scatter_add_(1, label[:, None], torch.full((1,), 5.0).expand(label[:, None].shape))


def forward_backward(function: Callable[[Tensor], Tensor], x: Tensor) -> Run:
    """The function and its gradient for a fixed upstream gradient."""
    leaf = x.clone().requires_grad_()
    upstream = torch.randn_like(function(leaf.detach()))

    def run() -> object:
        leaf.grad = None
        function(leaf).backward(upstream)
        return leaf.grad

    return run


def eager_one_hot(x: Tensor) -> Tensor:
    """Straight-through one-hot in framework calls."""
    soft = torch.softmax(x, 1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return hard + soft - soft.detach()


def _taps(axis: int, axes: int) -> Tensor:
    kernel = torch.ones(())
    for d in range(axes):
        kernel = kernel[..., None] * torch.tensor([-0.5, 0, 0.5] if d == axis else [0.25, 0.5, 0.25])
    return kernel


def eager_magnitude(x: Tensor) -> Tensor:
    """Sobel magnitude of every channel with convolutions."""
    axes, channels = x.ndim - 2, x.shape[1]
    convolve = F.conv2d if axes == 2 else F.conv3d
    padded = F.pad(x, [1, 1] * axes, mode="replicate")
    weights = [_taps(d, axes).expand(channels, 1, *[3] * axes) for d in range(axes)]
    squares = sum(convolve(padded, w, groups=channels).square().sum(1, keepdim=True) for w in weights)
    return (torch.as_tensor(squares) + 1e-6).sqrt()


def sliced_magnitude(x: Tensor) -> Tensor:
    """The same with shifted views, which compilers fuse."""
    axes = x.ndim - 2
    squares = torch.zeros_like(x[:, :1])
    for axis in range(axes):
        g = F.pad(x, [1, 1] * axes, mode="replicate")
        for dim in range(2, x.ndim):
            n = x.shape[dim]
            a, b, c = (g.narrow(dim, i, n) for i in range(3))
            g = (c - a) / 2 if dim == axis + 2 else (a + 2 * b + c) / 4
        squares = squares + g.square().sum(1, keepdim=True)
    return (squares + 1e-6).sqrt()


def _kornia_magnitude(x: Tensor) -> Tensor:
    from kornia.filters import spatial_gradient, spatial_gradient3d

    gradient = spatial_gradient(x) if x.ndim == 4 else spatial_gradient3d(x)
    return (gradient.square().sum((1, 2))[:, None] + 1e-6).sqrt()


def _where(package: str, run: Callable[[], Run]) -> Run | None:
    return run() if importlib.util.find_spec(package) else None


def _monai_discrete(x: Tensor, classes: int | None) -> Run:
    """Label map, or one-hot, without a gradient: MONAI has none."""
    from monai.transforms import AsDiscrete

    discrete = AsDiscrete(argmax=True, to_onehot=classes)
    return lambda: [discrete(scores) for scores in x]


def _monai_magnitude(image: Tensor) -> Run:
    from monai.transforms import SobelGradients

    axes = image.ndim - 2
    gradients = SobelGradients(kernel_size=3, spatial_axes=list(range(axes)), padding_mode="replicate")
    return lambda: [gradients(channel).square().sum(0).add(1e-12).sqrt() for channel in image]


def _monai_median(image: Tensor) -> Run:
    from monai.transforms import MedianSmooth

    smooth = MedianSmooth(radius=2)
    return lambda: smooth(image[0])


def one_hot(x: Tensor) -> Runs:
    """Differentiable one-hot, forward and backward."""
    return {
        "anatomad": forward_backward(kernels.one_hot_argmax, x),
        "eager": forward_backward(eager_one_hot, x),
        COMPILED: forward_backward(torch.compile(eager_one_hot, dynamic=False), x),
        "MONAI AsDiscrete, forward only": _where("monai", lambda: _monai_discrete(x, x.shape[1])),
    }


def gumbel(x: Tensor) -> Runs:
    """The same with Gumbel noise."""
    return {
        "anatomad": forward_backward(lambda y: kernels.one_hot_argmax(y, gumbel_seed=1), x),
        "F.gumbel_softmax": forward_backward(lambda y: F.gumbel_softmax(y, hard=True, dim=1), x),
    }


def label_map(x: Tensor) -> Runs:
    """Label map."""
    return {
        "anatomad": lambda: kernels.label_map(x),
        "torch.argmax": lambda: x.argmax(1),
        "MONAI AsDiscrete": _where("monai", lambda: _monai_discrete(x, None)),
    }


def edge_magnitude(x: Tensor) -> Runs:
    """Edge magnitude of the one-hot, forward and backward."""
    spacing = (1.0,) * (x.ndim - 2)
    runs: Runs = {"anatomad": forward_backward(lambda y: kernels.edge_magnitude(y, spacing), x)}
    if x.nbytes >= EAGER_MEMORY // 4:
        return runs
    return runs | {
        "eager, convolutions": forward_backward(lambda y: eager_magnitude(eager_one_hot(y)), x),
        "eager, shifts": forward_backward(lambda y: sliced_magnitude(eager_one_hot(y)), x),
        COMPILED: forward_backward(torch.compile(lambda y: sliced_magnitude(eager_one_hot(y)), dynamic=False), x),
        "kornia": _where("kornia", lambda: forward_backward(lambda y: _kornia_magnitude(eager_one_hot(y)), x)),
    }


def argmax_edges(x: Tensor) -> Runs:
    """Edges that restoration reads, forward and backward."""
    spacing = (1.0,) * (x.ndim - 2)
    return {
        "anatomad": forward_backward(lambda y: kernels.argmax_edges(y, spacing), x),
        "eager": forward_backward(lambda y: kernels.edges(eager_one_hot(y), spacing), x),
    }


def sobel(x: Tensor) -> Runs:
    """Gradient magnitude of an image."""
    image, spacing = x[:1, :1].contiguous(), (1.0,) * (x.ndim - 2)
    itk = sitk.GetImageFromArray(image[0, 0].numpy())
    return {
        "anatomad": lambda: kernels.sobel(image, spacing),
        "eager": lambda: eager_magnitude(image),
        "SimpleITK": lambda: sitk.GradientMagnitude(itk),
        "scipy": lambda: ndimage.generic_gradient_magnitude(image[0, 0].numpy(), ndimage.sobel),
        "kornia": _where("kornia", lambda: lambda: _kornia_magnitude(image)),
        "MONAI SobelGradients": _where("monai", lambda: _monai_magnitude(image)),
    }


def median(x: Tensor) -> Runs:
    """Median 5x5x5 of a score."""
    score = x[:1, :1].abs().contiguous()
    level = (score * (65535 / score.max())).round().to(torch.uint16)
    itk, side = sitk.GetImageFromArray(score[0, 0].numpy()), [2] * (x.ndim - 2)
    return {
        "anatomad": lambda: kernels.median(level),
        "SimpleITK": lambda: sitk.Median(itk, side),
        "scipy": lambda: ndimage.median_filter(level[0, 0].numpy(), 5, mode="nearest"),
        "MONAI MedianSmooth": _where("monai", lambda: _monai_median(score)),
    }


def resample(x: Tensor) -> Runs:
    """Labels on a grid 1.25 times as fine."""
    axes = x.ndim - 2
    shape = [n * 5 // 4 for n in x.shape[2:]]
    matrix = [[(x.shape[d + 2] - 1) / (shape[d] - 1) * (i == d) for i in range(axes + 1)] for d in range(axes)]
    mode = "trilinear" if axes == 3 else "bilinear"
    return {
        "anatomad": lambda: kernels.resample_argmax(x, matrix, shape),
        "interpolate + argmax": lambda: F.interpolate(x, size=shape, mode=mode, align_corners=True).argmax(1),
    }


def contrast(x: Tensor) -> Runs:
    """An image drawn from a tissue map."""
    label, means, spreads = kernels.label_map(x), torch.rand(x.shape[1]), torch.rand(x.shape[1])

    def eager() -> Tensor:
        index = label.long()
        return means[index] + spreads[index] * torch.randn(label.shape)

    return {"anatomad": lambda: kernels.contrast(label, means, spreads, 1), "eager": eager}


def group_norm_silu(x: Tensor) -> Runs:
    """Normalisation and activation at a U-Net's finest level, both ways, in half precision, channels innermost."""
    axes = x.ndim - 2
    size = [side // 2 for side in x.shape[2:]]
    layout = torch.channels_last if axes == 2 else torch.channels_last_3d
    features = torch.randn(x.shape[0], 16, *size).bfloat16().contiguous(memory_format=layout)
    weight, bias = torch.rand(16), torch.rand(16)
    runs = {
        "anatomad": lambda y: kernels.group_norm_silu(y, 8, weight, bias),
        "eager": lambda y: F.silu(F.group_norm(y, 8, weight, bias)),
        "eager, copied to rows": lambda y: F.silu(F.group_norm(y.contiguous(), 8, weight, bias)).contiguous(
            memory_format=layout
        ),
    }
    return {name: forward_backward(run, features) for name, run in runs.items()}


TASKS: dict[str, Callable[[Tensor], Runs]] = {
    "label_map": label_map,
    "one_hot_argmax": one_hot,
    "one_hot_argmax, Gumbel": gumbel,
    "argmax_edges": argmax_edges,
    "edge_magnitude": edge_magnitude,
    "sobel": sobel,
    "median": median,
    "resample_argmax": resample,
    "contrast": contrast,
    "group_norm_silu": group_norm_silu,
}
OF_CLASSES = 5  # the first tasks depend on the number of classes; the others run once


def measured(runs: dict[str, Run], seconds: float) -> dict[str, float]:
    """Median milliseconds of each; they take turns until the time is up, at least three times."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    began = time.perf_counter()
    while len(times["anatomad"]) < 3 or (time.perf_counter() - began < seconds and len(times["anatomad"]) < 50):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def copy() -> Run:
    """A plain copy of memory that both sides keep."""
    source, target = torch.ones(COPIED), torch.zeros(COPIED)
    return lambda: target.copy_(source)


def allocator() -> str:
    """What decides where results lie: variables that the C library and torch read, and the system's huge pages."""
    names = [name for name in os.environ if name.startswith("MALLOC_") or name in ALLOCATORS]
    told = " ".join(f"{name}={os.environ[name]}" for name in sorted(names)) or "default"
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return f"{told}; huge pages: {huge.read_text().strip() if huge.exists() else 'unknown'}"


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each operator, shape, number of classes and map."""
    for index, (task, prepare) in enumerate(TASKS.items()):
        if task not in options.operators:
            continue
        for shape in (SHAPES[name] for name in options.shapes):
            for classes in options.classes if index < OF_CLASSES else options.classes[:1]:
                for tissue in (synthetic, atlas):
                    torch.manual_seed(0)
                    x = logits_of(tissue(shape, classes), classes)
                    runs = prepare(x)
                    load = os.getloadavg()[0]
                    turns = {name: run for name, run in runs.items() if run} | {"copy": copy()}
                    times = measured(turns, options.seconds)
                    own, copied = times.pop("anatomad"), times.pop("copy")
                    yield {
                        "operator": task,
                        "shape": [shape[0], classes, *shape[1:]] if index < OF_CLASSES else list(shape[1:]),
                        "map": tissue.__name__,
                        "anatomad_ms": round(own, 3),
                        "times_as_fast_as": {name: round(ms / own, 2) for name, ms in times.items()},
                        "not_installed": [name for name, run in runs.items() if run is None],
                        "copy_gb_s": round(2 * 4 * COPIED / copied / 1e6, 1),
                        "threads": options.threads,
                        "load_before": round(load, 2),
                        "allocator": allocator(),
                    }
                    torch.compiler.reset()


def merged(older: list[dict[str, Any]], newer: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows, in the operators' order; the newer of two that measure the same under the same allocator."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return list(TASKS).index(row["operator"]), len(row["shape"]), row["shape"], row["map"], row["allocator"]

    of = {json.dumps(key(row)): row for row in (*older, *newer)}
    return sorted(of.values(), key=key)


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    faster = [f"{name} {ratio:.1f}x" for name, ratio in row["times_as_fast_as"].items()]
    faster += [f"{name}: not installed" for name in row["not_installed"]]
    start = f"{row['operator']:<24}{row['shape']!s:<24}{row['map']:<11}{row['anatomad_ms']:>10.2f} ms  "
    return start + "  ".join(faster)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--classes", type=int, nargs="+", default=[9, 4, 32])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(options.threads)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "backends": kernels.info(),
    }
    found = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []
    for row in rows(options):
        found = merged(found, [row])
        sys.stdout.write(line_of(row) + "\n")
        sys.stdout.flush()
        write_json(RESULT, {"machine": machine, "rows": found})


if __name__ == "__main__":
    main()
