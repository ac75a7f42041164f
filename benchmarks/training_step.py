"""What the native operators change in training: seconds per step, loss curves and profile, with them and without.

    python benchmarks/training_step.py [--configurations 2d 3d] [--steps 50] [--threads N]

Two copies of one model go through the three stages of the planned 2D and 3D configurations on the CPU, one on the C++
operators and one on plain torch. They take turns step by step on the same samples, drawn from the bundled atlas, so
that every ratio is one within a run; the profile is of three more steps. Rows replace those of the same configuration
in ``benchmarks/results/training_step.json``, so that it can be run in pieces. It asks for an idle machine; rows say
how busy it was. Seconds of the processor, which all cores share in, suffer less from other work.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from anatomad.cli.common import make_parser
from anatomad.io.atomic import write_json
from anatomad.kernels._select import VARIABLE
from anatomad.kernels.group_norm import NAME
from anatomad.models.dal import DisentangledAnatomy
from anatomad.models.device import precision_of
from anatomad.planner.machine import Machine
from anatomad.planner.plan import Plan
from anatomad.planner.planning import make_plan
from anatomad.preprocess.atlas import load_atlas
from anatomad.synth.deform import CaseVolumes
from anatomad.synth.draws import Draws
from anatomad.train.cases import Sample
from anatomad.train.learner import Learner, Outcome
from anatomad.train.stages import STAGES, Stage
from benchmarks.memory import Scans

RESULTS = Path(__file__).parent / "results" / "training_step.json"
BACKENDS = ("cpp", "reference")
COLD_STEPS, PROFILED_STEPS = 2, 3  # the first steps also fill caches
GREY = (0.2, 0.6, 0.9)
GROUPS = {"convolution": ("conv",), "normalisation": ("group_norm", "groupnorm", "silu")}

Row = dict[str, Any]


@contextmanager
def running_on(backend: str) -> Iterator[None]:
    """Every operator on one backend."""
    os.environ[VARIABLE] = backend
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def atlas(plan: Plan) -> CaseVolumes:
    """The bundled atlas' tissues in the plan's box, as a case."""
    prior = torch.from_numpy(np.asarray(load_atlas().tissue, np.float32))[None]
    tissue = F.interpolate(prior, size=plan.box, mode="trilinear")[0, 1:]
    image = torch.einsum("k,kxyz->xyz", torch.tensor(GREY), tissue)[None]
    inside = (tissue.sum(0) > 0.5).nonzero().float()
    return CaseVolumes(torch.cat([tissue, image]), inside.min(0).values, inside.max(0).values)


class Run:
    """One model in training on one backend."""

    def __init__(self, backend: str, model: DisentangledAnatomy, plan: Plan, case: CaseVolumes, precision: str) -> None:
        self.backend, self._model, self._plan, self._case = backend, model, plan, case
        self._precision = precision

    def begin(self, stage: Stage, steps: int) -> None:
        """Go over to a stage."""
        self._stage, self._learner = stage.name, Learner(self._model, stage, self._plan, steps, self._precision)
        self.seconds: list[float] = []
        self.busy: list[float] = []
        self.losses: list[float] = []

    def step(self, number: int) -> None:
        """One step, timed."""
        draws = [Draws(self._plan.seed, self._stage, number, k) for k in range(self._plan.batch_size)]
        samples = [Sample("atlas", self._case, own) for own in draws]
        with running_on(self.backend):
            start, worked = time.perf_counter(), time.process_time()
            outcome: Outcome = self._learner.step(samples, number)
            self.seconds.append(time.perf_counter() - start)
            self.busy.append(time.process_time() - worked)
        self.losses.append(sum(outcome.losses.values()))

    def finish(self) -> None:
        """What the next stage begins with."""
        self._learner.finish()


def median(seconds: list[float]) -> float:
    """Seconds per step, without the first."""
    return round(statistics.median(seconds[COLD_STEPS:]), 4)


def shares(run: Run, first: int) -> dict[str, float]:
    """Shares of the processor's time in steps from ``first`` on: convolution, normalisation, operators and the rest.

    What runs within an operator is the operator's; the blur of drawn images counts as convolution.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for number in range(first, first + PROFILED_STEPS):
            run.step(number)
    spent = dict.fromkeys((*GROUPS, "operators", "rest"), 0.0)
    for event in profiler.events():
        spent[_group(event)] += event.self_cpu_time_total
    return {name: round(value / sum(spent.values()), 4) for name, value in spent.items()}


def _group(event: Any) -> str:
    parent = event
    while parent is not None:
        if parent.name.startswith("anatomad::"):
            return "normalisation" if NAME in parent.name else "operators"
        parent = parent.cpu_parent
    name = event.name.lower()
    return next((group for group, words in GROUPS.items() if any(word in name for word in words)), "rest")


def stage_row(runs: list[Run], stage: Stage, steps: int) -> Row:
    """Seconds, loss curves and profiles of one stage."""
    for run in runs:
        run.begin(stage, steps + PROFILED_STEPS)
    for number in range(steps):
        for run in runs if number % 2 else runs[::-1]:
            run.step(number)
    seconds = {run.backend: median(run.seconds) for run in runs}
    busy = {run.backend: median(run.busy) for run in runs}
    curves = {run.backend: [round(loss, 6) for loss in run.losses] for run in runs}
    profiles = {run.backend: shares(run, steps) for run in runs}
    for run in runs:
        run.finish()
    apart = max(abs(a - b) for a, b in zip(*curves.values(), strict=True))
    return {
        "seconds_per_step": seconds,
        "speedup": round(seconds["reference"] / seconds["cpp"], 3),
        "processor_seconds_per_step": busy,
        "processor_speedup": round(busy["reference"] / busy["cpp"], 3),
        "shares": profiles,
        "largest_loss_difference": round(apart, 6),
        "losses": curves,
    }


def configuration_row(plan: Plan, precision: str, steps: int) -> Row:
    """All stages of a configuration."""
    torch.manual_seed(plan.seed)
    model, case = DisentangledAnatomy(plan), atlas(plan)
    runs = [Run(backend, copy.deepcopy(model), plan, case, precision) for backend in BACKENDS]
    row: Row = {
        "patch": plan.patch,
        "batch_size": plan.batch_size,
        "precision": precision,
        "steps": steps,
        "stages": {},
    }
    for stage in STAGES:
        row["stages"][stage.name] = stage_row(runs, stage, steps)
        shown = {k: v for k, v in row["stages"][stage.name].items() if k != "losses"}
        sys.stdout.write(f"{plan.configuration} {stage.name}: {shown}\n")
        sys.stdout.flush()
    return row | {"load_average": round(os.getloadavg()[0], 2)}


def main() -> None:
    """Measure and write."""
    parser = make_parser("training_step.py", "Training steps with the native operators and without.")
    parser.add_argument("--configurations", nargs="+", default=["2d", "3d"], help="which ones (default: 2d 3d)")
    parser.add_argument("--steps", type=int, default=50, help="steps of each stage (default: 50)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: all cores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    precision = precision_of(torch.device("cpu"))
    machine = Machine(kind="cpu", memory_gb=16, precision=precision)
    planned = make_plan(Scans("1 mm", (1.0, 1.0, 1.0)).fingerprint(), machine)
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["configurations"] if RESULTS.exists() else {}
    for name in args.configurations:
        rows[name] = configuration_row(planned.configuration(name), precision, args.steps)
        rows[name] |= {"threads": args.threads, "processor": platform.processor() or platform.machine()}
        write_json(RESULTS, {"torch": torch.__version__, "configurations": rows})


if __name__ == "__main__":
    main()
