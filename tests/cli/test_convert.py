import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anatomad.cli.convert import main
from anatomad.convert.sets import KNOWN
from anatomad.planner.dataset import find_dataset
from tests.convert.miniatures import MAKERS, scan


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANATOMAD_ROOT", raising=False)
    return tmp_path


def test_convert(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MAKERS["wmh2017"](root / "source")
    scan(root / "source" / "training" / "Utrecht" / "0" / "mine.nii.gz")
    assert main(["wmh2017", "source", "-d", "10", "-j", "2"]) == 0
    shown = capsys.readouterr()
    assert "WMH2017: cases 4; T1w 4, FLAIR 4, lesion masks 4" in shown.out
    assert "files written: 12, kept: 0" in shown.out
    assert "licence: CC BY-NC 4.0" in shown.out
    assert "not used, other raters: 1 files" in shown.out
    assert "not placed, images that fit no pattern: 1: " in shown.err
    assert "mine.nii.gz" in shown.err
    dataset = find_dataset("010")
    assert dataset.name == "Dataset010_WMH2017"
    assert len(dataset.test_cases()) == 4
    assert main(["WMH2017", "source", "-d", "Dataset010_WMH2017", "--root", str(root)]) == 0
    assert "files written: 0, kept: 12" in capsys.readouterr().out


def test_a_case_that_fails_is_named_and_the_others_are_done(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MAKERS["brats2021"](root / "source")
    (root / "source" / "BraTS2021_00002" / "BraTS2021_00002_t2.nii.gz").write_bytes(b"nothing")
    assert main(["brats2021", "source", "-d", "010", "-j", "1"]) == 3
    shown = capsys.readouterr()
    assert "case BraTS2021_00002 was not converted: " in shown.err
    assert "BraTS2021: cases 1;" in shown.out
    assert len(find_dataset("010").test_cases()) == 1


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    cards = shown.split("\n\n")
    assert [card.split(":")[0] for card in cards] == list(KNOWN)
    for card, known in zip(cards, KNOWN.values(), strict=True):
        assert all(text in card for text in (known.licence, known.citation, known.homepage, *known.sequences))
        assert ("with lesion masks" in card) == (known.mask is not None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "which data set, from where, to which number"),
        (["ixi", "source"], "which data set, from where, to which number"),
        (["ixi2", "source", "-d", "010"], "no data set 'ixi2'; known are ixi"),
        (["ixi", "source", "-d", "ten"], "-d ten: a new data set is named by its number"),
        (["ixi", "source", "-d", "010", "--root", "nowhere"], "nowhere: no such folder"),
        (["ixi", "source", "-d", "011"], "has the number 011 already"),
        (["fastmri+", "source", "-d", "010"], "fastMRIplus cannot be converted"),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], told: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MAKERS["ixi"](root / "source")
    other = root / "Dataset011_Other"
    other.mkdir()
    (other / "dataset.json").write_text("{}")
    assert main(arguments) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in root.glob("Dataset*")] == ["Dataset011_Other"]


@pytest.mark.slow
def test_killed_runs_leave_what_a_whole_one_leaves(root: Path) -> None:
    MAKERS["brats2023"](root / "source")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(place: str) -> list[str]:
        (root / place).mkdir(exist_ok=True)
        call = "import sys; from anatomad.cli.convert import main; sys.exit(main(sys.argv[1:]))"
        return [sys.executable, "-c", call, "brats2023", "source", "-d", "010", "--root", place, "-j", "1"]

    def tree(place: str) -> dict[str, bytes]:
        folder = root / place
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    start = time.monotonic()
    assert subprocess.run(command("whole"), env=environment, cwd=root, capture_output=True).returncode == 0
    duration = time.monotonic() - start
    for share in (0.5, 0.7, 0.8, 0.9):
        process = subprocess.Popen(command("killed"), env=environment, cwd=root, stderr=subprocess.DEVNULL)
        time.sleep(share * duration)
        process.kill()
        process.wait()
    assert subprocess.run(command("killed"), env=environment, cwd=root, capture_output=True).returncode == 0
    assert tree("killed") == tree("whole")
    assert json.loads(tree("whole")["Dataset010_BraTS2023/conversion.json"])["complete"]
