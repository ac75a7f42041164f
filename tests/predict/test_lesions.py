import numpy as np
import pytest

from anatomad.planner.plan import Postprocessing
from anatomad.predict.lesions import anomalous, lesion_table
from tests.factories import make_affine

AFFINE = make_affine(np.diag([-1.0, 1.0, 1.0]), (2.0, 1.5, 3.0), angles=(10.0, 0.0, -20.0), origin=(30.0, -40.0, 5.0))


def to_mm(voxel: tuple[float, ...]) -> list[float]:
    return (AFFINE @ [*voxel, 1])[:3].tolist()


def test_positions_volumes_and_peaks() -> None:
    mask, anomaly = np.zeros((12, 13, 14), bool), np.zeros((12, 13, 14), np.float32)
    mask[2:4, 3:7, 5:8] = True
    mask[9, 10, 11] = mask[10, 11, 12] = True  # touch at a corner: one region
    anomaly[mask] = 2.5
    anomaly[3, 5, 7], anomaly[10, 11, 12] = 4.0, 3.25
    anomaly[0, 0, 0] = 9  # outside the mask
    large, small = lesion_table(mask, anomaly, AFFINE)["lesions"]
    assert large["centre_mm"] == pytest.approx(to_mm((2.5, 4.5, 6.0)), abs=0.051)
    assert large["peak_mm"] == pytest.approx(to_mm((3, 5, 7)), abs=0.051)
    assert large["volume_ml"] == pytest.approx(24 * 9 / 1000)
    assert large["peak"] == 4.0
    assert small["centre_mm"] == pytest.approx(to_mm((9.5, 10.5, 11.5)), abs=0.051)
    assert small["volume_ml"] == pytest.approx(2 * 9 / 1000)
    assert small["peak"] == 3.25


def test_the_largest_fifty_come_first() -> None:
    mask = np.zeros((30, 30, 4), bool)
    mask[::3, ::3, 0] = True
    mask[27, 27, :3] = True
    found = lesion_table(mask, mask.astype(np.float32), np.eye(4))
    table = found["lesions"]
    assert found["lesion_count"] == 100
    assert len(table) == 50
    assert table[0]["volume_ml"] == pytest.approx(0.003)
    assert table[0]["centre_mm"] == [27, 27, 1]
    assert {row["volume_ml"] for row in table[1:]} == {0.001}


def test_no_region_no_row() -> None:
    found = lesion_table(np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), np.float32), np.eye(4))
    assert found == {"lesion_count": 0, "lesions": []}


@pytest.mark.parametrize(("smallest_mm3", "kept"), [(0, 3), (9, 3), (17, 2), (18, 2), (18.1, 1), (500, 0)])
def test_regions_that_are_too_small_are_left_out(smallest_mm3: float, kept: int) -> None:
    anomaly = np.zeros((12, 13, 14), np.float32)
    anomaly[2:4, 3:7, 5:8] = 3
    anomaly[9, 10, 11] = anomaly[10, 11, 12] = 2  # touch at a corner: 18 mm³
    anomaly[0, 0, 0] = 2
    found = anomalous(anomaly, AFFINE, Postprocessing(rim_mm=2, mask_p=0.01, smallest_mm3=smallest_mm3))
    assert lesion_table(found, anomaly, AFFINE)["lesion_count"] == kept
    assert not found[anomaly < 2].any()


def test_without_a_smallest_region_the_mask_is_the_level() -> None:
    anomaly = np.random.default_rng(0).exponential(1, (20, 20, 20)).astype(np.float32)
    for p, level in ((0.01, 2.0), (0.001, 3.0)):
        found = anomalous(anomaly, AFFINE, Postprocessing(rim_mm=2, mask_p=p, smallest_mm3=0))
        assert np.array_equal(found, anomaly >= level)
    assert not anomalous(
        np.zeros((4, 4, 4), np.float32), AFFINE, Postprocessing(rim_mm=2, mask_p=0.01, smallest_mm3=1)
    ).any()
