import subprocess
from typing import Any

import pytest

from anatomad.errors import UsageError
from anatomad.parallel import cores
from anatomad.planner import machine


@pytest.fixture(autouse=True)
def all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def cards(monkeypatch: pytest.MonkeyPatch, shown: str | None, identifier: str | None = None) -> None:
    def run(command: tuple[str, ...], **_: Any) -> subprocess.CompletedProcess[str]:
        if shown is None:
            raise FileNotFoundError("nvidia-smi")
        assert [word for word in command if word.startswith("--id")] == ([f"--id={identifier}"] if identifier else [])
        return subprocess.CompletedProcess((), 0, stdout=shown)

    monkeypatch.setattr(machine.subprocess, "run", run)


def test_auto_takes_the_card_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "total_memory", lambda: 13_700_000_000)
    cards(monkeypatch, "38147\n1000\n")
    found = machine.find_machine("auto", 60)
    assert (found.kind, found.memory_gb, found.precision, found.time_s) == ("gpu", 40.0, "bfloat16", 60)
    assert (found.ram_gb, found.cores) == (13.0, cores())
    assert machine.find_machine("cpu").kind == "cpu"
    for nothing in (None, "", "No devices were found\n"):
        cards(monkeypatch, nothing)
        assert machine.find_machine("auto").memory_gb == 13.0


@pytest.mark.parametrize(("visible", "first"), [("1,0", "1"), (" 2", "2"), ("GPU-5e1f,GPU-77", "GPU-5e1f")])
def test_the_first_visible_card_is_asked(monkeypatch: pytest.MonkeyPatch, visible: str, first: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cards(monkeypatch, "1000\n", first)
    assert machine.free_gpu_memory() == 1000 * 2**20


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_cards_are_none(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cards(monkeypatch, "1000\n")
    assert machine.find_machine("auto").kind == "cpu"


def test_a_card_that_others_fill_is_still_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, "10\n")
    assert (machine.find_machine("auto").kind, machine.find_machine("auto").memory_gb) == ("gpu", 0.1)


def test_memory_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "total_memory", lambda: None)
    assert machine.find_machine("cpu").memory_gb == 4.0
    monkeypatch.setattr(machine, "total_memory", lambda: 10_000)
    assert machine.find_machine("cpu").memory_gb == 1.0


@pytest.mark.parametrize(("text", "memory_gb"), [("8GB", 8), ("8 gb", 8), ("11.5G", 11.5), ("80GiB", 85.9)])
def test_memory_of_a_card(text: str, memory_gb: float) -> None:
    found = machine.find_machine(text)
    assert (found.kind, found.memory_gb) == ("gpu", memory_gb)


@pytest.mark.parametrize("text", ["", "8", "GB", "0GB", "-1GB", "8TB", "0.04GB"])
def test_no_memory(text: str) -> None:
    with pytest.raises(UsageError, match=rf"--memory '{text}': expected auto, cpu, or the memory of a GPU like 8GB"):
        machine.find_machine(text)
