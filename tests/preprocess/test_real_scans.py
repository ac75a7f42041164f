"""Real scans, kept outside the repository; every scan of the folder was classified by hand."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from anatomad.io.nifti import read_image
from anatomad.preprocess.brain_mask import brain_mask

ROOT = os.environ.get("ANATOMAD_TEST_DATA", "")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not Path(ROOT, "Dataset001_HealthyT1").is_dir(), reason="ANATOMAD_TEST_DATA names no scans"),
]

STRIPPED = {
    "Dataset001_HealthyT1/imagesTr/sub-01_0000.nii.gz": 1537,
    "Dataset001_HealthyT1/imagesTr/sub-34_0000.nii.gz": 1223,
    "Dataset002_HealthyT1Flawed/imagesTs/sub-45_0000.nii.gz": 1228,
    "Dataset101_Glioma/imagesTs/Brats18_TCIA01_201_1_0003.nii.gz": 1527,
    "Dataset102_MultipleSclerosis/imagesTs/patient07_0000.nii.gz": 1138,
    "Dataset102_MultipleSclerosis/imagesTs/patient26_0003.nii.gz": 1125,
    "Dataset103_StrokeT2/imagesTs/M2307_0000.nii.gz": 1328,
}
HEADS = {
    "Dataset003_WholeHeadT1/imagesTs/IXI014_0000.nii.gz": (1200, 1450),
    "Dataset003_WholeHeadT1/imagesTs/chris_0000.nii.gz": (1550, 1850),
}


@pytest.mark.parametrize("name", STRIPPED)
def test_stripped(name: str) -> None:
    found = brain_mask(read_image(Path(ROOT, name)))
    assert found.source == "stripped"
    assert found.volume_ml == pytest.approx(STRIPPED[name], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_whole_head(name: str) -> None:
    start = time.process_time()
    found = brain_mask(read_image(Path(ROOT, name)))
    assert time.process_time() - start < 30
    assert found.source == "computed"
    assert found.doubt is None
    low, high = HEADS[name]
    assert low < found.volume_ml < high
