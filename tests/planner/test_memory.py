"""The memory model against the real step, traced on fake tensors; the trace against torch's allocator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from anatomad.kernels import info
from anatomad.models.dal import DisentangledAnatomy
from anatomad.planner import memory
from anatomad.planner.plan import Plan
from anatomad.synth.deform import CaseVolumes
from anatomad.synth.draws import Draws
from anatomad.train.cases import Sample
from anatomad.train.learner import Learner
from anatomad.train.stages import STAGES, Stage
from benchmarks.traced import prediction_peak, step_peaks
from tests.train.fold import tiny_plan

# Without the C++ operators a step keeps more: the model is of what a planned machine should have.
pytestmark = pytest.mark.skipif(not info()["cpp"].startswith("ready"), reason=f"C++ operators {info()['cpp']}")


class Setting(NamedTuple):
    plan: Plan
    precision: str
    device: Literal["cpu", "gpu"]


# Two people: torch gives single small volumes to a convolution that unfolds them, which is work space, not tensors.
VOLUMES = tiny_plan(box=(40, 32, 32), patch=(32, 32, 32), features=(8, 16, 32), batch_size=2)
SLICES = tiny_plan(dimension=2, box=(64, 48, 64), patch=(64, 64, 1), features=(8, 16, 32), batch_size=2)
WIDE_ON_LITTLE = tiny_plan(features=(32, 64, 128, 256, 320))
SETTINGS = {
    "volumes": Setting(VOLUMES, "float32", "cpu"),
    "slices": Setting(SLICES, "float32", "cpu"),
    "volumes on a GPU": Setting(VOLUMES, "bfloat16", "gpu"),
    "wide on little": Setting(WIDE_ON_LITTLE, "bfloat16", "cpu"),
}


@cache
def traced(name: str) -> dict[str, int]:
    return step_peaks(*SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_prediction_is_near_the_trace_and_hardly_below(name: str) -> None:
    needs = memory.predict(*SETTINGS[name])
    assert 0.95 <= memory.peak(needs.training) / max(traced(name).values()) <= 1.10
    assert 0.95 <= memory.peak(needs.prediction) / prediction_peak(*SETTINGS[name]) <= 1.10


def test_many_slices_are_fullest_when_three_answers_are_averaged() -> None:
    plan = tiny_plan(dimension=2, box=(128, 128, 128), patch=(128, 128, 1))
    prediction = memory.predict(plan, "bfloat16").prediction
    assert max(prediction, key=lambda moment: memory.total(prediction[moment])) == "average of three axes"
    assert 0.95 <= memory.peak(prediction) / prediction_peak(plan, "bfloat16") <= 1.10


def test_large_networks_on_small_patches_are_fullest_in_the_optimiser() -> None:
    training = memory.predict(*SETTINGS["wide on little"]).training
    assert max(training, key=lambda moment: memory.total(training[moment])) == "anatomy, optimiser"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A convolution over small volumes unfolds one of them in every thread: work space that grows with the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["volumes", "slices"])
def test_trace_finds_what_the_allocator_gives_out(name: str, tmp_path: Path) -> None:
    given = {stage.name: allocated(SETTINGS[name].plan, stage, tmp_path / "trace.json") for stage in STAGES}
    assert traced(name) == pytest.approx(given, rel=0.05)


def allocated(plan: Plan, stage: Stage, trace: Path) -> int:
    """Peak bytes that torch's allocator handed out for a learner and two steps on real brains."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        learner = Learner(DisentangledAnatomy(plan), stage, plan, 2, "float32")
        samples = [brain(plan, number) for number in range(plan.batch_size)]
        for number in range(2):
            good = learner.tensors()
            assert learner.step(samples, number).finite
            del good
    profiler.export_chrome_trace(str(trace))
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "[memory]"]
    return max(accumulate(event["args"]["Bytes"] for event in sorted(events, key=in_time)))


def in_time(event: dict[str, float]) -> float:
    return event["ts"]


def brain(plan: Plan, number: int) -> Sample:
    """A ball of three tissues that fills about half of its box."""
    high = torch.tensor(plan.box).float() - 1
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in plan.box), indexing="ij")
    radius = torch.stack(axes).norm(dim=0)
    tissues = torch.stack([(radius > low) & (radius <= top) for low, top in ((0.7, 1), (0.4, 0.7), (-1, 0.4))]).float()
    image = (tissues * torch.tensor([0.2, 0.5, 0.8]).view(3, 1, 1, 1)).sum(0, keepdim=True)
    return Sample(f"case{number}", CaseVolumes(torch.cat([tissues, image]), torch.zeros(3), high), Draws(0, number))
