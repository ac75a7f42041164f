"""What every part of the score is worth where texture is real: lesions painted into scans held out of training.

    python benchmarks/painted_detection.py --data DIR [--model FOLDER] [--people N] [--work DIR]

``DIR`` holds the data set that the model was trained on. Into every scan of the fold's validation part the diseases of
``anatomad/synth/disease.py`` are painted: in its own contrast, in one that falls where its own rises, and in any map of
its intensities under which its tissues have another order. Each is judged by the model's score and by the score without
each of its parts. The score was chosen on lesions of these kinds in these scans, other draws of them. What is done lies
in ``--work``: a run that was stopped goes on. Results go to ``benchmarks/results/painted_detection.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor

from anatomad.cli.common import make_parser, run_command, say
from anatomad.cli.predict import BUNDLED
from anatomad.io.atomic import write_json
from anatomad.planner.dataset import RawDataset, find_dataset
from anatomad.planner.splits import make_splits, read_participants
from anatomad.predict.choice import average_precision
from anatomad.predict.folder import Model, load_model
from anatomad.predict.trials import Contrast, diseased_trial, in_another_order, in_its_own, likeness, whole_scan
from anatomad.preprocess.store import StoredCase, load_case, preprocess_case
from anatomad.progress import track
from anatomad.synth.contrast import remapped
from anatomad.synth.deform import Patch
from anatomad.synth.disease import DISEASES, Disease
from anatomad.synth.draws import Draws
from benchmarks.phantom_detection import WHOLE, gain, kept, mean, results_of, scores_of

RESULTS = Path(__file__).parent / "results" / "painted_detection.json"
FALLING = -0.7  # correlation with the scan


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("painted_detection.py", "Parts of the score, on lesions painted into real scans.")
    parser.add_argument("--data", required=True, type=Path, help="folder of the data sets")
    parser.add_argument("--model", type=Path, default=BUNDLED, help="folder of a finished model (default: the bundled)")
    parser.add_argument("--people", type=int, help="how many of the validation scans (default: all)")
    parser.add_argument("--work", type=Path, default=Path("painted-work"), help="folder for what is done")
    return run_command(_benchmark, parser.parse_args(argv))


def _benchmark(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    done = results_of(model, args.work)
    cases = list(_validation(find_dataset(model.plan.dataset, args.data), model, args.work / "store"))[: args.people]
    rows = []
    for case, disease in track([(case, disease) for case in cases for disease in DISEASES], "painted scans"):
        target = done / f"{case.id}_{disease.__name__}.json"
        rows.append(kept(target, lambda c=case, d=disease: _judged(model, c, d)))
    result = {"model": model.digest, "people": len(cases), **summary(rows)}
    write_json(RESULTS, result)
    say(json.dumps(result, indent=1))
    return 0


def _validation(dataset: RawDataset, model: Model, store: Path) -> Iterator[StoredCase]:
    """The cases that calibrated the model, prepared as they were for it."""
    cases = {case.id: case for case in dataset.training_cases()}
    folds = make_splits(list(cases), read_participants(dataset.path), model.plan.folds, model.plan.seed)
    fold = json.loads((model.folder / "model.json").read_bytes())["fold"]
    for case_id in folds[int(fold.removeprefix("fold"))].val:
        preprocess_case(cases[case_id], model.plan, store)
        yield load_case(store, case_id)


def _falling(brain: Patch, draws: Draws) -> Tensor:
    while likeness(image := remapped(brain, draws), brain) > FALLING:
        pass
    return image


CONTRASTS: dict[str, Contrast] = {"own": in_its_own, "falling": _falling, "another order": in_another_order}


def _judged(model: Model, case: StoredCase, disease: Disease) -> dict[str, Any]:
    """Average precision of every score in every contrast of a diseased scan."""
    return {
        "person": case.id,
        "disease": disease.__name__,
        "sequences": {name: _precisions(model, case, disease, name) for name in CONTRASTS},
    }


def _precisions(model: Model, case: StoredCase, disease: Disease, contrast: str) -> dict[str, float]:
    key = "painted", case.id, disease.__name__, contrast
    brain = whole_scan(case, torch.device("cpu"))
    trial = diseased_trial(brain, disease, CONTRASTS[contrast], key, model.plan)
    lesion = trial.lesion[trial.mask].numpy()
    return {name: average_precision(v, lesion) for name, v in scores_of(model, trial.image, trial.mask)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean average precision of each score, by contrast and by disease, and what the whole score gains."""
    names = list(rows[0]["sequences"]["own"])

    def average(name: str, contrast: str | None = None, disease: str | None = None) -> float:
        chosen = [row for row in rows if disease in (None, row["disease"])]
        return mean(found[name] for r in chosen for k, found in r["sequences"].items() if contrast in (None, k))

    return {
        "mean_ap": {name: average(name) for name in names},
        "whole_score_gains": {name: gain(rows, name) for name in names if name != WHOLE},
        "ap_by_contrast": {name: {c: average(name, contrast=c) for c in CONTRASTS} for name in names},
        "ap_by_disease": {name: {d.__name__: average(name, disease=d.__name__) for d in DISEASES} for name in names},
    }


if __name__ == "__main__":
    sys.exit(main())
