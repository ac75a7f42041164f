import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from anatomad.errors import DataError
from anatomad.io import commit
from anatomad.io.geometry import working_grid
from anatomad.planner.dataset import Case
from anatomad.predict.case import _anatomy, is_finished, predict_case
from anatomad.predict.folder import Model, load_model
from anatomad.predict.fuse import fuse
from tests.factories import make_affine, write_nifti
from tests.predict.world import AFFINE, SHAPE, SPACING, brain, make_model_folder, write_scan

ROOT = Path(__file__).parents[2]
T1, T2 = (0.25, 0.65, 1.0), (1.6, 0.9, 0.6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case("one", {0: write_scan(tmp_path / "in" / "one_0000.nii.gz", lesion=1.5)})


def data(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_the_anatomy_is_that_of_the_resampled_mean_over_the_channels() -> None:
    grid = working_grid((30, 27, 21), make_affine(spacing=(1.3, 1.1, 1.9)), (2, 2, 2))
    mask = np.ones(grid.native_shape, bool)
    mask[:4] = False
    seen = torch.rand(2, 3, *grid.box, generator=torch.Generator().manual_seed(1))
    scan = SimpleNamespace(grid=grid, brain=SimpleNamespace(mask=mask))
    found = _anatomy([SimpleNamespace(scan=scan, parts=SimpleNamespace(anatomy=own)) for own in seen])
    expected = np.where(mask, grid.to_native(seen.mean(0).numpy(), order=1).argmax(0) + 1, 0)
    assert found.dtype == np.uint8
    assert (found == expected).mean() > 0.999  # rounding may settle a tie


def test_results_lie_in_the_grid_of_the_input(model: Model, case: Case, tmp_path: Path) -> None:
    report = predict_case(case, model, tmp_path / "out")
    names = {f"one_{kind}.nii.gz" for kind in ("anomaly", "mask", "anatomy", "phi")} | {"one.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    given = nib.load(case.channels[0])
    for name in names - {"one.json"}:
        header = nib.load(tmp_path / "out" / name).header
        assert header.get_data_shape() == SHAPE
        for form in ("get_sform", "get_qform"):
            (affine, code), (expected, expected_code) = (getattr(h, form)(coded=True) for h in (header, given.header))
            assert code == expected_code
            np.testing.assert_array_equal(affine, expected)
        assert header["xyzt_units"] == given.header["xyzt_units"]
    anomaly, mask, anatomy, phi = (
        data(tmp_path / "out" / f"one_{k}.nii.gz") for k in ("anomaly", "mask", "anatomy", "phi")
    )
    assert anomaly.dtype == phi.dtype == np.float32
    inside = data(case.channels[0]) > 0
    assert np.array_equal(anatomy > 0, inside)
    assert set(np.unique(anatomy)) <= {0, 1, 2, 3}
    assert anomaly.min() == 0
    assert not anomaly[~inside].any()
    assert not phi[~inside].any()
    assert 0 < phi[inside].mean() < 1500  # in the scan's own unit
    assert np.array_equal(mask > 0, anomaly >= 2)
    check_report(report, anomaly, mask, inside)
    assert json.loads((tmp_path / "out" / "one.json").read_text()) == report


def check_report(report: dict[str, object], anomaly: np.ndarray, mask: np.ndarray, inside: np.ndarray) -> None:
    voxel_ml = float(np.prod(SPACING)) / 1000
    assert report["case"] == "one"
    assert report["anomalous_ml"] == pytest.approx(mask.sum() * voxel_ml, abs=1e-3)
    assert report["brain_ml"] == pytest.approx(inside.sum() * voxel_ml, rel=0.01)
    assert report["brain_mask"] == "stripped"
    values = np.sort(anomaly[inside])
    assert report["score"] == pytest.approx(values[-int(0.005 * len(values)) :].mean(), abs=1e-4)
    assert report["score_p"] in (0.5, 1.0)  # one healthy subject to compare with
    assert report["channels"]["0"]["file"] == "one_0000.nii.gz"  # type: ignore[index]


def test_a_stark_lesion_is_more_anomalous_than_health(model: Model, case: Case, tmp_path: Path) -> None:
    predict_case(case, model, tmp_path / "out")
    healthy = Case("two", {0: write_scan(tmp_path / "in" / "two.nii.gz")})
    before, after = (
        data(tmp_path / "out" / f"{name}_anomaly.nii.gz")[8:12, 14:18, 14:18].mean()
        for name in (predict_case(healthy, model, tmp_path / "out")["case"], "one")
    )
    assert after > before + 0.5


def test_channels_are_fused_and_each_has_its_phi(model: Model, tmp_path: Path) -> None:
    out, paths = tmp_path / "out", {0: tmp_path / "in" / "s_0000.nii.gz", 2: tmp_path / "in" / "s_0002.nii.gz"}
    for path, levels in zip(paths.values(), (T1, T2), strict=True):
        write_scan(path, levels=levels)
    report = predict_case(Case("s", paths), model, out)
    assert set(report["channels"]) == {"0", "2"}
    assert report["score_p"] is None  # healthy scores are those of single channels
    assert {path.name for path in out.glob("*phi*")} == {"s_phi_0000.nii.gz", "s_phi_0002.nii.gz"}
    # the first channel finds the brain for both, as it does alone
    alone = []
    for number, path in paths.items():
        predict_case(Case(f"a{number}", {number: path}), model, out)
        alone.append(data(out / f"a{number}_anomaly.nii.gz"))
    np.testing.assert_allclose(data(out / "s_anomaly.nii.gz"), fuse(alone), atol=1e-4)


def test_the_sidecar_of_a_scanner_is_not_replaced(model: Model, case: Case, tmp_path: Path) -> None:
    sidecar, mask = tmp_path / "out" / "one.json", tmp_path / "out" / "one_mask.nii.gz"
    write_nifti(mask, np.full((4, 4, 4), 7, np.uint8), np.eye(4))
    sidecar.write_text('{"EchoTime": 0.03}')
    with pytest.raises(DataError, match=r"one\.json: is there and was not written by anatomad_predict; name another"):
        predict_case(case, model, tmp_path / "out")
    assert json.loads(sidecar.read_text()) == {"EchoTime": 0.03}
    assert (data(mask) == 7).all()


def test_channels_on_two_grids_are_refused(model: Model, tmp_path: Path) -> None:
    first = write_scan(tmp_path / "s_0000.nii.gz")
    second = write_nifti(tmp_path / "s_0001.nii.gz", brain()[1:], AFFINE)
    with pytest.raises(DataError, match=r"s_0000.* and .*s_0001.* different grids"):
        predict_case(Case("s", {0: first, 1: second}), model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_finished_means_same_model_same_input_and_all_files(model: Model, case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not is_finished(case, model, out)
    predict_case(case, model, out)
    assert is_finished(case, model, out)
    other = model.calibration.model_copy(update={"tail": 9.0})
    for changed in ({"digest": "0"}, {"calibration": other}):
        assert not is_finished(case, Model(**(vars(model) | changed)), out)
    (out / "one_phi.nii.gz").unlink()
    assert not is_finished(case, model, out)
    predict_case(case, model, out)
    write_scan(case.channels[0], seed=1)
    assert not is_finished(case, model, out)
    (out / "one.json").write_text("[")
    assert not is_finished(case, model, out)


def test_a_failed_rewrite_leaves_no_report_of_the_old_one(
    model: Model, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    predict_case(case, model, out)
    replace, left = os.replace, [2]

    def stop(*paths: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(commit.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        predict_case(case, Model(**(vars(model) | {"digest": "new"})), out)
    monkeypatch.undo()
    assert not is_finished(case, model, out)
    assert not list(out.glob(".*"))


def test_killed_in_the_middle_it_leaves_no_partial_file(model: Model, case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.predict.killer", *map(str, (model.folder, case.channels[0], out, 3))]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert len(list(out.glob(".*.tmp"))) == 1  # what it was at
    there = sorted(path.name for path in out.glob("[!.]*"))
    assert there == ["one_anomaly.nii.gz", "one_mask.nii.gz"]
    killed = {name: (out / name).read_bytes() for name in there}
    assert not is_finished(case, model, out)
    predict_case(case, model, out)
    assert is_finished(case, model, out)
    assert not list(out.glob(".*"))
    assert killed == {name: (out / name).read_bytes() for name in there}
