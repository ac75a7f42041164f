from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anatomad.errors import BrainMaskError, DataError
from anatomad.planner.dataset import Case
from anatomad.planner.plan import Plan
from anatomad.preprocess import store
from anatomad.preprocess.store import load_case, preprocess_case, preprocessing_digest
from tests.preprocess.phantoms import T1, T2, as_image, atlas_head, ellipsoid


def make_plan(**changes: object) -> Plan:
    settings: dict[str, object] = {
        "spacing_mm": (4.0, 4.0, 4.0),
        "box": (40, 48, 40),
        "multiple": (4, 4, 4),
        "tissues": ("background", "csf", "grey matter", "white matter"),
        "channel_names": {0: "T2w", 1: "T1w"},
        "brain_mask": "auto",
        "normalisation": {0: (0.5, 99.5), 1: (0.5, 99.5)},
        "seed": 0,
    }
    return Plan.model_construct(**settings | changes)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    paths = {number: tmp_path / f"raw/sub-1_000{number}.nii.gz" for number in (0, 1)}
    for levels, path in zip((T2, T1), paths.values(), strict=True):
        as_image(ellipsoid(levels)[0], path)
    return Case("sub-1", paths)


@pytest.fixture
def quick_tissue(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Stand in for the mixture; collects the images it is given."""
    given = []

    def tissue(image: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        given.append(image)
        return np.stack([~mask, 0 * mask, 0 * mask, mask]).astype(np.float32)

    monkeypatch.setattr(store, "tissue_prior", tissue)
    return given


def test_a_case_with_two_channels(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    sidecar = preprocess_case(case, make_plan(), folder)
    stored = load_case(folder, "sub-1")
    assert stored.image.shape == (2, 40, 48, 40)
    assert stored.image.dtype == np.float16
    assert stored.mask.dtype == bool
    assert stored.tissue.shape == (4, 40, 48, 40)
    assert stored.channels == (0, 1)
    assert not stored.image[:, ~stored.mask].any()
    total = stored.tissue.astype(int).sum(0)
    assert np.abs(total - 255).max() <= 2
    assert (stored.tissue[0][~stored.mask] == 255).all()
    assert stored.info == sidecar == json.loads((folder / "sub-1.json").read_text())
    assert sidecar["brain"]["source"] == "stripped"
    # white matter is the brightest tissue of the T1w channel, from which the prior is made
    t1 = stored.image[1].astype(float)
    csf, white = (t1[stored.tissue[k] > 200].mean() for k in (1, 3))
    assert white > csf


@pytest.mark.usefixtures("quick_tissue")
def test_a_matching_case_is_skipped(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    preprocess_case(case, make_plan(), folder)
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]
    preprocess_case(case, make_plan(seed=5), folder)  # a key that preprocessing does not read
    assert [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())] == before


@pytest.mark.usefixtures("quick_tissue")
@pytest.mark.parametrize("change", ["plan", "input", "tensors gone", "sidecar damaged"])
def test_a_changed_case_is_made_anew(case: Case, tmp_path: Path, change: str) -> None:
    folder, plan = tmp_path / "store", make_plan()
    preprocess_case(case, plan, folder)
    sidecar = folder / "sub-1.json"
    before = sidecar.stat().st_mtime_ns
    if change == "plan":
        plan = make_plan(box=(48, 48, 40))
    elif change == "input":
        as_image(ellipsoid(T1, seed=4)[0], case.channels[1])
    elif change == "tensors gone":
        (folder / "sub-1.safetensors").unlink()
    else:
        sidecar.write_text('{"inputs": ')
    preprocess_case(case, plan, folder)
    assert sidecar.stat().st_mtime_ns > before
    assert load_case(folder, "sub-1").image.shape[1:] == plan.box


@pytest.mark.usefixtures("quick_tissue")
def test_each_channel_is_normalised_as_the_plan_says(
    case: Case, tmp_path: Path, quick_tissue: list[np.ndarray]
) -> None:
    usual, other = make_plan(), make_plan(normalisation={0: (0.5, 99.5), 1: (10.0, 60.0)})
    found = []
    for folder, plan in ((tmp_path / "a", usual), (tmp_path / "b", other)):
        preprocess_case(case, plan, folder)
        found.append(load_case(folder, "sub-1"))
    first, second = found
    assert np.array_equal(first.image[0], second.image[0])
    brain = second.image[1][second.mask]
    assert np.mean(brain < 0) == pytest.approx(0.1, abs=0.01)
    assert np.mean(brain > 1) == pytest.approx(0.4, abs=0.01)
    assert quick_tissue[1].max() > quick_tissue[0].max()  # the prior is made from channel 1
    assert preprocessing_digest(usual) != preprocessing_digest(other)


def test_the_plan_can_refuse_whole_heads(case: Case, tmp_path: Path) -> None:
    path = case.channels[0]
    as_image(atlas_head(T1)[0], path, (1.75, 1.75, 1.75))
    with pytest.raises(BrainMaskError, match=r"sub-1_0000.*the plan expects skull-stripped .*--set brain_mask=auto"):
        preprocess_case(Case("sub-1", {0: path}), make_plan(brain_mask="stripped"), tmp_path / "store")


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from anatomad.planner.dataset import Case
from anatomad.preprocess import store
from tests.preprocess.test_store import make_plan
store.tissue_prior = lambda image, mask, spacing: np.stack([~mask, 0 * mask, 0 * mask, mask]).astype(np.float32)
store.write_json = lambda path, obj: os.kill(os.getpid(), signal.SIGKILL)
store.preprocess_case(Case("sub-1", {0: Path(sys.argv[1])}), make_plan(box=(48, 48, 40)), Path(sys.argv[2]))
"""


@pytest.mark.usefixtures("quick_tissue")
def test_killed_between_tensors_and_sidecar(case: Case, tmp_path: Path) -> None:
    folder, single = tmp_path / "store", Case("sub-1", {0: case.channels[0]})
    preprocess_case(single, make_plan(), folder)
    arguments = [sys.executable, "-c", KILLED, str(case.channels[0]), str(folder)]
    assert subprocess.run(arguments, cwd=Path(__file__).parents[2], check=False).returncode == -9
    assert (folder / "sub-1.safetensors").is_file()
    assert not (folder / "sub-1.json").exists()  # the old sidecar must not vouch for the new tensors
    with pytest.raises(DataError, match="is not in the store"):
        load_case(folder, "sub-1")
    preprocess_case(single, make_plan(), folder)
    assert load_case(folder, "sub-1").image.shape == (1, 40, 48, 40)


def test_the_prior_is_made_from_plain_t1(case: Case, tmp_path: Path, quick_tissue: list[np.ndarray]) -> None:
    plan = make_plan(channel_names={0: "T1Gd", 1: "T1w"})
    preprocess_case(case, plan, tmp_path / "store")
    stored = load_case(tmp_path / "store", "sub-1")
    difference = [np.abs(image.astype(np.float32) - quick_tissue[0])[stored.mask].mean() for image in stored.image]
    assert difference[1] < 0.1 < difference[0]


def test_channels_on_different_grids(case: Case, tmp_path: Path) -> None:
    as_image(ellipsoid()[0][1:], case.channels[1])
    with pytest.raises(
        DataError, match=r"sub-1_0000\.nii\.gz and .*sub-1_0001\.nii\.gz lie on different grids .their sh"
    ):
        preprocess_case(case, make_plan(), tmp_path / "store")
    as_image(ellipsoid()[0], case.channels[1], affine=np.diag([-2.5, 2.5, 2.5, 1]))
    with pytest.raises(DataError, match="their affines differ by up to 5"):
        preprocess_case(case, make_plan(), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_case_without_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="case x: no image file"):
        preprocess_case(Case("x", {}), make_plan(), tmp_path)
    with pytest.raises(DataError, match=r"gone\.nii: cannot be read"):
        preprocess_case(Case("x", {0: tmp_path / "gone.nii"}), make_plan(), tmp_path)


@pytest.mark.usefixtures("quick_tissue")
def test_damaged_tensors_are_refused(case: Case, tmp_path: Path) -> None:
    preprocess_case(case, make_plan(), tmp_path / "store")
    path = tmp_path / "store/sub-1.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError):
        load_case(tmp_path / "store", "sub-1")


def test_the_digest_follows_what_preprocessing_reads() -> None:
    digest = preprocessing_digest(make_plan())
    assert digest == preprocessing_digest(make_plan(seed=9))
    changes = (
        {"spacing_mm": (2.0, 2.0, 2.0)},
        {"box": (48, 48, 48)},
        {"multiple": (4, 4, 2)},
        {"channel_names": {0: "x"}},
    )
    assert len({digest} | {preprocessing_digest(make_plan(**change)) for change in changes}) == 5
