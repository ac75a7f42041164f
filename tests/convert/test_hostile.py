"""What may be wrong with a download, and conversions that are stopped."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from anatomad.convert import run
from anatomad.convert.run import Outcome, convert
from anatomad.convert.sets import KNOWN, known_set
from anatomad.errors import CorruptImageError, DataError, TruncatedImageError, UsageError
from anatomad.io.nifti import read_image
from tests.convert.miniatures import MAKERS, MM1, analyze, mask, scan
from tests.factories import make_affine, write_nifti

pytestmark = pytest.mark.usefixtures("in_turn")


class Download:
    """A miniature that a test can damage, and its conversion."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.source, self.folder = name, root / "source", root / "Dataset010_Mini"
        MAKERS[name](self.source)

    def file(self, name: str) -> Path:
        (path,) = self.source.rglob(name)
        return path

    def convert(self, source: Path | None = None, link: bool = False) -> Outcome:
        return convert(KNOWN[self.name], source or self.source, self.folder, 1, link)

    def made(self) -> set[str]:
        """The files made, without those about the data set as a whole."""
        files = (path for path in self.folder.rglob("*") if path.parent != self.folder and not path.is_dir())
        return {path.relative_to(self.folder).as_posix() for path in files}


@pytest.fixture
def brats(tmp_path: Path) -> Download:
    return Download("brats2021", tmp_path)


def test_a_missing_channel_is_allowed(brats: Download) -> None:
    brats.file("BraTS2021_00000_t2.nii.gz").unlink()
    outcome = brats.convert()
    assert not outcome.failures
    assert outcome.scans == {"T1w": 2, "T1Gd": 2, "T2w": 1, "FLAIR": 2, "lesion masks": 2}
    assert "imagesTs/BraTS2021_00000_0002.nii.gz" not in brats.made()


def test_a_missing_label_is_no_empty_label(brats: Download) -> None:
    brats.file("BraTS2021_00000_seg.nii.gz").unlink()
    assert brats.convert().scans["lesion masks"] == 1
    assert {name for name in brats.made() if name.startswith("labels")} == {"labelsTs/BraTS2021_00002.nii.gz"}


def test_a_label_without_scans_is_named(brats: Download) -> None:
    for word in ("t1", "t1ce", "t2", "flair"):
        brats.file(f"BraTS2021_00000_{word}.nii.gz").unlink()
    outcome = brats.convert()
    assert [path.name for path in outcome.found.masks_alone] == ["BraTS2021_00000_seg.nii.gz"]
    assert outcome.cases.keys() == {"BraTS2021_00002"}


def test_twins_are_refused_and_named(brats: Download) -> None:
    twin = brats.file("BraTS2021_00000_t2.nii.gz")
    twin.with_suffix("").write_bytes(gzip.decompress(twin.read_bytes()))
    outcome = brats.convert()
    assert outcome.cases.keys() == {"BraTS2021_00002"}
    assert "BraTS2021_00000_t2.nii " in str(outcome.failures["BraTS2021_00000"])
    assert not any("00000" in name for name in brats.made())


