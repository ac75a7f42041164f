"""Plans or predicts in children and kills them; ``python -m tests.cli.killer plan|predict FOLDER`` prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from anatomad.cli import plan, predict
from tests.killing import killed_runs
from tests.predict.world import make_model_folder, write_scan

CASES = 3


def plan_dataset(root: Path) -> None:
    """Plan a data set of three brains in ROOT/work; its scans lie beside ROOT."""
    done = plan.main(["-d", str(root.parent / "Dataset001_Tiny"), "--work", str(root / "work"), "-j", "1"])
    if done:
        raise SystemExit(done)


def predict_folder(root: Path) -> None:
    """Judge three brains into ROOT/out."""
    argv = ["-i", str(root.parent / "scans"), "-o", str(root / "out"), "-m", str(root.parent / "model" / "fold0")]
    done = predict.main([*argv, "--each"])
    if done:
        raise SystemExit(done)


def main(what: str, root: Path) -> None:
    torch.set_num_threads(1)
    scans = root / ("scans" if what == "predict" else "Dataset001_Tiny/imagesTr")
    scans.mkdir(parents=True)
    for number in range(CASES):
        write_scan(scans / f"case{number}_0000.nii.gz", seed=number)
    if what == "predict":
        make_model_folder(root / "model")
    else:
        (scans.parent / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1w"}}))
    work = {"plan": plan_dataset, "predict": predict_folder}[what]
    sys.stdout.write("\n" + json.dumps(killed_runs(work, root, most_writes=6 if what == "plan" else 30)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
