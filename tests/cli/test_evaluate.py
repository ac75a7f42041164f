from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anatomad.cli.evaluate import main
from tests.evaluate.world import SHAPE, World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def arguments(world: World, *more: object) -> list[str]:
    return ["-p", str(world.predictions), "-r", str(world.references), "--bootstrap", "20", *map(str, more)]


def test_table_and_file(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    output = world.root / "metrics.json"
    assert main(arguments(world, "-o", output)) == 0
    shown = capsys.readouterr()
    metrics = json.loads(output.read_text())
    assert f"{metrics['sequences']['FLAIR']['pooled_ap']['value']:.3f}" in shown.out
    assert all(word in shown.out for word in ("FLAIR", "T1w", "oracle", "3 scans, 1 healthy", str(output)))
    assert all(len(line) <= 120 for line in shown.out.splitlines()[:-1])
    assert "without" not in shown.err


def test_default_output_lies_with_the_predictions(world: World) -> None:
    assert main(arguments(world)) == 0
    assert (world.predictions / "metrics.json").is_file()


def test_what_is_not_measured_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.label("D", 1)
    world.predict("E_0000", np.zeros(SHAPE, np.int16))
    (world.predictions / "B_0000.json").unlink()
    assert main(arguments(world)) == 0
    told = capsys.readouterr().err
    assert "1 predictions without a label, not measured" in told
    assert "labels without a prediction, not measured: D" in told
    assert "1 predictions without ID.json, which anatomad_predict writes last: not finished?: B_0000" in told


def test_healthy_option(world: World) -> None:
    world.predict("H_0000", np.zeros(SHAPE, np.int16), folder="healthy")
    assert main(arguments(world, "--healthy", world.root / "healthy", "--seed", 3)) == 0
    metrics = json.loads((world.predictions / "metrics.json").read_text())
    assert metrics["sequences"]["T1w"]["healthy_volumes"] == 2
    assert metrics["bootstrap"]["seed"] == 3


def test_bad_input_is_one_line_and_a_code(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for path in world.predictions.glob("*_anomaly.nii.gz"):
        path.write_bytes(path.read_bytes()[:50])
    assert main(arguments(world)) == 3
    assert "error: " in capsys.readouterr().err
    assert not (world.predictions / "metrics.json").exists()


def test_what_cannot_be_measured_is_named_and_the_others_are(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = world.predictions / "A_0000_anomaly.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:50])
    assert main(arguments(world)) == 3
    told = capsys.readouterr().err
    assert f"A_0000 could not be measured: {damaged}" in told
    metrics = json.loads((world.predictions / "metrics.json").read_text())
    assert metrics["failed"].keys() == {"A_0000"}
    assert (metrics["sequences"]["T1w"]["volumes"], metrics["sequences"]["FLAIR"]["volumes"]) == (2, 3)
    assert main(["-p", "nowhere", "-r", str(world.references)]) == 2


@pytest.mark.parametrize("value", ["-1", "x", "1.5"])
def test_counts_are_whole_numbers(world: World, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([*arguments(world), f"--seed={value}"])
    assert leaving.value.code == 2
    assert "whole number" in capsys.readouterr().err
