"""What Triton makes of every kernel for two generations of GPUs, without one: registers, spills, vector loads."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anatomad.kernels.backends import triton as backend

triton = pytest.importorskip("triton", reason="triton is not installed: pip install 'anatomad[triton]'")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

MOST_REGISTERS = 128
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.uint8: "*u8"}
POINTERS |= {torch.uint16: "*u16"}


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def calls(*spatial: int, classes: int = 9, dtype: torch.dtype = torch.bfloat16) -> dict[str, Callable[[], object]]:
    """Every operator on a shape of those that are trained with."""
    x, one = meta(2, classes, *spatial, dtype=dtype), meta(2, 1, *spatial, dtype=dtype)
    label, axes = meta(2, 1, *spatial, dtype=torch.uint8), len(spatial)
    table = meta(2, classes, dtype=torch.float32)
    weights, upstream = [1.0, 0.5, 0.8][:axes], meta(2, axes, *spatial, dtype=dtype)
    matrix = [float(i == j) for i in range(axes) for j in range(axes + 1)]
    return {
        "label_map": lambda: backend.label_map(x),
        "one_hot": lambda: backend.one_hot_argmax(x, 1.0, None),
        "one_hot, Gumbel": lambda: backend.one_hot_argmax(x, 1.0, 3),
        "one_hot backward": lambda: backend.one_hot_argmax_backward(x, x, 1.0, None),
        "one_hot backward, Gumbel": lambda: backend.one_hot_argmax_backward(x, x, 1.0, 3),
        "label_edges": lambda: backend.label_edges(label, weights),
        "argmax_edges backward": lambda: backend.argmax_edges_backward(upstream, x, label, weights, 1.0),
        "edge_magnitude": lambda: backend.label_edge_magnitude(label, weights, 1e-6),
        "edge_magnitude backward": lambda: backend.edge_magnitude_backward(one, one, label, x, weights, 1.0),
        "sobel": lambda: backend.sobel(one, weights, 1e-6),
        "sobel backward": lambda: backend.sobel_backward(one, one, weights, 1e-6),
        "median": lambda: backend.median(meta(1, 1, *spatial, dtype=torch.uint16), 5),
        "resample_argmax": lambda: backend.resample_argmax(x, matrix, spatial),
        "contrast": lambda: backend.contrast(label, table, table, 3),
        "soft_contrast": lambda: backend.soft_contrast(
            meta(2, classes, *spatial, dtype=torch.float32), table, table, 3
        ),
    }


FLAT, DEEP = calls(192, 192, dtype=torch.float32), calls(160, 192, 160)
VECTORS = {
    "label_map": "ld",
    "one_hot": "ld",
    "one_hot backward": "ld",
    "contrast": "st",
    "soft_contrast": "ld",
}  # what must move 16 bytes


def compiled(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], arch: int) -> list[Any]:
    """The kernels that a call would launch, with its arguments' types and the divisibility that a launch would see."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    found = []

    def compile_instead(
        name: str, jobs: int, *given: Any, warps: int = 4, fused: bool = True, **constants: Any
    ) -> None:
        file, kernel = name.split(".")
        module = importlib.import_module(f"anatomad.kernels._triton.{file}")
        function = getattr(module, f"{kernel}_kernel")
        signature: dict[str, str] = {}
        fixed: dict[tuple[int], Any] = {}
        hints: dict[tuple[int], list[list[Any]]] = {}
        for i, parameter in enumerate(function.arg_names):
            value = constants[parameter] if parameter in constants else given[i]
            if parameter in constants or (isinstance(value, int) and value == 1):
                signature[parameter], fixed[(i,)] = "constexpr", value
                continue
            if isinstance(value, Tensor):
                signature[parameter] = POINTERS[value.dtype]
            else:
                signature[parameter] = "fp32" if isinstance(value, float) else "i32" if abs(value) < 2**31 else "i64"
            if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0 and "seed" not in parameter):
                hints[(i,)] = [["tt.divisibility", 16]]
        source = ASTSource(fn=function, signature=signature, constexprs=fixed, attrs=hints)
        options = {"num_warps": warps, "enable_fp_fusion": fused}
        found.append(triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options))

    monkeypatch.setattr(backend, "launch", compile_instead)
    monkeypatch.setattr(backend.shared, "check_labels", lambda labels, classes: None)  # there are no values to check
    call()
    return found


def resources(cubin: bytes, folder: Path) -> dict[str, int]:
    (folder / "kernel.cubin").write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [tool, "-res-usage", folder / "kernel.cubin"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", output)}


@pytest.mark.parametrize("name", DEEP)
def test_registers_spills_and_vector_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shapes, arch in itertools.product((FLAT, DEEP), (80, 90)):
        for kernel in compiled(monkeypatch, shapes[name], arch):
            used = resources(kernel.asm["cubin"], tmp_path)
            print(name, arch, kernel.metadata.name, used)  # noqa: T201  (shown where it fails)
            assert used["STACK"] == used["LOCAL"] == 0
            assert used["REG"] <= MOST_REGISTERS
            if name in VECTORS:
                assert re.search(rf"{VECTORS[name]}\.global\S*\.v4\.b32", kernel.asm["ptx"])
