import json
import shlex
import sys
import types
from pathlib import Path

import pytest

from anatomad.cli.train import main
from tests.train.fold import no_calibration, tiny_plan, write_dataset
from tests.train.test_resume import stop_at


@pytest.fixture(autouse=True)
def calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("anatomad.predict.calibration")
    module.calibrate_fold = no_calibration  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("ANATOMAD_ROOT", "ANATOMAD_WORK"):
        monkeypatch.delenv(name, raising=False)


def test_trains_stops_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dataset(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        assert main(["1", "0", "--root", str(tmp_path), "--device", "cpu"]) == 5
    shown = capsys.readouterr()
    assert shown.out == f"Dataset001_Tiny fold0: 2 cases train, 1 validate; model in {folder / 'fold0'}\n"
    assert "a checkpoint holds step 0 of stage restoration, the same command goes on there" in shown.err

    assert main(["001", "fold0", "--root", str(tmp_path), "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "goes on from step 0 of stage restoration" in shown.err
    assert f"fold0 is finished: {folder / 'fold0'}\nnext: anatomad_predict" in shown.out

    assert main(["001", "fold0", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"Dataset001_Tiny fold0 is finished: {folder / 'fold0'}\n")
    assert shown.err == ""

    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"seed": 5}))
    assert main(["001", "fold0", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "trained under another plan" in shown.out
    assert "other cases" not in shown.out

    (folder / "splits.json").write_text(json.dumps([{"train": ["a"], "val": ["b", "c"]}]))
    assert main(["001", "fold0", "--root", str(tmp_path)]) == 0
    assert "trained with other cases than splits.json gives this fold now; delete its folder" in capsys.readouterr().out


def test_fits_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path)
    assert (
        main(["1", "0", "--root", str(tmp_path), "--time", "0.01s"]) == 0
    )  # gone before the first step, on any machine
    assert "--time 0.01 s is too little to train; a stage gets 10 steps only" in capsys.readouterr().err
    header = json.loads((folder / "fold0" / "log.jsonl").read_text().splitlines()[0])
    assert header["steps"] == {"anatomy": 10, "restoration": 10, "recoupling": 10}
    assert header["seconds_per_step"].keys() == header["steps"].keys()


def test_each_configuration_has_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path = tmp_path / "with space"
    folder = write_dataset(tmp_path, tiny_plan(dimension=2), tiny_plan())
    for arguments, name, configuration in ((["-c", "3d"], "fold0_3d", "3d"), ([], "fold0", "2d")):
        assert main(["1", "0", "--root", str(tmp_path), "--time", "0.01s", "--device", "cpu", *arguments]) == 0
        shown = capsys.readouterr().out
        assert f"{name} is finished: {folder / name}\n" in shown
        assert shlex.split(shown.splitlines()[-1])[-1] == str(folder / name)
        model = json.loads((folder / name / "model.json").read_text())
        assert (model["fold"], model["plan"]["configuration"]) == (name, configuration)
    assert main(["1", "0", "--root", str(tmp_path), "-c", "4d"]) == 2
    assert "no configuration '4d'; its plan has 2d, 3d" in capsys.readouterr().err


def test_the_time_of_the_plan_holds_unless_another_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_dataset(tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    plan["machine"]["time_s"] = 0.01
    (folder / "plan.json").write_text(json.dumps(plan))
    assert main(["1", "0", "--root", str(tmp_path), "--device", "cpu"]) == 0
    assert "--time 0.01 s is too little to train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gone", "arguments", "code", "words"),
    [
        ("", ["1", "fold1"], 2, "no fold 'fold1'; this data set has fold0"),
        ("", ["1", "0", "--time", "20"], 2, "'20' is no time"),
        ("", ["7", "0"], 2, "no data set '7'"),
        ("plan.json", ["1", "0"], 3, "make one with 'anatomad_plan"),
        ("splits.json", ["1", "0"], 3, "make them with 'anatomad_plan"),
        ("store/b.json", ["1", "0"], 3, "without b; run 'anatomad_plan -d Dataset001_Tiny'"),
    ],
)
def test_errors_name_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: str, arguments: list[str], code: int, words: str
) -> None:
    folder = write_dataset(tmp_path)
    if gone:
        (folder / gone).unlink()
    assert main([*arguments, "--root", str(tmp_path)]) == code
    assert words in capsys.readouterr().err
