from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from anatomad.benchmark.runs import (
    ERROR,
    TRAINING,
    Method,
    Planned,
    Run,
    error_of,
    finished_training,
    make_runs,
    note_error,
    write_work,
)
from anatomad.errors import DataError, UsageError
from anatomad.io.atomic import write_json
from anatomad.planner.plan import read_plan
from anatomad.planner.splits import read_splits
from tests.train.fold import FOLD, NAME, tiny_plan, write_dataset

METHODS = [Method("dal"), Method("dal", "2d"), Method("vae+contrasts")]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    folder = write_dataset(tmp_path, tiny_plan(dimension=2), tiny_plan())
    return Planned(NAME, tmp_path / NAME, folder, read_plan(folder / "plan.json"), FOLD)


def folders(planned: Planned, time_s: float = 60.0, methods: list[Method] = METHODS) -> set[str]:
    return {run.folder.name for run in make_runs(planned, methods, 2, time_s, Path("out"))}


def test_a_method_as_it_is_typed() -> None:
    assert Method.parse("dal") == Method("dal")
    assert Method.parse("dal:3d") == Method("dal", "3d")
    assert [str(Method.parse(text)) for text in ("dal", "vae+contrasts:3d")] == ["dal", "vae+contrasts:3d"]


def test_every_method_with_every_seed_from_the_plans_on(planned: Planned) -> None:
    later = replace(planned, plan=planned.plan.model_copy(update={"seed": 7}))
    runs = make_runs(later, METHODS, 3, 60.0, Path("out"))
    assert [run.name for run in runs[:4]] == ["dal, seed 7", "dal, seed 8", "dal, seed 9", "dal:2d, seed 7"]
    assert runs[3].folder.name.startswith("dal-2d-seed7-")


def test_whatever_a_run_is_made_from_names_its_folder(planned: Planned) -> None:
    first = folders(planned)
    assert len(first) == 6
    assert folders(planned) == first
    sidecar = planned.folder / "store" / "a.json"
    for change in (
        {"plan": planned.plan.model_copy(update={"prior_weight": (2.0, 1.0)})},
        {"plan": planned.plan.model_copy(update={"seed": 10})},
        {"fold": FOLD.model_copy(update={"train": ("a",)})},
    ):
        assert not folders(replace(planned, **change)) & first
    assert not folders(planned, time_s=61.0) & first
    write_json(sidecar, json.loads(sidecar.read_bytes()) | {"inputs": {"0": "other"}})
    assert not folders(planned) & first


def test_errors_name_the_way_out(planned: Planned) -> None:
    with pytest.raises(UsageError, match="no configuration '5d'; its plan has 2d, 3d"):
        folders(planned, methods=[Method("dal", "5d")])
    (planned.folder / "store" / "b.json").write_text("{}")
    with pytest.raises(DataError, match=r"b.json: missing or damaged; run 'anatomad_plan -d Dataset001_Tiny' again"):
        folders(planned)


def test_work_is_a_results_folder_with_its_own_seed_and_fold(planned: Planned, tmp_path: Path) -> None:
    run = make_runs(planned, METHODS, 2, 60.0, tmp_path / "out")[1]
    for _ in range(2):
        write_work(run, planned)
        folder = run.work() / NAME
        assert read_plan(folder / "plan.json").seed == planned.plan.seed + 1
        assert read_splits(folder / "splits.json") == [FOLD]
        assert (folder / "store" / "a.safetensors").samefile(planned.folder / "store" / "a.safetensors")
    moved = replace(planned, folder=tmp_path / "moved")
    shutil.move(planned.folder, moved.folder)
    write_work(run, moved)
    assert (folder / "store" / "a.safetensors").is_file()


def test_finished_is_what_was_made_from_the_same(tmp_path: Path) -> None:
    run = Run(Method("dal"), 0, tmp_path, {"seed": 0, "fold": ("a",)})
    assert finished_training(run) is None
    write_json(tmp_path / TRAINING, {"seconds": 1.0, "made_from": run.made_from})
    found = finished_training(run)
    assert found is not None
    assert found["seconds"] == 1.0
    assert finished_training(replace(run, made_from={"seed": 1})) is None
    for damaged in ("", "[]", '{"made_from": {}}'):
        (tmp_path / TRAINING).write_text(damaged)
        assert finished_training(run) is None


def test_the_first_word_on_an_error_stays(tmp_path: Path) -> None:
    run = Run(Method("dal"), 0, tmp_path, {})
    assert error_of(run) is None
    note_error(run, DataError("no brain"))
    note_error(run, DataError("killed"))
    assert error_of(run) == "no brain"
    (tmp_path / ERROR).write_text("[]")
    assert error_of(run) is None


def test_the_model_is_wherever_training_left_it(tmp_path: Path) -> None:
    run = Run(Method("dal"), 0, tmp_path, {})
    assert run.model() is None
    write_json(run.work() / NAME / "fold0_vae" / "model.json", {})
    assert run.model() == run.work() / NAME / "fold0_vae"
