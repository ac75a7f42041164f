"""Predict one case and die by SIGKILL halfway through writing the file of the given number.

python -m tests.predict.killer MODEL SCAN OUT NUMBER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from anatomad.io import commit
from anatomad.planner.dataset import discover_cases
from anatomad.predict.case import predict_case
from anatomad.predict.folder import load_model


def main(model: str, scan: str, out: str, number: str) -> None:
    left, write = [int(number)], commit._write_synced

    def die(temporary: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] == 0:
            temporary.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(temporary, data)

    commit._write_synced = die
    predict_case(discover_cases(Path(scan))[0], load_model(Path(model)), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
