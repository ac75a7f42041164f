"""Side by side with nnU-Net v2: fingerprint + plan, and preprocessing, of the same scans in one run.

    python -m venv nnunet && nnunet/bin/pip install nnunetv2
    python benchmarks/nnunet.py --nnunet-python nnunet/bin/python --data DIR/Dataset001_HealthyT1

Both sides get the same files, the same number of worker processes and one thread in each of them, and take turns, so
that what else the machine does meets both. nnU-Net cannot work without labels: it is given image > 0 as the label of
every scan, made before the clock starts. Time is that of whole commands, with the start of Python; memory is added up
over all their processes ten times a second.

- plan: ours is what `anatomad_plan` does up to the store; theirs is ``nnUNetv2_plan_and_preprocess --no_pp``.
- preprocess: ours is `anatomad_plan` with fingerprint and plan there, which leaves the store and ``plan.html``; theirs
  is ``nnUNetv2_preprocess``, once for its 2D and once for its 3D configuration. Ours serves 2D and 3D with one store.

Rows go to ``benchmarks/results/nnunet.json``, after every run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import nibabel as nib
import numpy as np

from anatomad.io.atomic import write_json
from anatomad.parallel import cores
from anatomad.planner.dataset import RawDataset, read_dataset
from benchmarks.processes import Cost, cost_of

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "nnunet.json"
CONFIGURATIONS = ("2d", "3d_fullres")
PLAN = """
import sys
from pathlib import Path
from anatomad.io.atomic import write_json
from anatomad.planner.dataset import read_dataset
from anatomad.planner.fingerprint import take_fingerprint
from anatomad.planner.machine import find_machine
from anatomad.planner.planning import make_plan
from anatomad.planner.splits import make_splits, read_participants

if __name__ == "__main__":
    dataset, folder = read_dataset(Path(sys.argv[1])), Path(sys.argv[2])
    folder.mkdir(parents=True)
    fingerprint, failures = take_fingerprint(dataset, folder, int(sys.argv[3]))
    if failures:
        raise next(iter(failures.values()))
    participants = read_participants(dataset.path)
    plan = make_plan(fingerprint, find_machine(), participants)
    write_json(folder / "plan.json", plan.model_dump(mode="json"))
    ids = [case.id for case in fingerprint.cases]
    folds = make_splits(ids, participants, plan.folds, plan.seed, fingerprint.repeats)
    write_json(folder / "splits.json", [fold.model_dump(mode="json") for fold in folds])
