"""``anatomad_plan`` and ``anatomad_predict`` killed at any moment: the same command goes on to the same files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file; ``plan.html`` names the folder in the command to type next."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content.replace(os.fsencode(folder), b"FOLDER") for name, content in files.items()}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["plan", "predict"])
def test_killed_runs_leave_what_a_whole_one_leaves(what: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cli.killer", what, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    whole = tree(tmp_path / "whole")
    assert len(whole) > 6
    for number in range(int(told["finished"])):
        assert tree(tmp_path / f"killed{number}") == whole
