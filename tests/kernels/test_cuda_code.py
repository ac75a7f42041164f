"""What nvcc makes of every CUDA kernel, without a GPU: registers, spills, vector loads."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
MOST_REGISTERS = 128
VECTORS = {"one_hot"}  # sources whose kernels must move 16 bytes at once


def reader() -> Path | None:
    """The tool that reads machine code: of the CUDA toolkit, or the one that triton brings along."""
    found = shutil.which("cuobjdump")
    if found:
        return Path(found)
    try:
        import triton
    except ImportError:
        return None
    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def read(cubin: Path, what: str) -> str:
    command = [str(reader()), what, str(cubin)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.skipif(reader() is None, reason="cuobjdump is not installed: it is part of the CUDA toolkit and of triton")
@pytest.mark.parametrize("generation", ["sm_80", "sm_90"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_registers_spills_and_vector_loads(source: Path, generation: str, tmp_path: Path) -> None:
    cubin = tmp_path / "kernels.cubin"
    command = ["nvcc", "-std=c++17", "-O3", "-fmad=false", f"-arch={generation}", "-cubin", "-o", cubin, source]
    subprocess.run(command, check=True, capture_output=True)
    output = read(cubin, "-res-usage")
    kernels = re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) \S+ LOCAL:(\d+)", output)
    assert kernels
    for name, registers, stack, local in kernels:
        assert int(registers) <= MOST_REGISTERS, name
        assert (int(stack), int(local)) == (0, 0), name
    if source.stem in VECTORS:
        machine = read(cubin, "-sass")
        assert "LDG.E.128" in machine
        assert "STG.E.128" in machine
