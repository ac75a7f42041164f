from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from anatomad.models.dal import DisentangledAnatomy
from anatomad.train.cases import CaseSource
from anatomad.train.picture import draw, mosaic_row
from anatomad.train.validate import validate
from tests.train.fold import SIDE, tiny_plan, write_case

CPU = torch.device("cpu")


def test_picture_of_a_run(tmp_path: Path) -> None:
    plan = tiny_plan()
    for case_id in "ab":
        write_case(tmp_path, case_id, plan)
    model = DisentangledAnatomy(plan).eval()
    rows = [mosaic_row(model, case, CPU, "float32") for case in CaseSource(tmp_path, ["a", "b"])]
    for row in rows:
        assert [values.shape for values in row.slices] == [(SIDE, SIDE)] * 7
        assert all(np.isfinite(values).all() for values in row.slices)
        assert set(np.unique(row.slices[1])) <= {0, 1, 2, 3}
    lines = [
        {"kind": "steps", "stage": "anatomy", "step": step, "losses": {"prior": 1 / step} if step != 20 else {}}
        for step in (10, 20, 30)
    ]
    draw(tmp_path / "none.png", [], [])
    draw(tmp_path / "some.png", lines, rows)
    small, large = imread(tmp_path / "none.png"), imread(tmp_path / "some.png")
    assert large.shape[0] > small.shape[0]
    assert large[..., :3].std() > 0.1


def test_validation_is_the_same_each_time_and_knows_the_truth(tmp_path: Path) -> None:
    plan = tiny_plan()
    write_case(tmp_path, "a", plan)
    cases = list(CaseSource(tmp_path, ["a"]))
    model = DisentangledAnatomy(plan).eval()
    first = validate(model, cases, plan, "restoration", CPU, "float32")
    assert first == validate(model, cases, plan, "restoration", CPU, "float32")
    assert len(first) == 8
    truth = torch.from_numpy(cases[0].tissue).float()[None]
    model.restoration.forward = lambda _: 20 * truth / 255  # type: ignore[method-assign]
    perfect = validate(model, cases, plan, "restoration", CPU, "float32")
    assert perfect["real_restored_dice"] == perfect["rendered_restored_dice"] == 1
    assert perfect["real_restored_cross_entropy"] < 1e-3 < first["real_restored_cross_entropy"]
    image = torch.from_numpy(cases[0].image).float()[None]
    model.recouple = lambda *_: image + 0.25  # type: ignore[method-assign]
    assert validate(model, cases, plan, "recoupling", CPU, "float32")["real_decoder_error"] == pytest.approx(0.25)
