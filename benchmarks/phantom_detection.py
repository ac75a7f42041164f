"""What every part of the score is worth, without a patient: lesions in phantoms of people whom no training saw.

    python benchmarks/phantom_detection.py --data DIR [--model FOLDER] [--people 14] [--work DIR]

``DIR`` holds ``anatomies/`` and ``lesion_masks/`` (see ``benchmarks/phantoms.py``). Every person is scanned in four
sequences, healthy and with plaques, an infarct and a tumour; each is judged on its own by the model's score, by the
score without each of its parts, and the sequences of a person are fused. Phantoms are more even than scans: what the
table says has to hold in real texture as well (docs/concepts/method.md). What is done lies in ``--work``: a run that
was stopped goes on. Results go to ``benchmarks/results/phantom_detection.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatomad.benchmark.measure import P01
from anatomad.cli.common import make_parser, run_command, say
from anatomad.cli.predict import BUNDLED
from anatomad.io.atomic import write_json
from anatomad.models.device import precision_of
from anatomad.predict.choice import average_precision
from anatomad.predict.decompose import decompose
from anatomad.predict.folder import Model, load_model
from anatomad.predict.fuse import fuse
from anatomad.predict.score import Score, inner
from anatomad.progress import track
from anatomad.synth.disease import Disease
from anatomad.synth.draws import Draws
from benchmarks.phantoms import SEQUENCES, diseases, healthy, scan, scene

RESULTS = Path(__file__).parent / "results" / "phantom_detection.json"
WHOLE, FUSED = "whole score", "fused"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("phantom_detection.py", "Parts of the score, on lesions in phantoms.")
    parser.add_argument("--data", required=True, type=Path, help="folder that holds anatomies/ and lesion_masks/")
    parser.add_argument("--model", type=Path, default=BUNDLED, help="folder of a finished model (default: the bundled)")
    parser.add_argument("--people", type=int, default=14, help="how many of the anatomies (default: 14)")
    parser.add_argument("--work", type=Path, default=Path("phantom-work"), help="folder for what is done")
    return run_command(_benchmark, parser.parse_args(argv))


def _benchmark(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    done = results_of(model, args.work)
    people = sorted((args.data / "anatomies").glob("*.nii.gz"))[: args.people]
    kinds = {"healthy": healthy, **diseases(args.data / "lesion_masks")}
    rows = []
    for person, kind in track([(p, k) for p in people for k in kinds], "phantoms"):
        target = done / f"{person.name.removesuffix('.nii.gz')}_{kind}.json"
        rows.append(kept(target, lambda p=person, k=kind: _judged(model, p, k, kinds[k])))
    result = {"model": model.digest, "people": len(people), **_summary(rows)}
    write_json(RESULTS, result)
    say(json.dumps(result, indent=1))
    return 0


def results_of(model: Model, work: Path) -> Path:
    """Folder of what is done with a model and its calibration, made when missing."""
    key = f"{model.digest}{model.calibration.model_dump_json()}".encode()
    done = work / hashlib.sha256(key).hexdigest()[:12]
    done.mkdir(parents=True, exist_ok=True)
    return done


def kept(target: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier run left in a file, else what is made now and left there."""
    if not target.exists():
        write_json(target, make())
    found: dict[str, Any] = json.loads(target.read_bytes())
    return found


def _judged(model: Model, path: Path, kind: str, disease: Disease) -> dict[str, Any]:
    """Average precision of every score in every sequence of a scene; of a healthy one the share under p = 0.01."""
    person = path.name.removesuffix(".nii.gz")
    seen = scene(path, disease, model.plan, person, kind)
    lesion, maps = seen.lesion[seen.mask].numpy(), []
    found: dict[str, dict[str, float]] = {}
    for sequence in SEQUENCES:
        draws = Draws("phantom", person, kind, sequence)
        scores = dict(scores_of(model, scan(seen, sequence, model.plan, draws), seen.mask))
        maps.append(model.calibration.minus_log10_p(scores[WHOLE]))
        found[sequence] = (
            {name: average_precision(values, lesion) for name, values in scores.items()}
            if lesion.any()
            else {"marked": float(np.mean(maps[-1] >= P01))}
        )
    both = fuse(maps)
    fused = {FUSED: average_precision(both, lesion)} if lesion.any() else {"marked": float(np.mean(both >= P01))}
    return {"person": person, "disease": kind, "voxels": int(lesion.sum()), "sequences": found, FUSED: fused}


def scores_of(model: Model, image: Tensor, mask: Tensor) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The model's score of the brain's voxels [voxel] by name, and that without each of its parts."""
    plan, score = model.plan, model.calibration.score
    parts = decompose(model.networks, image, mask, precision_of(torch.device("cpu"), plan.precision))
    rim = plan.rim()
    evidence = score.evidence(parts, plan.spacing_mm, rim)
    total = score.summed(evidence, mask, rim)
    yield WHOLE, score.over_level(total, inner(mask, rim))[mask].numpy()
    for number, supplement in enumerate(score.supplements):
        shares = tuple(share for k, share in enumerate(score.shares) if k != number)
        rest = [each for k, each in enumerate(evidence) if k != number + 1]
        yield f"without {supplement.kind}", _voxels(score.model_copy(update={"shares": shares}), rest, mask, rim)
    yield "without symmetry", _voxels(score.model_copy(update={"symmetry": 0.0}), evidence, mask, rim)
    yield "residual alone", _voxels(score.model_copy(update={"shares": ()}), evidence[:1], mask, rim)


def _voxels(score: Score, evidence: list[Tensor], mask: Tensor, rim: tuple[int, int, int]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = score.summed(evidence, mask, rim)[mask].numpy()
    return found


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    ill = [row for row in rows if row["disease"] != "healthy"]
    well = [row for row in rows if row["disease"] == "healthy"]
    kinds = list(dict.fromkeys(row["disease"] for row in ill))
    names = list(ill[0]["sequences"]["T1w"])
    precision = {
        name: {
            f"{kind} {sequence}": mean(r["sequences"][sequence][name] for r in ill if r["disease"] == kind)
            for kind in kinds
            for sequence in SEQUENCES
        }
        for name in names
    }
    return {
        "mean_ap": {name: mean(columns.values()) for name, columns in precision.items()},
        "whole_score_gains": {name: gain(ill, name) for name in names if name != WHOLE},
        "ap": precision,
        "fused_ap": {kind: mean(r[FUSED][FUSED] for r in ill if r["disease"] == kind) for kind in kinds},
        "best_single_ap": {kind: max(precision[WHOLE][f"{kind} {s}"] for s in SEQUENCES) for kind in kinds},
        "healthy_share_under_p01": {s: mean(r["sequences"][s]["marked"] for r in well) for s in SEQUENCES}
        | {FUSED: mean(r[FUSED]["marked"] for r in well)},
    }


def gain(ill: Sequence[dict[str, Any]], name: str) -> dict[str, float | None]:
    """How much more average precision the whole score has than another; the standard error is that over people."""
    people: dict[str, list[float]] = {}
    for row in ill:
        differences = [each[WHOLE] - each[name] for each in row["sequences"].values()]
        people.setdefault(row["person"], []).extend(differences)
    means = np.array([np.mean(each) for each in people.values()])
    error = round(float(means.std(ddof=1) / np.sqrt(len(means))), 4) if len(means) > 1 else None
    return {"gain": round(float(means.mean()), 4), "standard_error": error}


def mean(values: Iterable[float]) -> float:
    """Mean of some numbers, to four digits."""
    return round(float(np.mean(list(values))), 4)


if __name__ == "__main__":
    sys.exit(main())