def test_a_file_in_another_case_s_folder_is_not_placed(brats: Download) -> None:
    stray = brats.source / "BraTS2021_00002" / "BraTS2021_00009_t1.nii.gz"
    scan(stray)
    scan(brats.source / "BraTS2021_00002" / "notes.nii.gz")
    outcome = brats.convert()
    assert [path.name for path in outcome.found.unplaced] == ["BraTS2021_00009_t1.nii.gz", "notes.nii.gz"]
    told = json.loads((brats.folder / "conversion.json").read_text())
    assert told["unplaced"] == ["BraTS2021_00002/BraTS2021_00009_t1.nii.gz", "BraTS2021_00002/notes.nii.gz"]
    assert outcome.cases.keys() == {"BraTS2021_00000", "BraTS2021_00002"}


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        ("BraTS2021_00000_t1.nii.gz", lambda raw: raw[:-300], TruncatedImageError),
        ("BraTS2021_00000_flair.nii.gz", lambda raw: raw[:-6] + bytes([raw[-6] ^ 1]) + raw[-5:], CorruptImageError),
        ("BraTS2021_00000_seg.nii.gz", lambda raw: b"not an image", DataError),
        ("BraTS2021_00000_t2.nii.gz", lambda raw: b"", DataError),
    ],
)
def test_a_damaged_file_stops_its_case_alone(brats: Download, file: str, content, error: type[Exception]) -> None:
    path = brats.file(file)
    path.write_bytes(content(path.read_bytes()))
    outcome = brats.convert()
    assert isinstance(outcome.failures["BraTS2021_00000"], error)
    assert file in str(outcome.failures["BraTS2021_00000"])
    assert not any("00000" in name for name in brats.made())
    assert json.loads((brats.folder / "dataset.json").read_text())["numTest"] == 1


@pytest.mark.parametrize(
    ("name", "file", "values", "wrong"),
    [
        ("brats2021", "BraTS2021_00000_seg.nii.gz", (1, 3), 3),
        ("brats2023", "BraTS-GLI-00000-000-seg.nii.gz", (1, 4), 4),
        ("brats2024", "BraTS-GLI-02063-103-seg.nii.gz", (1, 5), 5),
        ("atlas2", "sub-r001s001_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz", (255,), 255),
        ("isles2022", "sub-strokecase0001_ses-0001_msk.nii.gz", (2,), 2),
    ],
)
def test_a_label_value_of_another_set_is_refused(
    name: str, file: str, values: tuple[int, ...], wrong: int, tmp_path: Path
) -> None:
    download = Download(name, tmp_path)
    mask(download.file(file), values)
    (error,) = download.convert().failures.values()
    assert f"{file}: label {wrong}, expected only 0, 1" in str(error)


def test_negative_and_fractional_labels_are_refused(brats: Download) -> None:
    for value in (-1, 0.5):
        write_nifti(brats.file("BraTS2021_00000_seg.nii.gz"), np.full((16, 16, 16), value, "f4"), MM1)
        (error,) = brats.convert().failures.values()
        assert "BraTS2021_00000_seg.nii.gz: label" in str(error)


def test_scans_on_different_grids_are_refused(brats: Download) -> None:
    scan(brats.file("BraTS2021_00000_t2.nii.gz"), make_affine(spacing=(1.0, 1.0, 2.0)))
    (error,) = brats.convert().failures.values()
    assert "BraTS2021_00000_t2.nii.gz and " in str(error)
    assert "different grids" in str(error)


def test_a_label_on_another_grid_is_refused(brats: Download) -> None:
    mask(brats.file("BraTS2021_00000_seg.nii.gz"), (1,), make_affine(origin=(-10.0, 21.0, -30.0)))
    (error,) = brats.convert().failures.values()
    assert "another grid" in str(error)


def test_headers_that_differ_by_less_than_a_tenth_of_a_voxel_become_one(tmp_path: Path) -> None:
    download = Download("isles2022", tmp_path)
    scan(download.file("sub-strokecase0001_ses-0001_adc.nii.gz"), make_affine(origin=(-10.05, 20.0, -30.0)))
    assert not download.convert().failures
    files = [download.folder / "imagesTs" / f"sub-strokecase0001_ses-0001_000{n}.nii.gz" for n in (0, 1)]
    dwi, adc = map(read_image, files)
    assert np.array_equal(dwi.affine, adc.affine)
    assert np.array_equal(adc.data, read_image(download.file("sub-strokecase0001_ses-0001_adc.nii.gz")).data)


