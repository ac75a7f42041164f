"""Seconds of planning once the fingerprint exists, for few cases and very many.

    python benchmarks/planning.py [--cases 42 100000] [--repeats-of 42 100000]

Data sets are generated: records drawn around those of healthy adults, their fingerprint, thumbnails (one file under all
names) and a scan of no bytes for every case, as planning looks at a scan's name, size and time only. Timed is what
`anatomad_plan` then does up to the store, by the functions that it calls: cases found, their files' stamps compared,
``fingerprint.json`` read, everything decided afresh, folds drawn, ``plan.json``, ``splits.json`` and ``plan.html``
written. Every run is a new process; the start of Python with its imports is a row of its own. Not timed: measuring the
scans, and the store. Seconds of the processor suffer less from other work on the machine than those by the wall.

What is done anew when a scan has changed (distributions, findings, scans compared pair by pair) is timed on
fingerprints of ``--repeats-of`` cases. Rows go to ``benchmarks/results/planning.json``.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from anatomad.cli.common import make_parser
from anatomad.io.atomic import write_json
from anatomad.parallel import cores, run_jobs
from anatomad.planner.dataset import RawDataset, find_dataset
from anatomad.planner.fingerprint import sources_of, take_fingerprint, write_fingerprint
from anatomad.planner.machine import Machine
from anatomad.planner.outliers import distributions_of, find_outliers
from anatomad.planner.planning import make_plan
from anatomad.planner.records import CaseFingerprint, ChannelFingerprint, Fingerprint
from anatomad.planner.repeats import Repeats, find_repeats
from anatomad.planner.report import write_report
from anatomad.planner.splits import make_splits, read_participants
from anatomad.planner.thumbnails import Thumbnail, write_thumbnails
from anatomad.preprocess.atlas import load_atlas
from benchmarks.processes import cost_of

RESULTS = Path(__file__).parent / "results" / "planning.json"
MACHINE = Machine(kind="cpu", memory_gb=16, precision="float32")
IMPORTS = "anatomad.planner.fingerprint, anatomad.planner.planning, anatomad.planner.report"
RUNS = 3
DETAILS = 3838  # voxels of fine anatomy per scan
COMMON_SHARE = 0.5  # correlation of two people's
SAME_PERSON_EVERY = 1000  # two scans each

Row = dict[str, Any]


class Clock:
    """Seconds by the wall and of the processor, by step."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        wall, busy = time.perf_counter(), time.process_time()
        yield
        spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - busy}
        self.steps[name] = {kind: round(seconds, 3) for kind, seconds in spent.items()}

    def total(self) -> dict[str, float]:
        """Seconds of all steps."""
        return {kind: round(sum(step[kind] for step in self.steps.values()), 3) for kind in ("wall", "processor")}


def records(count: int) -> tuple[CaseFingerprint, ...]:
    """Cases of healthy adults of one scanner: T1w, some of them noisy."""
    rng = np.random.default_rng(count)
    sides = rng.normal((139.0, 172.0, 141.0), (6.0, 7.0, 6.0), (count, 3)).round(3).tolist()
    volumes = rng.normal(1450, 130, count).clip(900, 2100).round(1).tolist()
    levels = np.sort(rng.normal((0, 400, 600, 800, 1200), 20, (count, 5)), axis=1).round(3).tolist()
    noise, bias = rng.lognormal(-4.5, 0.5, count).round(5).tolist(), rng.lognormal(-2.3, 0.3, count).round(4).tolist()
    channels = (
        ChannelFingerprint(
            shape=(160, 200, 150),
            spacing_mm=(0.87, 0.87, 1.0),
            orientation="LAS",
            dtype="int16",
            mask_source="stripped",
            mask_doubt=None,
            brain_ml=volumes[n],
            brain_extent_mm=sides[n],
            percentiles=levels[n],
            noise=noise[n],
            bias=bias[n],
            nonfinite_share=0.0,
            digest=f"{n:032x}",
        )
        for n in range(count)
    )
    return tuple(CaseFingerprint(id=f"sub-{n:06d}", channels={0: channel}) for n, channel in enumerate(channels))


def judged(dataset: RawDataset, repeats: Repeats, cases: tuple[CaseFingerprint, ...]) -> Fingerprint:
    """The fingerprint with what is said of the data set as a whole."""
    plain = Fingerprint(dataset=dataset.name, channel_names=dataset.channel_names, cases=cases)
    findings = {"distributions": distributions_of(plain), "outliers": find_outliers(plain, repeats)}
    return plain.model_copy(update=findings)


def make_scans(folder: Path, count: int) -> RawDataset:
    """A raw data set of empty files."""
    raw = folder / "Dataset001_Generated"
    (raw / "imagesTr").mkdir(parents=True)
    write_json(raw / "dataset.json", {"channel_names": {"0": "T1w"}, "file_ending": ".nii.gz"})
    names = [f"sub-{n:06d}" for n in range(count)]
    (raw / "participants.tsv").write_text("participant_id\n" + "\n".join(names) + "\n", encoding="utf-8")
    for name in names:
        (raw / "imagesTr" / f"{name}_0000.nii.gz").touch()
    return find_dataset(str(raw))


