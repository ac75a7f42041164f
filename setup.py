"""Package discovery, and the native operators of ``csrc`` where a compiler is found.

The top-level folder ``planner`` is installed as ``anatomad.planner``. The native module knows nothing of torch, so that
torch is not needed to build. Without a compiler anatomad installs all the same and runs on plain torch
(``anatomad.kernels.info()`` says so). Where ``nvcc`` is found too, the operators for GPUs are built. ``ANATOMAD_BUILD``
decides otherwise: ``none`` builds nothing, ``cpu`` what runs on CPU, ``cuda`` both, and then a failure is an error.
``CXX`` and ``NVCC`` name the compilers. Everything else about the project stands in pyproject.toml.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

SETTINGS = ("none", "cpu", "cuda")
CPU, CUDA = "anatomad.kernels._cpu", "anatomad.kernels._cuda"
# Fused products and sums would make results depend on the processor, and noise differ between backends.
FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fopenmp", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fno-trapping-math", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
X86 = platform.machine().lower() in ("x86_64", "amd64")
# The linker keeps the first of equal library functions: the lowest level comes first, and runs on every processor.
LEVELS = {
    "v2": ["-march=x86-64-v2"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
# Machine code for Ampere and Hopper, and an intermediate form for what came after.
CUDA_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-cudart", "static", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
CUDA_FLAGS += ["-gencode", "arch=compute_80,code=sm_80", "-gencode", "arch=compute_90,code=[sm_90,compute_90]"]


def setting() -> str | None:
    """What ``ANATOMAD_BUILD`` asks for; None: whatever works."""
    value = os.environ.get("ANATOMAD_BUILD") or None
    if value not in (None, *SETTINGS):
        sys.exit(f"ANATOMAD_BUILD={value} is not known; expected one of {', '.join(SETTINGS)}, or nothing")
    return value


def compiler() -> str | None:
    """The C++ compiler."""
    return shutil.which(os.environ.get("CXX", "")) or next(
        filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None
    )


def cuda_compiler() -> str | None:
    """The CUDA compiler."""
    return shutil.which(os.environ.get("NVCC", "nvcc"))


def modules() -> list[Extension]:
    """The native modules to build."""
    asked, found = setting(), []
    if asked != "none" and (asked or compiler()):
        found.append(Extension(CPU, sources("cpu", "cpp")))
    if asked == "cuda" or (asked is None and compiler() and cuda_compiler()):
        found.append(Extension(CUDA, sources("cuda", "c*")))
    return found


def sources(folder: str, ending: str) -> list[str]:
    """What is compiled of a folder of csrc."""
    paths = (path for path in Path("csrc", folder).glob(f"*.{ending}") if path.suffix != ".cuh")
    return sorted(path.as_posix() for path in paths)


def python_includes() -> list[str]:
    """Where pybind11 and Python have their headers."""
    import pybind11

    return [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_paths()['include']}"]


def cuda_build_file(sources: list[str], objects: Path, target: Path) -> str:
    """What ninja is told: every source once, for all generations, and one shared module."""
    lines = [
        f"nvcc = {cuda_compiler()}",
        f"flags = {' '.join([*CUDA_FLAGS, *python_includes()])}",
        "rule compile",
        "  command = $nvcc $flags -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "rule link",
        "  command = $nvcc -shared -cudart static $in -o $out",
    ]
    linked = [(objects / f"{Path(source).stem}.o").as_posix() for source in sources]
    for source, out in zip(sources, linked, strict=True):
        lines.append(f"build {out}: compile {Path(source).resolve().as_posix()}")
    lines.append(f"build {target.as_posix()}: link {' '.join(linked)}")
    return "\n".join(lines) + "\n"


def build_file(sources: list[str], objects: Path, target: Path) -> str:
    """What ninja is told: bind.cpp once, every other source once per level, one shared module."""
    levels = LEVELS if X86 else {"generic": []}
    lines = [
        f"cxx = {compiler()}",
        f"flags = {' '.join(FLAGS)}",
        "rule compile",
        "  command = $cxx $flags $more -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "rule link",
        "  command = $cxx -shared -fopenmp -s $in -o $out",
    ]
    linked = []

    def compiled(source: str, name: str, more: list[str]) -> None:
        out = objects / f"{name}.o"
        linked.append(out.as_posix())
        lines.extend(
            [f"build {out.as_posix()}: compile {Path(source).resolve().as_posix()}", f"  more = {' '.join(more)}"]
        )

    (bind,) = (source for source in sources if Path(source).stem == "bind")
    compiled(bind, "bind", [*python_includes(), *(["-DANATOMAD_X86"] if X86 else [])])
    for level, march in levels.items():
        for source in sources:
            if source != bind:
                compiled(source, f"{Path(source).stem}.{level}", [f"-DANATOMAD_LEVEL={level}", *march])
    lines.append(f"build {target.as_posix()}: link {' '.join(linked)}")
    return "\n".join(lines) + "\n"


class NinjaBuild(build_ext):
    """Builds with ninja; a failure is an error only where the build was asked for."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one module."""
        try:
            self._build(ext)
        except (OSError, ImportError, subprocess.CalledProcessError) as error:
            if setting() is not None:
                raise
            self.warn(f"{ext.name} was not built, anatomad will run without it: {error}")
            ext.optional = True  # nothing to copy into an editable install, and no error

    def _build(self, ext: Extension) -> None:
        import ninja

        if compiler() is None:
            raise OSError("no C++ compiler found; install one, name it with CXX, or set ANATOMAD_BUILD=none")
        if ext.name == CUDA and cuda_compiler() is None:
            raise OSError("no CUDA compiler found; install nvcc, name it with NVCC, or set ANATOMAD_BUILD=cpu")
        objects = Path(self.build_temp, ext.name).resolve()
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        objects.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        told = (cuda_build_file if ext.name == CUDA else build_file)(ext.sources, objects, target)
        (objects / "build.ninja").write_text(told, encoding="utf-8")
        subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", objects, "-j", str(os.cpu_count() or 1)], check=True)


setup(
    packages=[*find_packages(include=["anatomad", "anatomad.*"]), "anatomad.planner"],
    package_dir={"anatomad.planner": "planner"},
    package_data={"anatomad": ["py.typed"], "anatomad.preprocess": ["data/*"], "anatomad.predict": ["bundled/*"]},
    include_package_data=False,
    ext_modules=modules(),
    cmdclass={"build_ext": NinjaBuild},
)
