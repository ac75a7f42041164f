from pathlib import Path

import pytest
import torch

from anatomad.train.checkpoint import RunState, load, save


def fill(folder: Path, *steps: int) -> None:
    for step in steps:
        state = RunState(identity="i", steps={"anatomy": 1000}, watched=1, step=step)
        save(folder, state, {"model.w": torch.full((3,), float(step)), "optimiser.step.w": torch.tensor(2.0)})


def loaded_step(folder: Path) -> int | None:
    found = load(folder)
    if found is None:
        return None
    state, tensors = found
    assert torch.equal(tensors["model.w"], torch.full((3,), float(state.step)))
    assert tensors["optimiser.step.w"].shape == ()
    return state.step


def test_newest_of_two_kept(tmp_path: Path) -> None:
    fill(tmp_path, 20, 80, 120)
    names = ["0-0000080.json", "0-0000080.safetensors", "0-0000120.json", "0-0000120.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert loaded_step(tmp_path) == 120


@pytest.mark.parametrize("ending", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_damaged_newest_gives_the_one_before(tmp_path: Path, ending: str, damage: str) -> None:
    fill(tmp_path, 20, 40)
    path = tmp_path / f"0-0000040.{ending}"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert loaded_step(tmp_path) == 20


def test_unusable_checkpoints_do_not_outlive_new_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, 20, 40)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"damaged")
    assert load(tmp_path) is None
    assert "training starts anew" in caplog.text
    fill(tmp_path, 0, 5, 10)
    assert loaded_step(tmp_path) == 10


def test_newest_by_number(tmp_path: Path) -> None:
    fill(tmp_path, 9_999_980, 10_000_000)
    assert loaded_step(tmp_path) == 10_000_000


def test_nothing_there_and_remains_of_a_killed_write(tmp_path: Path) -> None:
    assert load(tmp_path / "none") is None
    (tmp_path / ".0123-4567-1-89.tmp").write_bytes(b"half")
    (tmp_path / "0-0000020.safetensors").write_bytes(b"without its json")
    assert load(tmp_path) is None
    fill(tmp_path, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-0000040.json", "0-0000040.safetensors"]
