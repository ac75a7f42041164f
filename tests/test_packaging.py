"""The wheel holds what it should and builds without a compiler; importing and asking for help are quick."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
HEAVY = {"torch", "scipy", "nibabel", "SimpleITK", "matplotlib", "batchgenerators", "rich", "pydantic"}
LIMIT_S = 0.3


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, with nothing but Python on the path."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("anatomad", "planner", "csrc", "pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        (source / name).symlink_to(ROOT / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    environment = {"PATH": str(folder), "HOME": str(folder), "CC": "no-compiler", "PIP_NO_INDEX": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("anatomad-*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_every_module_the_atlas_and_the_bundled_model(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "anatomad").rglob("*.py")}
    planner = {f"anatomad/planner/{path.name}" for path in (ROOT / "planner").glob("*.py")}
    folders = [ROOT / "anatomad" / "preprocess" / "data", ROOT / "anatomad" / "predict" / "bundled"]
    data = {path.relative_to(ROOT).as_posix() for folder in folders for path in folder.iterdir()}
    assert modules | planner | data | {"anatomad/py.typed"} == {name for name in held if ".dist-info/" not in name}
    assert {Path(name).name for name in data} >= {"atlas.npz", "weights.safetensors", "README.md"}


def test_wheel_is_pure_and_carries_the_notices(wheel: zipfile.ZipFile) -> None:
    assert wheel.filename is not None
    assert wheel.filename.endswith("-py3-none-any.whl")
    assert {Path(name).name for name in wheel.namelist() if "/licenses/" in name} == {"LICENSE", "NOTICE"}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_brings_nothing_along() -> None:
    loaded = set(python("import sys, anatomad; print(*sys.modules)").split())
    assert not loaded & (HEAVY | {"numpy", "argparse"})


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_quick(script: str) -> None:
    module, function = SCRIPTS[script].split(":")
    code = f"""
import sys, time
from {module} import {function}
try:
    {function}(["--help"])
except SystemExit as end:
    assert not end.code
print("\\n", time.process_time(), *sys.modules)
"""
    output = python(code).splitlines()[-1].split()
    loaded = set(output[1:])
    assert not loaded & HEAVY
    # The processor's time since the interpreter began, so that a busy machine does not matter.
    assert float(output[0]) <= LIMIT_S


def test_commands_are_installed() -> None:
    folder = Path(sys.executable).parent
    for script in SCRIPTS:
        if not os.access(folder / script, os.X_OK):
            pytest.skip(f"{script} is not beside {sys.executable}: anatomad is not installed there")
        shown = subprocess.run([folder / script, "--version"], capture_output=True, text=True, check=True).stdout
        assert shown.startswith("anatomad ")