@pytest.mark.parametrize("damage", ["short", "no header", "bad header"])
def test_damaged_analyze_pairs(damage: str, tmp_path: Path) -> None:
    download = Download("oasis1", tmp_path)
    path = download.file("OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img")
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-2])
    elif damage == "no header":
        path.with_suffix(".hdr").unlink()
    else:
        path.with_suffix(".hdr").write_bytes(b"\0" * 20)
    (error,) = download.convert().failures.values()
    assert isinstance(error, DataError)
    assert "OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc" in str(error)
    analyze(path, (16, 18, 20, 2))
    (error,) = download.convert().failures.values()
    assert "expected a single 3D volume" in str(error)


def test_nothing_of_the_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        convert(KNOWN["ixi"], tmp_path / "no", tmp_path / "Dataset010_IXI", 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match=r"expected files like IXI-T1/IXI002-Guys-0828-T1\.nii\.gz"):
        convert(KNOWN["ixi"], empty, tmp_path / "Dataset010_IXI", 1)
    (empty / "IXI-T1.tar").touch()
    with pytest.raises(UsageError, match=r"unpack the archives first, like IXI-T1\.tar"):
        convert(KNOWN["ixi"], empty, tmp_path / "Dataset010_IXI", 1)
    MAKERS["brats2021"](tmp_path / "other")
    with pytest.raises(UsageError, match=r"other images are there, like BraTS2021_00000/.*_flair\.nii\.gz"):
        convert(KNOWN["ixi"], tmp_path / "other", tmp_path / "Dataset010_IXI", 1)
    MAKERS["mslub"](tmp_path / "mslub")
    with pytest.raises(UsageError, match="only files that are not used"):
        convert(KNOWN["mslub"], tmp_path / "mslub" / "longitudinal", tmp_path / "Dataset010_MSLUB", 1)
    assert not list(tmp_path.glob("Dataset*"))


def test_unknown_set() -> None:
    assert known_set("IXI") is KNOWN["ixi"]
    with pytest.raises(UsageError, match=r"no data set 'brats2022'; known are ixi, .*brats2021"):
        known_set("brats2022")


@pytest.mark.parametrize("within", ["training", "training/Utrecht", "test/Amsterdam/Philips_VU .PETMR_01."])
def test_a_folder_within_the_layout_will_do(within: str, tmp_path: Path) -> None:
    download = Download("wmh2017", tmp_path)
    cases = download.convert(download.source / within).cases.keys()
    assert cases == {
        "training": {"Utrecht_0", "Singapore_50", "Amsterdam_100"},
        "training/Utrecht": {"Utrecht_0"},
    }.get(within, {"Amsterdam_160"})


def test_without_the_table_nobody_knows_who_is_healthy(tmp_path: Path) -> None:
    download = Download("oasis1", tmp_path)
    table = download.file("oasis_cross-sectional.csv")
    table.rename(table.with_suffix(".xlsx"))
    with pytest.raises(UsageError, match=r"nobody knows who is healthy; save .*oasis_cross-sectional\.xlsx as CSV"):
        download.convert()
    table.write_text("ID,Age\nOAS1_0001_MR1,74\n")
    with pytest.raises(DataError, match="no column CDR, M/F in its first line"):
        download.convert()
    table.write_text("ID;M/F;Age;CDR\nOAS1_0001_MR1;F;74;0\n")
    outcome = download.convert()
    assert outcome.cases.keys() == {"OAS1_0001_MR1"}
    assert outcome.people.left_out == {"no row that tells CDR": ["OAS1_0001_MR2", "OAS1_0002_MR1", "OAS1_0003_MR1"]}


def test_other_tables_are_only_missed(tmp_path: Path) -> None:
    download = Download("ixi", tmp_path)
    table = download.file("IXI.csv")
    table.rename(table.with_suffix(".xls"))
    (hint,) = download.convert().people.hints
    assert "nobody knows age and sex; save" in hint
    assert hint.count("IXI.xls") == 1
    assert "IXI002-Guys-0828\tGuys\tPhilips 1.5 T" in (download.folder / "participants.tsv").read_text()


