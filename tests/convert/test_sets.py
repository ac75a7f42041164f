"""Every known data set: a miniature in its published layout, converted and read back by what reads raw data sets."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anatomad.convert.run import Outcome, convert
from anatomad.convert.sets import KNOWN
from anatomad.errors import UsageError
from anatomad.io.nifti import read_image, read_labels
from anatomad.planner.dataset import RawDataset, discover_cases, read_dataset
from anatomad.planner.fingerprint import take_fingerprint
from anatomad.planner.splits import make_splits, read_participants
from anatomad.preprocess.store import check_one_grid
from tests.convert.miniatures import MAKERS, analyze, mask, scan

pytestmark = pytest.mark.usefixtures("in_turn")
ISLES9 = "sub-strokecase0009_ses-0001"


@dataclass(frozen=True)
class Converted:
    """A miniature and what became of it."""

    source: Path
    folder: Path
    outcome: Outcome

    @property
    def raw(self) -> RawDataset:
        return read_dataset(self.folder)

    def image(self, name: str) -> np.ndarray:
        return read_image(self.folder / name).data

    def people(self) -> list[str]:
        return (self.folder / "participants.tsv").read_text().splitlines()


def converted(name: str, root: Path) -> Converted:
    MAKERS[name](root / "source")
    folder = root / f"Dataset010_{KNOWN[name].title}"
    return Converted(root / "source", folder, convert(KNOWN[name], root / "source", folder, 1))


# Cases and channels of each miniature, and how many of the cases have a label.
EXPECTED: dict[str, tuple[dict[str, list[int]], int]] = {
    "ixi": (
        {
            "IXI002-Guys-0828_T1": [0],
            "IXI002-Guys-0828_T2": [1, 2],
            "IXI012-HH-1211_T1": [0],
            "IXI012-HH-1211_T2": [1, 2],
            "IXI035-IOP-0873_T1": [0],
        },
        0,
    ),
    "oasis1": ({"OAS1_0001_MR1": [0], "OAS1_0001_MR2": [0], "OAS1_0002_MR1": [0]}, 0),
    "oasis3": (
        {
            "sub-OAS30001_ses-d0129_run-01_T1w": [0],
            "sub-OAS30001_ses-d0129_run-02_T1w": [0],
            "sub-OAS30001_ses-d0757_acq-TSE_T2w": [1],
            "sub-OAS30002_ses-d0371_FLAIR": [2],
        },
        0,
    ),
    "camcan": ({f"sub-CC1100{n}_T{c + 1}w": [c] for n in (33, 37) for c in (0, 1)}, 0),
    "hcp": ({"100307": [0, 1], "100408": [0, 1]}, 0),
    "brats2018": (
        {n: [0, 1, 2, 3] for n in ("Brats18_CBICA_AAB_1", "Brats18_CBICA_AAM_1", "Brats18_TCIA09_141_1")},
        2,
    ),
    "brats2019": ({n: [0, 1, 2, 3] for n in ("BraTS19_CBICA_AAB_1", "BraTS19_TMC_09043_1")}, 2),
    "brats2020": ({n: [0, 1, 2, 3] for n in ("BraTS20_Training_001", "BraTS20_Training_355")}, 2),
    "brats2021": ({n: [0, 1, 2, 3] for n in ("BraTS2021_00000", "BraTS2021_00002")}, 2),
    "brats2023": (
        {n: [0, 1, 2, 3] for n in ("BraTS-GLI-00000-000", "BraTS-MET-00002-000", "BraTS-MET-00002-001")},
        3,
    ),
    "brats2024": (
        {n: [0, 1, 2, 3] for n in ("BraTS-GLI-02063-103", "BraTS-GLI-02063-104", "BraTS-PED-00001-000")},
        3,
    ),
    "mslub": ({n: [0, 1, 2, 3] for n in ("patient01", "patient02")}, 2),
    "isbi2015": ({n: [0, 1, 2, 3] for n in ("test01_01", "training01_01", "training01_02")}, 2),
    "wmh2017": ({n: [0, 1] for n in ("Amsterdam_100", "Amsterdam_160", "Singapore_50", "Utrecht_0")}, 4),
    "atlas2": ({f"sub-{n}_ses-1": [0] for n in ("r001s001", "r002s003", "r005s001")}, 2),
    "isles2022": ({f"sub-strokecase000{n}_ses-0001": [0, 1, 2] for n in (1, 2)}, 2),
}


def test_every_set_has_a_miniature_or_refuses() -> None:
    assert KNOWN.keys() - MAKERS.keys() == {name for name, known in KNOWN.items() if known.refusal}
    assert MAKERS.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", MAKERS)
def test_read_back(name: str, tmp_path: Path) -> None:
    done, known = converted(name, tmp_path), KNOWN[name]
    assert not done.outcome.failures
    assert not done.outcome.found.unplaced
    cases, labels = EXPECTED[name]
    found = done.raw.training_cases() if known.healthy else done.raw.test_cases()
    assert {case.id: [*case.channels] for case in found} == cases
    assert not (done.folder / ("imagesTs" if known.healthy else "imagesTr")).exists()
    assert done.raw.channel_names == dict(enumerate(known.sequences))
    for case in found:
        check_one_grid(case.id, [read_image(path) for path in case.channels.values()])
    labelled = [case for case in found if (label := done.raw.label(case.id)) and label.parent.name == "labelsTs"]
    assert len(labelled) == labels
    for case in labelled:
        label = read_labels(done.folder / "labelsTs" / f"{case.id}.nii.gz")
        check_one_grid(case.id, [label, read_image(next(iter(case.channels.values())))])
        assert set(np.unique(label.data)) == ({0, 1, 2} if name == "wmh2017" else {0, 1})
    told = json.loads((done.folder / "dataset.json").read_text())
    assert (told["licence"], told["citation"], told["homepage"]) == (known.licence, known.citation, known.homepage)
    assert (told["numTraining"], told["numTest"]) == ((len(cases), 0) if known.healthy else (0, len(cases)))
    assert ("labels" in told) == (known.mask is not None)


@pytest.mark.parametrize("name", ["ixi", "oasis1", "brats2020", "isles2022"])
def test_plan_can_measure_it(name: str, tmp_path: Path) -> None:
    done = converted(name, tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    fingerprint, failures = take_fingerprint(done.raw, work, 1)
    # Noise of 16 voxels is no brain, and that is all that may be wrong with it.
    assert fingerprint.cases or failures
    assert all("brain" in str(error) or "voxels" in str(error) for error in failures.values()), failures


@pytest.mark.parametrize("name", MAKERS)
def test_subjects_stay_together(name: str, tmp_path: Path) -> None:
    done = converted(name, tmp_path)
    participants = read_participants(done.folder)
    subjects = {case.id: case.subject for case in done.outcome.cases.values()}
    assert set(participants) == set(subjects.values())
    for fold in make_splits(list(subjects), participants) if len(set(participants)) > 1 else []:
        assert not {subjects[id_] for id_ in fold.train} & {subjects[id_] for id_ in fold.val}


@pytest.mark.parametrize("name", MAKERS)
def test_example_is_a_scan(name: str) -> None:
    known = KNOWN[name]
    assert any(re.search(f"(?:^|/){scan.path}$", f"/data/{known.example}") for scan in known.scans)
    assert not any(re.search(f"(?:^|/)(?:{unused.path})$", f"/data/{known.example}") for unused in known.unused)
    assert re.fullmatch(r"[A-Za-z0-9-]+", known.title)


def test_scans_are_copied_bit_for_bit(tmp_path: Path) -> None:
    done = converted("brats2021", tmp_path)
    source = done.source / "BraTS2021_00000" / "BraTS2021_00000_flair.nii.gz"
    assert (done.folder / "imagesTs" / "BraTS2021_00000_0003.nii.gz").read_bytes() == source.read_bytes()


def test_unzipped_scans_become_gzip_with_their_header(tmp_path: Path) -> None:
    done = converted("isbi2015", tmp_path)
    source = done.source / "training" / "training01" / "preprocessed" / "training01_01_t2_pp.nii"
    target = done.folder / "imagesTs" / "training01_01_0001.nii.gz"
    assert target.read_bytes()[:2] == b"\x1f\x8b"
    before, after = read_image(source), read_image(target)
    assert before.header == after.header
    assert np.array_equal(before.data, after.data)


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.mask])
def test_lesions_are_where_the_published_labels_say(name: str, tmp_path: Path) -> None:
    done = converted(name, tmp_path)
    case = next(case for case in done.outcome.cases.values() if case.mask)
    assert case.mask is not None
    published, ours = read_labels(case.mask).data, read_labels(done.folder / "labelsTs" / f"{case.id}.nii.gz").data
    if name == "wmh2017":
        assert np.array_equal(published, ours)
        assert json.loads((done.folder / "dataset.json").read_text())["labels"]["ignore"] == 2
    else:
        assert np.array_equal(published > 0, ours > 0)


def test_other_published_forms(tmp_path: Path) -> None:
    """MSLUB as its makers publish it, ISLES as its challenge did, OASIS-1 corrected by N3."""
    for word in ("FLAIR", "T1W", "T1WKS", "T2W"):
        scan(tmp_path / "mslub" / "patient01" / f"patient01_{word}.nii.gz")
        scan(tmp_path / "mslub" / "patient01" / "raw" / f"patient01_{word}.nii.gz", shape=(16, 16, 9))
    mask(tmp_path / "mslub" / "patient01" / "patient01_consensus_gt.nii.gz")
    for word in ("dwi", "adc", "flair"):
        scan(tmp_path / "isles2022" / "rawdata" / "sub-strokecase0009" / "ses-0001" / f"{ISLES9}_{word}.nii.gz")
    mask(tmp_path / "isles2022" / "derivatives" / "sub-strokecase0009" / "ses-0001" / f"{ISLES9}_msk.nii.gz")
    t88 = tmp_path / "oasis1" / "disc2" / "OAS1_0042_MR1" / "PROCESSED" / "MPRAGE" / "T88_111"
    analyze(t88 / "OAS1_0042_MR1_mpr_n3_anon_111_t88_masked_gfc.img")
    (tmp_path / "oasis1" / "oasis_cross-sectional.csv").write_text("ID,M/F,Age,CDR\nOAS1_0042_MR1,M,32,\n")
    channels = {"mslub": [0, 1, 2, 3], "isles2022": [0, 1, 2], "oasis1": [0]}
    for name, case in (("mslub", "patient01"), ("isles2022", ISLES9), ("oasis1", "OAS1_0042_MR1")):
        outcome = convert(KNOWN[name], tmp_path / name, tmp_path / f"Dataset010_{name}", 1)
        assert not outcome.failures
        assert not outcome.found.unplaced
        assert {id_: [*files.channels] for id_, files in outcome.cases.items()} == {case: channels[name]}
        assert (outcome.cases[case].mask is None) == (name == "oasis1")


def test_first_rater_of_isbi(tmp_path: Path) -> None:
    done = converted("isbi2015", tmp_path)
    assert len(done.outcome.found.unused["second rater"]) == 2
    assert all(case.mask is None or case.mask.name.endswith("mask1.nii") for case in done.outcome.cases.values())


def test_oasis_volumes_point_where_their_maker_says(tmp_path: Path) -> None:
    done = converted("oasis1", tmp_path)
    image = read_image(done.folder / "imagesTr" / "OAS1_0001_MR1_0000.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    assert image.spacing == pytest.approx((1.0, 1.0, 1.25))
    assert image.header.get_data_dtype() == np.int16
    stem = "OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img"
    published = np.fromfile(done.source / "disc1" / stem, ">i2").reshape((16, 18, 20), order="F")
    assert np.array_equal(image.data, published)
    centre = image.affine @ [*((np.array(image.shape) - 1) / 2), 1]
    assert centre[:3] == pytest.approx([0, 0, 0])


@pytest.mark.parametrize("name", ["oasis1", "oasis3"])
def test_the_demented_are_left_out(name: str, tmp_path: Path) -> None:
    (ids,) = converted(name, tmp_path).outcome.people.left_out.values()
    assert ids == [{"oasis1": "OAS1_0003_MR1", "oasis3": "sub-OAS30003_ses-d0558_T1w"}[name]]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("ixi", "IXI012-HH-1211\t38.78\tM\tHH\tPhilips 3 T"),
        ("ixi", "IXI035-IOP-0873\tn/a\tn/a\tIOP\tGE 1.5 T"),
        ("oasis1", "OAS1_0001\t74\tF"),
        ("oasis3", "sub-OAS30002\t67.252567\tM"),
        ("camcan", "sub-CC110033\t24\tM"),
        ("camcan", "sub-CC110037\t18\tF"),
        ("hcp", "100307\t26-30\tF"),
        ("brats2018", "Brats18_CBICA_AAB_1\t60.4"),
        ("brats2020", "BraTS20_Training_355\tn/a"),
        ("wmh2017", "Amsterdam_160\tAmsterdam\tPhilips Ingenuity 3 T"),
        ("atlas2", "sub-r001s001\tR001"),
    ],
)
def test_participants(name: str, line: str, tmp_path: Path) -> None:
    assert line in converted(name, tmp_path).people()


def test_flair_of_isles_comes_onto_dwi(tmp_path: Path) -> None:
    """A plane in world coordinates stays that plane, whatever the grids."""
    MAKERS["isles2022"](tmp_path / "source")
    (path,) = tmp_path.rglob("sub-strokecase0001_ses-0001_FLAIR.nii.gz")
    flair = nib.load(path)
    places = np.indices(flair.shape).reshape(3, -1)
    world = (flair.affine @ np.vstack([places, np.ones(places.shape[1])]))[:3]
    plane = (500 + 3 * world[0] - 2 * world[1] + 5 * world[2]).reshape(flair.shape).astype("f4")
    nib.save(nib.Nifti1Image(plane, flair.affine), path)
    folder = tmp_path / "Dataset010_ISLES2022"
    convert(KNOWN["isles2022"], tmp_path / "source", folder, 1)
    stem = folder / "imagesTs" / "sub-strokecase0001_ses-0001"
    ours, dwi = read_image(f"{stem}_0002.nii.gz"), read_image(f"{stem}_0000.nii.gz")
    assert np.array_equal(ours.affine, dwi.affine)
    places = np.indices(ours.shape).reshape(3, -1)
    world = (ours.affine @ np.vstack([places, np.ones(places.shape[1])]))[:3]
    expected = (500 + 3 * world[0] - 2 * world[1] + 5 * world[2]).reshape(ours.shape)
    inside = ours.data > 0
    inside[[0, -1]] = inside[:, [0, -1]] = inside[:, :, [0, 1, -2, -1]] = False
    assert inside.sum() > 1000
    assert np.abs(ours.data - expected)[inside].max() < 1


def test_fastmri_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file_brain_AXT2_200_2000019.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UsageError, match=r"fastMRIplus cannot be converted: .*k-space.*bounding boxes"):
        convert(KNOWN["fastmri+"], tmp_path, tmp_path / "Dataset010_fastMRIplus", 1)
    assert not (tmp_path / "Dataset010_fastMRIplus").exists()


def test_a_converted_folder_can_be_predicted_as_it_is(tmp_path: Path) -> None:
    done = converted("mslub", tmp_path)
    assert {case.id: [*case.channels] for case in discover_cases(done.folder)} == EXPECTED["mslub"][0]
