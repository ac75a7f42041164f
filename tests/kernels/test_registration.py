"""Registration with torch, the choice of a backend, and what is refused before a kernel starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from anatomad.errors import UsageError
from anatomad.kernels import (
    _select,
    argmax_edges,
    contrast,
    edge_magnitude,
    edges,
    info,
    label_map,
    median,
    one_hot_argmax,
    resample_argmax,
    serving,
    sobel,
)
from anatomad.kernels._ops import OPERATORS
from tests.kernels.cases import normal, patches

X = patches(2, 3, 4, 5, 6)
LABELS = label_map(X)
WEIGHTS = [1.0, 0.5, 0.25]
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "label_map": (X,),
    "one_hot_argmax": (X, 0.7, 3),
    "one_hot_argmax_backward": (X, X, 0.7, None),
    "label_edges": (LABELS, WEIGHTS),
    "argmax_edges": (X, WEIGHTS, 0.7),
    "argmax_edges_backward": (X, X, LABELS, WEIGHTS, 0.7),
    "label_edge_magnitude": (LABELS, WEIGHTS, 1e-6),
    "edge_magnitude": (X, WEIGHTS, 0.7, 1e-6),
    "edge_magnitude_backward": (X[:, :1], X[:, :1].exp(), LABELS, X, WEIGHTS, 0.7),
    "sobel": (X, WEIGHTS, 1e-6),
    "sobel_backward": (X, X, WEIGHTS, 1e-6),
    "median": (LABELS, 3),
    "resample_argmax": (X, [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], [3, 4, 5]),
    "contrast": (LABELS, normal(2, 3), normal(2, 3), 5),
    "soft_contrast": (X, normal(2, 3), normal(2, 3), 5),
}
DIFFERENTIABLE = ("one_hot_argmax", "argmax_edges", "edge_magnitude", "sobel")


@pytest.mark.parametrize("operator", OPERATORS)
def test_opcheck(operator: str, backend: str) -> None:
    arguments = [
        a.clone().requires_grad_(operator in DIFFERENTIABLE and a.is_floating_point()) if isinstance(a, Tensor) else a
        for a in ARGUMENTS[operator]
    ]
    torch.library.opcheck(getattr(torch.ops.anatomad, operator).default, arguments)


def everything(x: Tensor) -> Tensor:
    spacing = (1.0, 2.0, 1.5)
    hard = one_hot_argmax(x, 0.7, gumbel_seed=3)
    edge = argmax_edges(x, spacing).sum() + edge_magnitude(x, spacing, temperature=0.5, smoothing=2.0).sum()
    drawn = [contrast(t, torch.arange(3.0), torch.ones(3), 4) for t in (label_map(x), x.detach().exp())]
    smooth = sobel(drawn[0] + drawn[1] + x, spacing)
    return (hard * x).sum() + edge + smooth.sum() + edges(label_map(x), spacing).sum()


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_compiled_in_one_graph(compiler: str, backend: str) -> None:
    results = []
    for run in (everything, torch.compile(everything, fullgraph=True, backend=compiler)):
        leaf = X.clone().requires_grad_()
        value = run(leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*results)


def test_autocast_gives_half_precision(backend: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.nn.Conv2d(1, 3, 1)(normal(1, 1, 5, 6))
        assert argmax_edges(logits, (1.0, 1.0)).dtype == one_hot_argmax(logits).dtype == torch.bfloat16


def test_the_edge_loss_keeps_little_for_the_backward_pass(backend: str) -> None:
    saved: list[Tensor] = []
    x = patches(1, 9, 16, 16, 16).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        edge_magnitude(x, (1.0, 1.0, 1.0))
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    assert sum(storages.values()) <= 1.2 * x.untyped_storage().nbytes()


def test_info_names_every_backend() -> None:
    assert info()["reference"] == "ready (plain torch)"
    assert info()["cpu"] == "cpp > reference"
    assert info()["gpu"] == "cuda > triton > reference"
    assert info()["cuda"].startswith(("ready (", "not built: ", "built"))
    assert info()["triton"].startswith(("ready (", "not installed: ", "installed, but "))
    assert info()["cpp"].startswith(("ready (", "not built: ", "built, but "))


def test_a_forced_backend_is_named(backend: str) -> None:
    assert info()["forced"] == backend
    assert serving("cpu").startswith(f"{backend}, ")


def test_what_serves_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_select.backend("cpp"), "status", lambda: "not built: no compiler")
    assert serving("cpu") == serving("mps") == "reference, plain torch"
    monkeypatch.setattr(_select.backend("triton"), "status", lambda: "ready (3.6)")
    monkeypatch.setattr(_select.backend("cuda"), "status", lambda: "built, but there is no CUDA device")
    assert serving("cuda") == "triton, 3.6"


def test_without_the_module_the_reference_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    cpp = _select.backend("cpp")
    monkeypatch.setattr(cpp, "_native", lambda: ImportError("no such module"))
    monkeypatch.setattr(cpp, "_level", lambda: None)
    assert info()["cpp"].startswith("not built")
    assert _select.backend_for("label_map", X).__name__.endswith("reference")
    monkeypatch.setenv(_select.VARIABLE, "cpp")
    with pytest.raises(
        UsageError, match=r"ANATOMAD_KERNELS=cpp cannot run label_map on torch.float32 \[2, 3, 4, 5, 6\]"
    ):
        label_map(X)


def test_a_forced_backend_that_cannot_serve_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_select.VARIABLE, "cpp")
    with pytest.raises(UsageError, match=r"cannot run label_map on torch.float64"):
        label_map(X.double())
    monkeypatch.setenv(_select.VARIABLE, "gpu")
    with pytest.raises(UsageError, match="ANATOMAD_KERNELS=gpu names no backend; expected one of"):
        label_map(X)


LONG = torch.zeros(1, 3, 4, 4, dtype=torch.long)
WIDE = torch.zeros(1, 65, 2, 2)
FLAT = torch.zeros(3, 4, 4)
LABEL = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
REFUSED: list[tuple[Callable[[], Tensor], str]] = [
    (lambda: label_map(FLAT), r"\[batch, class, \*spatial\] in 2D or 3D, got torch.float32 \[3, 4, 4\]"),
    (lambda: label_map(LONG), "torch.int64"),
    (lambda: one_hot_argmax(torch.zeros(1, 257, 2, 2)), "at most 256 classes, got 257"),
    (lambda: argmax_edges(WIDE, (1.0, 1.0)), "at most 64 classes, got 65"),
    (lambda: edge_magnitude(WIDE, (1.0, 1.0)), "at most 64 classes, got 65"),
    (lambda: edge_magnitude(LONG, (1.0, 1.0)), "torch.int64"),
    (lambda: edge_magnitude(X, (1.0, -1.0, 1.0)), r"spacing must be positive, got \(1.0, -1.0, 1.0\)"),
    (lambda: edge_magnitude(X, (1.0, 1.0)), "one spacing per spatial axis"),
    (lambda: edge_magnitude(X, (1.0, 1.0, 1.0), eps=0), "eps must be > 0, got 0"),
    (lambda: argmax_edges(X, (1.0, 1.0, 1.0), temperature=-1), "temperature must be > 0, got -1"),
    (lambda: argmax_edges(X, (1.0, float("nan"), 1.0)), "spacing must be positive"),
    (lambda: argmax_edges(X, (1.0, 1.0, 1.0), smoothing=-1.0), "smoothing must be finite and >= 0, got -1.0"),
    (lambda: edge_magnitude(X, (1.0, 1.0, 1.0), smoothing=float("inf")), "smoothing must be finite and >= 0, got inf"),
    (lambda: edges(X, (1.0, 1.0, 1.0), smoothing=float("nan")), "smoothing must be finite and >= 0, got nan"),
    (lambda: edges(LABEL, (1.0, 1.0), per_class=True), "one_hot"),
    (lambda: edges(LABEL.expand(1, 2, 4, 4), (1.0, 1.0)), r"labels must be uint8 \[batch, 1, \*spatial\]"),
    (lambda: sobel(LONG, (1.0, 1.0)), "torch.int64"),
    (lambda: sobel(FLAT, (1.0,)), r"\[3, 4, 4\]"),
    (lambda: median(LABEL, 4), "size must be one of .* got 4"),
    (lambda: median(LONG), "torch.int64"),
    (lambda: median(FLAT), r"\[3, 4, 4\]"),
    (lambda: median(torch.full((1, 1, 2, 2), float("nan"))), "finite"),
    (lambda: resample_argmax(WIDE, [[1, 0, 0]], (2, 2)), "matrix must be 2 x 3"),
    (lambda: resample_argmax(WIDE, [[1, 0, 0], [0, 1, float("inf")]], (2, 2)), "finite"),
    (lambda: resample_argmax(WIDE, [[1, 0, 0], [0, 1, 0]], (2, 2, 2)), "shape must give 2 sizes"),
    (lambda: resample_argmax(WIDE[..., :0], [[1, 0, 0], [0, 1, 0]], (2, 2)), "no voxel to interpolate"),
    (lambda: contrast(LONG, torch.zeros(2), torch.zeros(2), 0), "uint8"),
    (lambda: contrast(LABEL, torch.zeros(2), torch.zeros(3), 0), r"got \[2\] and \[3\]"),
    (lambda: contrast(LABEL, torch.zeros(2, device="meta"), torch.zeros(2), 0), "tissue on cpu, means on meta"),
    (lambda: contrast(X, torch.zeros(2), torch.zeros(2), 0), r"shares \[2, 3, 4, 5, 6\] need 3 means, got 2"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_bad_input_is_refused(call: Callable[[], Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
