"""The floors of docs/concepts/architecture.md: no import upwards, and no torch where none is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = {"errors", "parallel", "progress", "__init__"}
STANDS_ON = {
    "io": set(),
    "kernels": set(),
    "preprocess": {"io", "planner"},
    "planner": {"io", "preprocess"},
    "convert": {"io", "planner"},
    "synth": {"kernels", "planner", "preprocess"},
    "models": {"kernels", "planner"},
    "train": {"io", "kernels", "planner", "preprocess", "synth", "models", "predict"},
    "predict": {"io", "kernels", "planner", "preprocess", "synth", "models"},
    "evaluate": {"io", "planner"},
    "benchmark": {"io", "kernels", "planner", "evaluate", "demo"},
    "baselines": {"kernels", "planner", "preprocess", "synth", "models", "train", "predict"},
    "demo": {"io", "kernels", "planner", "preprocess", "synth", "models", "train", "predict", "evaluate"},
}
WITHOUT_TORCH = ("io", "planner", "preprocess", "evaluate", "convert")


def folder(package: str) -> Path:
    return ROOT / "planner" if package == "planner" else ROOT / "anatomad" / package


def modules(package: str) -> list[Path]:
    return sorted(folder(package).rglob("*.py"))


def dotted(package: str, module: Path) -> str:
    parts = module.relative_to(folder(package)).with_suffix("").parts
    return ".".join(["anatomad", package, *parts]).removesuffix(".__init__")


def imported_packages(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} if node.module != "anatomad" else {f"anatomad.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("anatomad.")}


@pytest.mark.parametrize("package", STANDS_ON)
def test_no_import_upwards(package: str) -> None:
    allowed = STANDS_ON[package] | SHARED | {package}
    upwards = {module.name: extra for module in modules(package) if (extra := imported_packages(module) - allowed)}
    assert not upwards


def test_every_package_has_a_floor() -> None:
    packages = {path.parent.name for path in (ROOT / "anatomad").glob("*/__init__.py")}
    assert packages - {"cli"} | {"planner"} == STANDS_ON.keys()


def test_torch_stays_where_it_is_used() -> None:
    names = []
    for package in WITHOUT_TORCH:
        names += [dotted(package, module) for module in modules(package)]
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
