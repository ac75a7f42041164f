"""Put a trained model into the package, where ``anatomad_predict`` takes it when no other is named.

Run from the repository root: ``python tools/bundle.py anatomad/Dataset001_HealthyT1/fold0``. Weights may only come from
data whose licence allows it; what the model is and can do is told by hand in ``anatomad/predict/bundled/README.md``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from anatomad.cli.predict import BUNDLED
from anatomad.errors import UsageError
from anatomad.io.atomic import write_bytes
from anatomad.predict.folder import CALIBRATION, DESCRIPTION, WEIGHTS, load_model

LARGEST = 16 << 20


def main() -> None:
    """Check the folder named on the command line and copy what prediction reads."""
    folder = Path(sys.argv[1])
    load_model(folder)
    files = {name: (folder / name).read_bytes() for name in (WEIGHTS, CALIBRATION, DESCRIPTION)}
    if (size := sum(map(len, files.values()))) > LARGEST:
        raise UsageError(f"{folder}: {size} bytes; the package takes up to {LARGEST}")
    for name, content in files.items():
        write_bytes(BUNDLED / name, content)


if __name__ == "__main__":
    main()
