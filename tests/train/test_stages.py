from pathlib import Path

import pytest
import torch

from anatomad.models.dal import DisentangledAnatomy
from anatomad.preprocess.store import load_case
from anatomad.synth.draws import Draws
from anatomad.train import stages
from anatomad.train.cases import Sample, volumes_of
from anatomad.train.stages import STAGES, Stage, Step
from tests.train.fold import tiny_plan, write_case


@pytest.fixture(params=[2, 3])
def dimension(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def make_step(folder: Path, dimension: int = 3, progress: float = 0.5, seed: int = 0) -> Step:
    plan = tiny_plan(dimension=dimension)
    write_case(folder, "a", plan)
    volumes = volumes_of(load_case(folder, "a"), 0, torch.device("cpu"))
    samples = [Sample("a", volumes, Draws("step", seed, k)) for k in range(2)]
    return Step(samples, progress, plan)


def make_model(step: Step) -> DisentangledAnatomy:
    torch.manual_seed(0)
    return DisentangledAnatomy(step.plan)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_reaches_what_it_trains_and_nothing_else(stage: Stage, dimension: int, tmp_path: Path) -> None:
    step = make_step(tmp_path, dimension)
    model = make_model(step)
    torch.nn.init.normal_(model.recoupling.head.weight)  # as after the first step; zero would stop the gradient
    found = stage.loss(model, step)
    assert all(loss.isfinite() and loss.ndim == 0 for loss in found.values())
    sum(found.values(), torch.zeros(())).backward()
    reached = {
        name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == set(stage.trains)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_is_a_function_of_its_draws(stage: Stage, tmp_path: Path) -> None:
    values = []
    for seed in (0, 0, 1):
        step = make_step(tmp_path, seed=seed)
        values.append({name: loss.item() for name, loss in stage.loss(make_model(step), step).items()})
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_the_prior_counts_less_on_real_scans_as_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = {}
    for real in (True, False):
        rendered = stages.rendered
        monkeypatch.setattr(stages, "rendered", lambda *given, real=real, draw=rendered: (draw(*given)[0], real))
        for progress in (0.0, 1.0):
            step = make_step(tmp_path, progress=progress)
            prior[real, progress] = stages.anatomy_stage(make_model(step), step)["prior"].item()
        monkeypatch.undo()
    assert prior[True, 1.0] / prior[True, 0.0] == pytest.approx(0.3, rel=1e-4)
    assert prior[False, 1.0] == prior[False, 0.0] == prior[True, 0.0]


def test_stages_are_those_of_the_plan() -> None:
    assert [stage.name for stage in STAGES] == list(tiny_plan().stages.model_dump())
