"""Speed of the operators against what they replace.

``python benchmarks/kernels.py [--classes 4 9 32] [--only NAME ...] [--threads N]``

Every row is a ratio within one run: the operator and its rivals take turns, and medians are compared. Rivals: framework
calls (eager and torch.compile), ``F.gumbel_softmax``, kornia where it can be imported, SimpleITK and scipy. Logits are
drawn around a smooth random tissue map and around the bundled atlas' tissues, which are real. Writes a table to
standard output and ``benchmarks/results/kernels.json``. It asks for an idle machine: two threads that share a processor
with other work wait for each other. The file says how busy it was.
"""

from __future__ import annotations

import argparse
import importlib.util
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
RESULT = Path(__file__).parent / "results" / "kernels.json"
SHAPES = {"2D": (8, 192, 192), "3D": (1, 160, 192, 160)}
EAGER_MEMORY = 2**31  # logits of this size and more are too much for eager edges, which keep six copies
COMPILED = "torch.compile"


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


def _with_kornia(run: Callable[[], Run]) -> dict[str, Run]:
    return {"kornia": run()} if importlib.util.find_spec("kornia") else {}


def one_hot(x: Tensor) -> dict[str, Run]:
    """Differentiable one-hot, forward and backward."""
    return {
        "anatomad": forward_backward(kernels.one_hot_argmax, x),
        "eager": forward_backward(eager_one_hot, x),
        COMPILED: forward_backward(torch.compile(eager_one_hot, dynamic=False), x),
    }


def gumbel(x: Tensor) -> dict[str, Run]:
    """The same with Gumbel noise."""
    return {
        "anatomad": forward_backward(lambda y: kernels.one_hot_argmax(y, gumbel_seed=1), x),
        "F.gumbel_softmax": forward_backward(lambda y: F.gumbel_softmax(y, hard=True, dim=1), x),
    }


def label_map(x: Tensor) -> dict[str, Run]:
    """Label map."""
    return {"anatomad": lambda: kernels.label_map(x), "torch.argmax": lambda: x.argmax(1)}


def edge_magnitude(x: Tensor) -> dict[str, Run]:
    """Edge magnitude of the one-hot, forward and backward."""
    spacing = (1.0,) * (x.ndim - 2)
    runs = {"anatomad": forward_backward(lambda y: kernels.edge_magnitude(y, spacing), x)}
    if x.nbytes >= EAGER_MEMORY // 4:
        return runs
    return (
        runs
        | {
            "eager, convolutions": forward_backward(lambda y: eager_magnitude(eager_one_hot(y)), x),
            "eager, shifts": forward_backward(lambda y: sliced_magnitude(eager_one_hot(y)), x),
            COMPILED: forward_backward(torch.compile(lambda y: sliced_magnitude(eager_one_hot(y)), dynamic=False), x),
        }
        | _with_kornia(lambda: forward_backward(lambda y: _kornia_magnitude(eager_one_hot(y)), x))
    )


def argmax_edges(x: Tensor) -> dict[str, Run]:
    """Edges that restoration reads, forward and backward."""
    spacing = (1.0,) * (x.ndim - 2)
    return {
        "anatomad": forward_backward(lambda y: kernels.argmax_edges(y, spacing), x),
        "eager": forward_backward(lambda y: kernels.edges(eager_one_hot(y), spacing), x),
    }


def sobel(x: Tensor) -> dict[str, Run]:
    """Gradient magnitude of an image."""
    image, spacing = x[:1, :1].contiguous(), (1.0,) * (x.ndim - 2)
    itk = sitk.GetImageFromArray(image[0, 0].numpy())
    return {
        "anatomad": lambda: kernels.sobel(image, spacing),
        "eager": lambda: eager_magnitude(image),
        "SimpleITK": lambda: sitk.GradientMagnitude(itk),
        "scipy": lambda: ndimage.generic_gradient_magnitude(image[0, 0].numpy(), ndimage.sobel),
    } | _with_kornia(lambda: lambda: _kornia_magnitude(image))


def median(x: Tensor) -> dict[str, Run]:
    """Median 5x5x5 of a score."""
    score = x[:1, :1].abs().contiguous()
    level = (score * (65535 / score.max())).round().to(torch.uint16)
    itk, side = sitk.GetImageFromArray(score[0, 0].numpy()), [2] * (x.ndim - 2)
    return {"anatomad": lambda: kernels.median(level), "SimpleITK": lambda: sitk.Median(itk, side)}


def resample(x: Tensor) -> dict[str, Run]:
    """Labels on a grid 1.25 times as fine."""
    axes = x.ndim - 2
    shape = [n * 5 // 4 for n in x.shape[2:]]
    matrix = [[(x.shape[d + 2] - 1) / (shape[d] - 1) * (i == d) for i in range(axes + 1)] for d in range(axes)]
    mode = "trilinear" if axes == 3 else "bilinear"
    return {
        "anatomad": lambda: kernels.resample_argmax(x, matrix, shape),
        "interpolate + argmax": lambda: F.interpolate(x, size=shape, mode=mode, align_corners=True).argmax(1),
    }


def contrast(x: Tensor) -> dict[str, Run]:
    """An image drawn from a tissue map."""
    label, means, spreads = kernels.label_map(x), torch.rand(x.shape[1]), torch.rand(x.shape[1])

    def eager() -> Tensor:
        index = label.long()
        return means[index] + spreads[index] * torch.randn(label.shape)

    return {"anatomad": lambda: kernels.contrast(label, means, spreads, 1), "eager": eager}


TASKS: dict[str, Callable[[Tensor], dict[str, Run]]] = {
    "label_map": label_map,
    "one_hot_argmax": one_hot,
    "one_hot_argmax, Gumbel": gumbel,
    "argmax_edges": argmax_edges,
    "edge_magnitude": edge_magnitude,
    "sobel": sobel,
    "median": median,
    "resample_argmax": resample,
    "contrast": contrast,
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


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each operator, shape, number of classes and map."""
    for index, (task, prepare) in enumerate(TASKS.items()):
        if options.only and task not in options.only:
            continue
        for shape in SHAPES.values():
            for classes in options.classes if index < OF_CLASSES else options.classes[:1]:
                for tissue in (synthetic, atlas):
                    torch.manual_seed(0)
                    x = logits_of(tissue(shape, classes), classes)
                    times = measured(prepare(x), options.seconds)
                    own = times.pop("anatomad")
                    yield {
                        "operator": task,
                        "shape": [shape[0], classes, *shape[1:]] if index < OF_CLASSES else list(shape[1:]),
                        "map": tissue.__name__,
                        "anatomad_ms": round(own, 3),
                        "times_as_fast_as": {name: round(ms / own, 2) for name, ms in times.items()},
                    }
                    torch.compiler.reset()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[9, 4, 32])
    parser.add_argument("--only", nargs="+", choices=TASKS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(options.threads)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": options.threads,
        "load_before": os.getloadavg()[0],
        "torch": torch.__version__,
        "allocator": f"THP_MEM_ALLOC_ENABLE={os.environ.get('THP_MEM_ALLOC_ENABLE', 'unset')}",
        "backends": kernels.info(),
    }
    found = []
    for row in rows(options):
        found.append(row)
        faster = "  ".join(f"{name} {ratio:.1f}x" for name, ratio in row["times_as_fast_as"].items())
        line = f"{row['operator']:<24}{row['shape']!s:<24}{row['map']:<11}{row['anatomad_ms']:>10.2f} ms  {faster}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    write_json(RESULT, {"machine": machine, "rows": found})


if __name__ == "__main__":
    main()
