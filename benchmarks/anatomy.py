"""Anatomy encoder against known anatomy: label maps of real people, rendered in random contrasts.

    python benchmarks/anatomy.py --data DIR --model FOLDER [--contrasts 20]

``DIR/anatomies`` holds whole-head label maps and ``labels.json`` (FreeSurfer numbering). They measure only: training
never sees them. Every contrast is drawn on another person. Results go to ``benchmarks/results/anatomy.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray

from anatomad.cli.common import make_parser, run_command, say
from anatomad.io.atomic import write_json
from anatomad.io.geometry import working_grid
from anatomad.models.device import precision_of
from anatomad.planner.plan import Plan
from anatomad.predict.decompose import decompose
from anatomad.predict.folder import load_model
from anatomad.progress import track
from anatomad.synth.contrast import from_tissue, scanned
from anatomad.synth.deform import Patch
from anatomad.synth.draws import Draws
from benchmarks.phantoms import labels_of

RESULTS = Path(__file__).parent / "results" / "anatomy.json"
TISSUES = {
    "csf": (4, 5, 14, 15, 24, 30, 43, 44, 62, 72),
    "grey matter": (3, 8, 10, 11, 12, 13, 17, 18, 26, 42, 47, 49, 50, 51, 52, 53, 54, 58),
    "white matter": (2, 7, 16, 28, 41, 46, 60, 85),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("anatomy.py", "Anatomy encoder against known anatomy in random contrasts.")
    parser.add_argument("--data", required=True, type=Path, help="folder that holds anatomies/")
    parser.add_argument("--model", required=True, type=Path, help="folder of a finished model")
    parser.add_argument("--contrasts", type=int, default=20, help="number of renderings (default: 20)")
    return run_command(_benchmark, parser.parse_args(argv))


def _benchmark(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    paths = sorted((args.data / "anatomies").glob("*.nii.gz"))
    precision = precision_of(torch.device("cpu"), model.plan.precision)
    scores: dict[str, list[list[float]]] = {"encoder": [], "restored from edges": []}
    for number in track(range(args.contrasts), "contrasts"):
        patch = _patch(paths[number % len(paths)], model.plan)
        draws = Draws("benchmark", number)
        image = scanned(from_tissue(patch, draws, model.plan.randomisation), patch.mask, draws, model.plan)
        parts = decompose(model.networks, image[0, 0], patch.mask[0, 0], precision)
        truth, inside = patch.tissue[0, 1:].argmax(0), patch.mask[0, 0]
        for name, seen in (("encoder", parts.anatomy), ("restored from edges", parts.restored)):
            scores[name].append([_dice(seen.argmax(0), truth, inside, k) for k in range(len(TISSUES))])
    result = {name: _summary(np.array(rows)) for name, rows in scores.items()}
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, {"contrasts": args.contrasts, "weights": model.digest, "dice": result})
    say(json.dumps(result, indent=1))
    return 0


def _patch(path: Path, plan: Plan) -> Patch:
    named, affine = labels_of(path)
    native = np.stack([np.isin(named, numbers) for numbers in TISSUES.values()])
    grid = working_grid(named.shape, affine, plan.spacing_mm, native.any(0), plan.box, plan.multiple)
    tissue = torch.from_numpy(grid.to_working(native.astype(np.float32), order=1))[None].clamp(0, 1)
    mask = tissue.sum(1, keepdim=True) > 0.5
    tissue = torch.where(mask, tissue / tissue.sum(1, keepdim=True).clamp(min=1e-3), 0.0)
    return Patch(torch.cat([(~mask).float(), tissue], 1), mask.float(), mask, torch.zeros(1, 3, *mask.shape[2:]))


def _dice(seen: torch.Tensor, truth: torch.Tensor, inside: torch.Tensor, k: int) -> float:
    a, b = (seen == k) & inside, (truth == k) & inside
    return float(2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1))


def _summary(rows: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Mean and SD over contrasts, per tissue and of their mean."""
    columns = dict(zip(TISSUES, rows.T, strict=True)) | {"mean": rows.mean(1)}
    return {name: {"mean": round(float(v.mean()), 4), "sd": round(float(v.std()), 4)} for name, v in columns.items()}


if __name__ == "__main__":
    sys.exit(main())
