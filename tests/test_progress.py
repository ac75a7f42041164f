import re

import pytest

from anatomad.progress import Progress, clock, track


def test_clock() -> None:
    assert [clock(0.4), clock(61), clock(3600)] == ["00:00", "01:01", "1:00:00"]


def test_plain_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(4, "train", done=1, interval_s=0) as progress:
        progress.advance(text="loss 0.5")
        progress.advance(2)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\[00:00\] train 2/4, about 00:00 left  loss 0\.5", lines[0])
    assert lines[1:] == ["[00:00] train 4/4, done"]


def test_end_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2, 3], "cases")) == [1, 2, 3]
    assert capsys.readouterr().err == "[00:00] cases 3/3, done\n"


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress(2, "cases") as progress:
        progress.advance(text="[a]")
        progress.advance(text="[b]")
    shown = capsys.readouterr().err
    assert "cases" in shown
    assert "2/2" in shown
    assert "[b]" in shown
