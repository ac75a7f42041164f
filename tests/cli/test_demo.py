from __future__ import annotations

import json
from pathlib import Path

import pytest

from anatomad.cli import demo, plan
from anatomad.demo import generate
from anatomad.demo.generate import TRAINING, Subject, subjects

FEW = subjects(training=2, tumours=1, spots=1, healthy=0)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen() -> list[Subject]:
        return FEW

    monkeypatch.setattr(generate, "subjects", chosen)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_from_generated_scans_to_the_picture_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "demo"
    arguments = ["-o", str(root), "--time", "15s", "-j", "2"]
    assert demo.main(arguments) == 0
    shown = capsys.readouterr().out
    comparison = json.loads((root / "comparison.json").read_text())
    assert {row["sequence"] for row in comparison} == {"T1-like", "T2-like", "FLAIR-like"}
    for row in comparison:
        winner = "anatomad wins" if row["won"] else "intensity thresholding wins"
        assert f"{winner}, average precision {row['precision']:.3f} to {row['rule_precision']:.3f}" in shown
    assert "T2-like, never seen in training: " in shown
    assert str(root / "demo.png") in shown
    assert (root / "demo.png").read_bytes().startswith(b"\x89PNG")

    weights = root / "anatomad" / TRAINING / "fold0" / "weights.safetensors"
    trained, drawn = weights.stat().st_mtime_ns, (root / "demo.png").read_bytes()
    (root / "predictions" / "tumour01_0001.json").unlink()
    assert demo.main(arguments) == 0
    assert weights.stat().st_mtime_ns == trained
    assert (root / "predictions" / "tumour01_0001.json").is_file()
    assert (root / "demo.png").read_bytes() == drawn


def test_a_wrong_time_is_said_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["-o", str(tmp_path / "demo"), "--time", "soon"]) == 2
    assert "'soon' is no time" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


@pytest.mark.usefixtures("few")
def test_a_failing_step_ends_the_demo_with_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def refuse(argv: list[str]) -> int:
        asked.append(argv)
        return 4

    monkeypatch.setattr(plan, "main", refuse)
    monkeypatch.setattr(generate, "generate", lambda *_: None)
    assert demo.main(["-o", str(tmp_path), "-j", "3"]) == 4
    assert asked == [["-d", str(tmp_path / TRAINING), "--work", str(tmp_path / "anatomad"), "-j", "3"]]
