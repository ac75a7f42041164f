import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from anatomad.errors import ModelError
from anatomad.predict.folder import load_model
from tests.predict.world import make_model_folder, small_plan


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "fold0"))


def test_a_finished_model(folder: Path) -> None:
    model = load_model(folder)
    assert model.plan == small_plan()
    assert model.folder == folder
    assert len(model.digest) == 64
    assert not model.networks.training
    assert not any(p.requires_grad for p in model.networks.parameters())
    torch.manual_seed(0)
    expected = type(model.networks)(model.plan).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.networks.state_dict().items())


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "calibration.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"fold0/{name}: not there; .* 'anatomad_train'"):
        load_model(folder)


def change(key: str, value: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | {key: value}).encode()


def halve(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("model.json", halve, "model.json: damaged"),
        ("model.json", lambda _: b"[]", "model.json: damaged"),
        ("model.json", lambda _: b"{}", "model.json: damaged .*plan"),
        ("model.json", change("plan", {"version": 9}), "model.json: damaged .*version"),
        ("model.json", change("plan_sha256", "0"), "model.json: its plan is not the one that was trained"),
        ("calibration.json", halve, "calibration.json: damaged"),
        ("calibration.json", change("tail", "long"), "calibration.json: damaged .*tail"),
        ("calibration.json", change("extra", 1), "calibration.json: damaged .*extra"),
        ("weights.safetensors", halve, "weights.safetensors: SHA-256 .* is not the one in model.json"),
        ("weights.safetensors", lambda content: content[:-1] + b"!", "weights.safetensors: SHA-256"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, damage: Callable[[bytes], bytes], words: str) -> None:
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(ModelError, match=f"(?s)fold0/{words}"):
        load_model(folder)


def test_weights_of_another_plan_are_named(folder: Path, tmp_path: Path) -> None:
    other = make_model_folder(tmp_path / "other", small_plan(features=(4, 4)))
    description = json.loads((folder / "model.json").read_text())
    theirs = json.loads((other / "model.json").read_text())
    swapped = description | {key: theirs[key] for key in ("plan", "plan_sha256")}
    (folder / "model.json").write_text(json.dumps(swapped))
    with pytest.raises(ModelError, match=r"(?s)fold0/weights.safetensors: does not fit its plan .*size mismatch"):
        load_model(folder)