"""
STORE = "import sys; from anatomad.cli.plan import main; sys.exit(main())"
VERSIONS = "from importlib.metadata import version as v; print(v('nnunetv2'), v('torch'), v('numpy'))"

Row = dict[str, Any]


class Sides:
    """The commands of both sides on one data set, in a folder of their own."""

    def __init__(self, dataset: RawDataset, nnunet_python: Path, workers: int, folder: Path) -> None:
        self._python, self._workers, self._folder = nnunet_python, str(workers), folder
        self._raw = folder / "raw" / dataset.name
        self._work = folder / "anatomad"
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
        self._environment = {**os.environ, **single, **places, "PYTHONPATH": str(ROOT)}
        self._theirs = {**os.environ, **single, **places, "PYTHONPATH": ""}
        _lay_out(dataset, self._raw)
        (folder / "plan.py").write_text(PLAN, encoding="utf-8")

    def our_plan(self) -> Cost:
        """Fingerprint, plan and folds from nothing."""
        shutil.rmtree(self._work, ignore_errors=True)
        target = str(self._work / self._raw.name)
        return self._ours(str(self._folder / "plan.py"), str(self._raw), target, self._workers)

    def our_preprocessing(self) -> Cost:
        """The store, from nothing; the plan is there."""
        shutil.rmtree(self._work / self._raw.name / "store", ignore_errors=True)
        return self._ours("-c", STORE, "-d", str(self._raw), "--work", str(self._work), "-j", self._workers)

    def their_plan(self) -> Cost:
        """Fingerprint and plan from nothing, in one command."""
        shutil.rmtree(self._folder / "preprocessed", ignore_errors=True)
        return self._nnunet("nnUNetv2_plan_and_preprocess", "--no_pp", "--clean", "-npfp", self._workers)

    def their_preprocessing(self, configuration: str) -> Cost:
        """One configuration; the plan is there."""
        return self._nnunet("nnUNetv2_preprocess", "-c", configuration, "-np", self._workers)

    def _ours(self, *words: str) -> Cost:
        return cost_of([sys.executable, *words], self._environment, self._folder / "ours.log")

    def _nnunet(self, name: str, *words: str) -> Cost:
        number = str(int(self._raw.name[7:10]))
        command = [str(self._python.parent / name), "-d", number, *words]
        return cost_of(command, self._theirs, self._folder / "theirs.log")


def _lay_out(dataset: RawDataset, raw: Path) -> None:
    """The same scans under both layouts, which are one but for labels: links, and image > 0."""
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    cases = dataset.training_cases()
    for case in cases:
        for path in case.channels.values():
            (raw / "imagesTr" / path.name).symlink_to(path)
        image = nib.load(next(iter(case.channels.values())))
        label = (np.asanyarray(image.dataobj) > 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(label, image.affine), raw / "labelsTr" / f"{case.id}{dataset.file_ending}")
    described = {
        "channel_names": {str(number): name for number, name in dataset.channel_names.items()},
        "labels": {"background": 0, "brain": 1},
        "numTraining": len(cases),
        "file_ending": dataset.file_ending,
    }
    write_json(raw / "dataset.json", described)


def compared(ours: list[Cost], theirs: list[Cost]) -> Row:
    """Medians of both sides, what we take of theirs, and every run; nothing before both have run."""
    row: Row = {}
    if not (ours and theirs):
        return row
    for name in Cost._fields:
        middles = {
            side: statistics.median(getattr(cost, name) for cost in costs)
            for side, costs in (("ours", ours), ("theirs", theirs))
        }
        row[name] = middles | {"ours_over_theirs": round(middles["ours"] / middles["theirs"], 3)}
    row["runs"] = {side: [cost._asdict() for cost in costs] for side, costs in (("ours", ours), ("theirs", theirs))}
    return row


def take_turns(sides: Mapping[str, Callable[[], Cost]], rounds: int) -> Iterator[Row]:
    """Run both sides in turn, the one that begins changing from round to round; compared after every run."""
    costs: dict[str, list[Cost]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sorted(sides, reverse=number % 2 == 1):
            costs[side].append(sides[side]())
            sys.stdout.write(f"{side}: {costs[side][-1]}\n")
            sys.stdout.flush()
            yield compared(**costs)


def together(costs: list[Cost]) -> Cost:
    """One after the other: times add up, of memory the larger peak counts."""
    wall, processor, rss, pss = zip(*costs, strict=True)
    return Cost(round(sum(wall), 2), round(sum(processor), 2), max(rss), max(pss))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Plan and preprocess side by side with nnU-Net v2.")
    parser.add_argument("--data", required=True, type=Path, help="a raw data set, such as DIR/Dataset001_HealthyT1")
    parser.add_argument("--nnunet-python", required=True, type=Path, help="Python of an environment with nnunetv2")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each side (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="of fingerprint + plan (default: 3)")
    parser.add_argument("--preprocess-rounds", type=int, default=2, help="of preprocessing (default: 2)")
    args = parser.parse_args()
    dataset = read_dataset(args.data)
    versions = subprocess.run([args.nnunet_python, "-c", VERSIONS], check=True, capture_output=True, text=True).stdout
    table: Row = {
        "dataset": dataset.name,
        "scans": len(dataset.training_cases()),
        "workers": args.workers,
        "versions": dict(zip(("nnunetv2", "torch", "numpy"), versions.split(), strict=True)),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": cores()},
        "load_average": {"before": round(os.getloadavg()[0], 2)},
    }
    with tempfile.TemporaryDirectory() as temporary:
        sides = Sides(dataset, args.nnunet_python.absolute(), args.workers, Path(temporary))
        steps = {
            "plan": (args.rounds, {"ours": sides.our_plan, "theirs": sides.their_plan}),
            "preprocess": (
                args.preprocess_rounds,
                {
                    "ours": sides.our_preprocessing,
                    "theirs": lambda: together([sides.their_preprocessing(name) for name in CONFIGURATIONS]),
                },
            ),
        }
        for step, (rounds, commands) in steps.items():
            for row in take_turns(commands, rounds):
                table[step] = row
                table["load_average"]["after"] = round(os.getloadavg()[0], 2)
                write_json(RESULTS, table)
    shown = {key: {n: v for n, v in table[key].items() if n != "runs"} for key in ("plan", "preprocess")}
    sys.stdout.write(json.dumps(shown, indent=1) + "\n")


if __name__ == "__main__":
    main()
