from pathlib import Path

import pytest

from anatomad.baselines.registry import METHODS
from anatomad.errors import ModelError
from anatomad.train import picture
from anatomad.train.loop import InterruptedRunError, train_fold
from tests.train.fold import make_job, no_calibration
from tests.train.test_resume import PLAN, stop_at, timeless_log, train_with_stops


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "draw", lambda *_: None)


@pytest.mark.parametrize("name", ["f-anogan", "patchcore+contrasts"])
def test_an_interrupted_peer_ends_bit_for_bit_like_a_whole_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = (make_job(tmp_path / kind, PLAN, method=METHODS[name]) for kind in ("whole", "stopped"))
    assert train_fold(whole, no_calibration)
    train_with_stops(monkeypatch, stopped, 3, 33, 26)
    for file in ("weights.safetensors", "model.json", "calibration.json"):
        assert (whole.folder / file).read_bytes() == (stopped.folder / file).read_bytes()
    assert timeless_log(whole.folder) == timeless_log(stopped.folder)


def test_another_method_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(InterruptedRunError):
            train_fold(make_job(tmp_path, PLAN, method=METHODS["vae"]), no_calibration)
    with pytest.raises(ModelError, match="delete this folder"):
        train_fold(make_job(tmp_path, PLAN, method=METHODS["dae"]), no_calibration)
