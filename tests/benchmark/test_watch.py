from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from anatomad.benchmark.runs import LOG, Method, Run
from anatomad.benchmark.watch import Watch, last_line


def run_of(folder: Path, text: str) -> Run:
    folder.mkdir()
    (folder / LOG).write_text(text)
    return Run(Method("dal"), 0, folder, {})


@pytest.mark.parametrize(
    ("text", "line"),
    [("", ""), ("one\n\n  two \n\n", "two"), ("x" * 9000 + "\n" + "y" * 200, "y" * 110), ("\xff\nend", "end")],
)
def test_last_line(tmp_path: Path, text: str, line: str) -> None:
    assert last_line(run_of(tmp_path / "run", text)) == line


def test_says_what_grew_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grows, rests = run_of(tmp_path / "a", "step 5\n"), run_of(tmp_path / "b", "done\n")
    waits = Run(Method("dal"), 2, tmp_path / "none", {})
    os.utime(rests.folder / LOG, (0, 0))
    later = time.time() + 3600
    os.utime(grows.folder / LOG, (later, later))
    caplog.set_level(logging.INFO, "anatomad")
    logging.getLogger("anatomad").propagate = True
    with Watch([grows, rests, waits], every_s=0.01):
        while not caplog.records:
            time.sleep(0.01)
    assert {record.getMessage() for record in caplog.records} == {"dal, seed 0: step 5"}