def make_measurements(dataset: RawDataset, folder: Path, count: int) -> None:
    """What `anatomad_plan` has written of a data set once every scan is measured."""
    tissue = np.asarray(load_atlas().tissue).argmax(0).astype(np.uint8)
    x, _, z = (side // 2 for side in tissue.shape)
    cuts = (tissue[:, :, z], tissue[x])
    axial, sagittal = ((80 * cut, cut) for cut in cuts)
    picture = Thumbnail(*axial, *sagittal, np.zeros(DETAILS, np.int8))
    pictures = folder / "fingerprint"
    pictures.mkdir(parents=True)
    write_thumbnails(pictures, "any", {0: picture})
    cases = dataset.training_cases()
    write_json(pictures / "any.json", {})  # only looked at when a scan has changed
    for case in cases:
        for ending in ("json", "safetensors"):
            (pictures / f"{case.id}.{ending}").symlink_to(pictures / f"any.{ending}")  # a file has too few hard links
    fingerprint = judged(dataset, Repeats((), ()), records(count))
    write_fingerprint(folder, fingerprint, sources_of(dataset, cases))


def plan_again(spec: str, folder: Path) -> Clock:
    """What the command does up to the store, timed."""
    clock = Clock()
    with clock.step("find the cases"):
        dataset = find_dataset(spec)
        cases = dataset.training_cases()
    with clock.step("compare stamps and read fingerprint.json"):
        fingerprint, failures = take_fingerprint(dataset, folder, 1)
    if failures or len(fingerprint.cases) != len(cases):
        raise RuntimeError("the generated fingerprint was not taken for that of the generated scans")
    with clock.step("decide"):
        plan = make_plan(fingerprint, MACHINE, read_participants(dataset.path))
        write_json(folder / "plan.json", plan.model_dump(mode="json"))
    with clock.step("draw folds"):
        ids = [case.id for case in fingerprint.cases]
        folds = make_splits(ids, read_participants(dataset.path), plan.folds, plan.seed, fingerprint.repeats)
        write_json(folder / "splits.json", [fold.model_dump(mode="json") for fold in folds])
    with clock.step("write plan.html"):
        write_report(folder / "plan.html", fingerprint, plan, folder / "fingerprint", "anatomad_train 001 fold0")
    return clock


def start() -> dict[str, float]:
    """Seconds until a new Python has imported what planning needs; the quickest of three."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", f"import {IMPORTS}"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        costs = [cost_of(command, environment, Path(folder) / "log") for _ in range(RUNS)]
    return {"wall": min(cost.wall_s for cost in costs), "processor": min(cost.processor_s for cost in costs)}


def planning_row(count: int) -> Row:
    """One size: planning when nothing has changed."""
    with tempfile.TemporaryDirectory() as temporary:
        dataset = make_scans(Path(temporary), count)
        folder = Path(temporary) / "work"
        make_measurements(dataset, folder, count)
        clocks = []
        for _ in range(RUNS):
            done, failures = run_jobs(plan_again, {"planning": (str(dataset.path), folder)}, 1, f"{count} cases")
            for error in failures.values():
                raise error
            clocks.append(done["planning"])
        sizes = {name: (folder / name).stat().st_size for name in ("fingerprint.json", "splits.json", "plan.html")}
    best = min(clocks, key=lambda clock: clock.total()["wall"])
    totals = [clock.total() for clock in clocks]
    return {"total_s": best.total(), "total_s_of_every_run": totals, "steps_s": best.steps, "bytes": sizes}


def details_of(count: int) -> dict[str, dict[int, np.ndarray]]:
    """Fine anatomy of people that correlates as that of healthy adults does; a few came twice."""
    rng = np.random.default_rng(count)
    common = np.sqrt(COMMON_SHARE) * rng.standard_normal(DETAILS, np.float32)
    found: dict[str, dict[int, np.ndarray]] = {}
    for n in range(count):
        if n == 0 or n % SAME_PERSON_EVERY:
            own = common + np.sqrt(1 - COMMON_SHARE) * rng.standard_normal(DETAILS, np.float32)
        seen = own + np.float32(0.3) * rng.standard_normal(DETAILS, np.float32)
        found[f"sub-{n:06d}"] = {0: np.clip(np.rint(31 * seen), -127, 127).astype(np.int8)}
    return found


def changed_row(count: int) -> Row:
    """One size: what is found out anew when a scan has changed, besides measuring it."""
    dataset = RawDataset(Path(), "Dataset001_Generated", 1, {0: "T1w"}, ".nii.gz")
    cases, details = records(count), details_of(count)
    fingerprint = Fingerprint(dataset=dataset.name, channel_names=dataset.channel_names, cases=cases)
    clock = Clock()
    with clock.step("compare scans pair by pair"):
        repeats = find_repeats(fingerprint, details)
    with clock.step("distributions and findings"):
        judged(dataset, repeats, cases)
    return {"total_s": clock.total(), "steps_s": clock.steps, "pairs_found": len(repeats.pairs)}


def show(name: str, row: Row) -> None:
    """Print one size."""
    sys.stdout.write(f"{name}\n")
    for step, spent in {**row["steps_s"], "total": row["total_s"]}.items():
        sys.stdout.write(f"  {step:42} {spent['wall']:9.3f} s, processor {spent['processor']:9.3f} s\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and write."""
    parser = make_parser("planning.py", "Seconds of planning once the fingerprint exists.")
    parser.add_argument("--cases", type=int, nargs="*", default=[42, 100_000], help="sizes (default: 42 100000)")
    parser.add_argument("--repeats-of", type=int, nargs="*", default=[42, 100_000], help="sizes (default: 42 100000)")
    args = parser.parse_args()
    table: Row = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    table["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": cores(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    table["start_s"] = start()
    sys.stdout.write(f"start of Python and imports, s: {table['start_s']}\n")
    for key, sizes, measure in (
        ("unchanged", args.cases, planning_row),
        ("changed", args.repeats_of, changed_row),
    ):
        for count in sizes:
            row = measure(count)
            table.setdefault(key, {})[str(count)] = row
            show(f"{count} cases, {key}", row)
            write_json(RESULTS, table)


if __name__ == "__main__":
    main()
