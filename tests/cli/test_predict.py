import json
from pathlib import Path

import numpy as np
import pytest

from anatomad.cli.predict import main
from anatomad.predict import run
from anatomad.predict.case import predict_case
from tests.factories import write_nifti
from tests.predict.world import AFFINE, brain, make_model_folder, write_scan
from tests.train.fold import write_dataset

RESULTS = ("anomaly.nii.gz", "mask.nii.gz", "anatomy.nii.gz")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three cases: a has two channels, b is truncated, c lacks the first channel."""
    folder = tmp_path / "scans"
    write_scan(folder / "a_0000.nii.gz")
    write_scan(folder / "a_0001.nii.gz", levels=(1.6, 0.9, 0.6))
    broken = write_scan(folder / "b_0000.nii.gz", seed=1)
    broken.write_bytes(broken.read_bytes()[:-2000])
    write_scan(folder / "c_0001.nii.gz", seed=2)
    return folder


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the cases that were worked on."""
    ids: list[str] = []

    def watched(case: run.Case, *others: object) -> object:
        ids.append(case.id)
        return predict_case(case, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "predict_case", watched)
    for name in ("ANATOMAD_ROOT", "ANATOMAD_WORK"):
        monkeypatch.delenv(name, raising=False)
    return ids


def test_one_bad_file_is_named_the_others_are_done_and_kept(
    scans: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], judged: list[str]
) -> None:
    out = tmp_path / "out"
    command = ["-i", str(scans), "-o", str(out), "-m", str(model), "--device", "cpu"]
    assert main(command) == 3
    shown = capsys.readouterr()
    assert "cases: 3" in shown.out
    assert f"results: {out}" in shown.out
    assert f"case b could not be judged: {scans / 'b_0000.nii.gz'}" in shown.err
    assert "Traceback" not in shown.err
    assert judged == ["a", "b", "c"]
    expected = {f"{case}_{kind}" for case in "ac" for kind in RESULTS} | {"a.json", "c.json"}
    expected |= {"a_phi_0000.nii.gz", "a_phi_0001.nii.gz", "c_phi.nii.gz"}
    assert {path.name for path in out.iterdir()} == expected
    assert set(json.loads((out / "c.json").read_text())["channels"]) == {"1"}
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()}

    judged.clear()
    write_scan(scans / "b_0000.nii.gz", seed=1)
    assert main(command) == 0
    assert judged == ["b"]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert (out / "b.json").is_file()


def test_each_file_can_be_a_case_of_its_own(scans: Path, model: Path, tmp_path: Path, judged: list[str]) -> None:
    (scans / "b_0000.nii.gz").unlink()
    (scans / "c_0001.nii.gz").unlink()
    assert main(["-i", str(scans), "-o", str(tmp_path / "out"), "-m", str(model), "--each", "--device", "cpu"]) == 0
    assert judged == ["a_0000", "a_0001"]
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"a_0000.json", "a_0001.json"}


def test_the_model_of_a_data_set(model: Path, scans: Path, tmp_path: Path, judged: list[str]) -> None:
    folder = write_dataset(tmp_path / "root")
    model_folder = folder / "fold0"
    model_folder.mkdir()
    for path in model.iterdir():
        (model_folder / path.name).write_bytes(path.read_bytes())
    command = ["-i", str(scans / "c_0001.nii.gz"), "-o", str(tmp_path / "out"), "-d", "1", "--device", "cpu"]
    assert main([*command, "--root", str(tmp_path / "root")]) == 0
    assert judged == ["c"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--method", "vae"], 2, "the bundled model has one method and configuration"),
        (["-c", "3d"], 2, "the bundled model has one method and configuration"),
        (["-d", "1", "--fold", "9"], 2, "no fold '9'"),
        (["-d", "1"], 3, "fold0/weights.safetensors: not there"),
        (["-d", "1", "-c", "2d"], 2, "no configuration '2d'; its plan has 3d"),
        (["-d", "7"], 2, "no data set '7'"),
        (["-m", "nothing"], 3, "nothing/weights.safetensors: not there"),
    ],
)
def test_errors_name_the_way_out(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    write_dataset(tmp_path / "root")
    command = ["-i", str(scans), "-o", str(tmp_path / "out"), "--root", str(tmp_path / "root"), "--device", "cpu"]
    assert main([*command, *arguments]) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_scan(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", str(tmp_path), "-o", str(tmp_path / "out"), "-m", str(model)]) == 2
    assert "no scan here" in capsys.readouterr().err


def test_results_do_not_go_where_the_scans_lie(
    scans: Path, model: Path, capsys: pytest.CaptureFixture[str], judged: list[str]
) -> None:
    before = {path: path.read_bytes() for path in scans.iterdir()}
    for given in (scans, scans / "c_0001.nii.gz"):
        assert main(["-i", str(given), "-o", str(scans / ".." / scans.name), "-m", str(model)]) == 2
        assert "the scans lie in this folder; name another one for the results" in capsys.readouterr().err
    assert judged == []
    assert {path: path.read_bytes() for path in scans.iterdir()} == before


def test_a_mask_among_the_scans_is_named_and_the_others_are_done(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nifti(tmp_path / "scans" / "a_brain_mask.nii.gz", (brain() > 0).astype(np.uint8), AFFINE)
    write_scan(tmp_path / "scans" / "b.nii.gz")
    command = ["-i", str(tmp_path / "scans"), "-o", str(tmp_path / "out"), "-m", str(model), "--device", "cpu"]
    assert main(command) == 3
    assert "case a_brain_mask could not be judged" in (told := capsys.readouterr().err)
    assert "the brain has one intensity" in told
    assert (tmp_path / "out" / "b.json").is_file()


def test_a_defect_of_ours_costs_one_case_and_no_memory_ends_the_run(
    scans: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-i", str(scans), "-o", str(tmp_path / "out"), "-m", str(model), "--each", "--device", "cpu"]
    raised: list[Exception] = [ZeroDivisionError("division by zero"), RuntimeError("can't allocate memory: 9 bytes")]

    def failing(*_: object) -> dict[str, object]:
        if raised:
            raise raised.pop(0)
        return {"warnings": ["the brain mask is doubtful"]}

    monkeypatch.setattr(run, "predict_case", failing)
    assert main(command) == 4
    assert "error: not enough memory" in capsys.readouterr().err
    raised.append(ZeroDivisionError("division by zero"))
    assert main(command) == 70
    told = capsys.readouterr().err
    assert "case a_0000 could not be judged: ZeroDivisionError: division by zero; this is a defect of anatomad" in told
    assert "case a_0001: the brain mask is doubtful" in told