def test_run_again_keeps_what_is_there(brats: Download) -> None:
    first = brats.convert()
    assert (first.written, first.kept) == (10, 0)
    before = {name: (brats.folder / name).stat().st_mtime_ns for name in brats.made()}
    lost = "imagesTs/BraTS2021_00000_0003.nii.gz"
    (brats.folder / lost).unlink()
    again = brats.convert()
    assert (again.written, again.kept) == (1, 9)
    after = {name: (brats.folder / name).stat().st_mtime_ns for name in brats.made()}
    assert {name for name in after if after[name] != before[name]} == {lost}


def test_an_interrupted_run_is_no_data_set_and_goes_on(brats: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "run_jobs", stopped)
        with pytest.raises(KeyboardInterrupt):
            brats.convert()
    assert not (brats.folder / "dataset.json").exists()
    assert json.loads((brats.folder / "conversion.json").read_text())["complete"] is False
    assert brats.convert().written == 10
    assert json.loads((brats.folder / "conversion.json").read_text())["complete"] is True


def test_a_folder_of_someone_else_is_left_alone(brats: Download, tmp_path: Path) -> None:
    brats.folder.mkdir()
    (brats.folder / "dataset.json").write_text("{}")
    with pytest.raises(UsageError, match="was not made by anatomad_convert"):
        brats.convert()
    shutil.rmtree(brats.folder)
    brats.convert()
    moved = shutil.move(brats.source, tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"holds brats2021 from .*source; choose another number"):
        brats.convert(Path(moved))
    (brats.folder / "conversion.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        brats.convert(Path(moved))


def test_linking(brats: Download) -> None:
    brats.convert(link=True)
    image = brats.folder / "imagesTs" / "BraTS2021_00000_0000.nii.gz"
    assert image.is_symlink()
    assert image.resolve() == brats.file("BraTS2021_00000_t1.nii.gz").resolve()
    assert not (brats.folder / "labelsTs" / "BraTS2021_00000.nii.gz").is_symlink()
    assert not list(brats.folder.rglob(".*"))


def test_links_are_made_only_to_gzip(tmp_path: Path) -> None:
    download = Download("brats2020", tmp_path)
    download.convert(link=True)
    assert not any((download.folder / name).is_symlink() for name in download.made())


def test_a_place_where_nothing_may_be_written(brats: Download) -> None:
    brats.folder.write_text("a file")
    with pytest.raises(UsageError, match=r"Dataset010_Mini.*: not written"):
        brats.convert()
    brats.folder.unlink()
    brats.folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run_jobs", lambda *_: ({}, {}))
        brats.convert()
    (brats.folder / "labelsTs").write_text("a file")
    failures = brats.convert().failures
    assert len(failures) == 2
    assert all("not written" in str(error) for error in failures.values())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(brats: Download) -> None:
    brats.folder.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(UsageError, match="not written"):
            brats.convert()
    finally:
        brats.folder.parent.chmod(stat.S_IRWXU)


def test_the_source_is_never_written_to(brats: Download) -> None:
    before = {path: path.stat().st_mtime_ns for path in brats.source.rglob("*")}
    for path in before:
        path.chmod(stat.S_IRUSR | (stat.S_IXUSR if path.is_dir() else 0))
    try:
        assert not brats.convert().failures
    finally:
        for path in before:
            path.chmod(stat.S_IRWXU)
    assert {path: path.stat().st_mtime_ns for path in brats.source.rglob("*")} == before


def test_a_target_within_the_source_is_not_looked_into(brats: Download) -> None:
    brats.folder = brats.source / "Dataset010_Mini"
    brats.convert()
    again = brats.convert()
    assert (again.written, again.kept, again.found.unplaced) == (0, 10, [])


def test_hidden_files_are_not_scans(brats: Download) -> None:
    (brats.source / "BraTS2021_00000" / "._BraTS2021_00000_t1.nii.gz").write_bytes(b"macOS")
    outcome = brats.convert()
    assert not outcome.found.unplaced
    assert not outcome.failures
