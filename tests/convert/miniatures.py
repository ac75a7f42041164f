"""Miniatures of the public data sets in their published layouts: every file a generated volume of 16 voxels a side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.factories import Array, make_affine, write_nifti

SIDE = 16
MM1 = make_affine(spacing=(1.0, 1.0, 1.0))


def scan(path: Path, affine: Array = MM1, shape: tuple[int, int, int] = (SIDE,) * 3) -> Path:
    """Write a scan of its own values."""
    seed = int.from_bytes(path.name.encode()[-12:-7], "big") + len(path.as_posix())
    return write_nifti(path, np.random.default_rng(seed).integers(1, 1000, shape).astype("i2"), affine)


def mask(path: Path, values: Iterable[int] = (1,), affine: Array = MM1, dtype: str = "u1") -> Path:
    """Write a label with a row of eight voxels of each value."""
    labels = np.zeros((SIDE,) * 3, dtype)
    for row, value in enumerate(values):
        labels[4:12, 3 + row, 5] = value
    return write_nifti(path, labels, affine)


def analyze(path: Path, shape: tuple[int, ...] = (16, 18, 20, 1)) -> Path:
    """Write an Analyze pair, big-endian as OASIS's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(len(path.name)).integers(1, 1000, shape).astype(">i2")
    header = nib.AnalyzeHeader(endianness=">")
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(">i2"))
    header.set_zooms((1.0, 1.0, 1.25, 1.0)[: len(shape)])
    path.with_suffix(".hdr").write_bytes(header.binaryblock)
    path.write_bytes(data.tobytes(order="F"))
    return path


def ixi(root: Path) -> None:
    axial = make_affine(spacing=(0.9, 0.9, 1.2))
    for who in ("IXI002-Guys-0828", "IXI012-HH-1211", "IXI035-IOP-0873"):
        scan(root / "IXI-T1" / f"{who}-T1.nii.gz")
        if who != "IXI035-IOP-0873":
            scan(root / "IXI-T2" / f"{who}-T2.nii.gz", axial)
            scan(root / "IXI-PD" / f"{who}-PD.nii.gz", axial)
    scan(root / "IXI-DTI" / "IXI002-Guys-0828-DTI-00.nii.gz")
    (root / "IXI.csv").write_text(
        '"IXI_ID","SEX_ID (1=m, 2=f)","HEIGHT","AGE"\n2,2,164,35.8\n12,1,175,38.78\n12,1,175,\n99,1,170,50\n'
    )


def oasis1(root: Path) -> None:
    rows = ["ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"]
    people = (("OAS1_0001_MR1", "F", 74, "0"), ("OAS1_0002_MR1", "F", 55, ""), ("OAS1_0003_MR1", "F", 73, "0.5"))
    for case, sex, age, rating in (*people, ("OAS1_0001_MR2", "F", 74, "")):
        folder = root / "disc1" / case
        t88 = folder / "PROCESSED" / "MPRAGE" / "T88_111"
        analyze(t88 / f"{case}_mpr_n4_anon_111_t88_masked_gfc.img")
        analyze(t88 / f"{case}_mpr_n4_anon_111_t88_gfc.img")
        analyze(folder / "RAW" / f"{case}_mpr-1_anon.img")
        analyze(folder / "PROCESSED" / "MPRAGE" / "SUBJ_111" / f"{case}_mpr_n4_anon_sbj_111.img")
        analyze(folder / "FSL_SEG" / f"{case}_mpr_n4_anon_111_t88_masked_gfc_fseg.img")
        rows.append(f"{case},{sex},R,{age},2,3,29,{rating},1344,0.743,1.306,N/A")
    (root / "oasis_cross-sectional.csv").write_text("\n".join(rows) + "\n")


def oasis3(root: Path) -> None:
    scan(root / "OAS30001_MR_d0129" / "anat2" / "sub-OAS30001_ses-d0129_run-01_T1w.nii.gz")
    scan(root / "OAS30001_MR_d0129" / "anat3" / "sub-OAS30001_ses-d0129_run-02_T1w.nii.gz")
    scan(root / "OAS30001_MR_d0757" / "anat4" / "NIFTI" / "sub-OAS30001_sess-d0757_acq-TSE_T2w.nii.gz")
    scan(root / "sub-OAS30002" / "ses-d0371" / "anat" / "sub-OAS30002_ses-d0371_FLAIR.nii.gz")
    scan(root / "OAS30003_MR_d0558" / "anat1" / "sub-OAS30003_ses-d0558_T1w.nii.gz")
    scan(root / "OAS30001_MR_d0129" / "func1" / "sub-OAS30001_ses-d0129_task-rest_run-01_bold.nii.gz")
    (root / "OASIS3_UDSb4_cdr.csv").write_text(
        "OASISID,OASIS_session_label,days_to_visit,age at visit,MMSE,CDRSUM,CDRTOT\n"
        "OAS30001,OAS30001_UDSb4_d0000,0000,65.15,28,0.0,0.0\nOAS30001,OAS30001_UDSb4_d0339,0339,66.08,28,0.0,0.0\n"
        "OAS30002,OAS30002_UDSb4_d0000,0000,67.25,29,0.0,0.0\nOAS30003,OAS30003_UDSb4_d0000,0000,58.8,30,0.0,0.0\n"
        "OAS30003,OAS30003_UDSb4_d0800,0800,61.0,25,1.0,0.5\n"
    )
    (root / "OASIS3_demographics.csv").write_text(
        "OASISID,AgeatEntry,AgeatDeath,GENDER\nOAS30001,65.149895,,2\nOAS30002,67.252567,,1\n"
    )


def camcan(root: Path) -> None:
    anat = root / "cc700" / "mri" / "pipeline" / "release004" / "BIDSsep" / "anat"
    for who in ("sub-CC110033", "sub-CC110037"):
        scan(anat / who / "anat" / f"{who}_T1w.nii.gz")
        scan(anat / who / "anat" / f"{who}_T2w.nii.gz", shape=(16, 16, 18))
    (anat / "participants.tsv").write_text(
        "participant_id\tage\thand\tgender_code\ttiv_cubicmm\nCC110033\t24\t100\t1\t1414720\nsub-CC110037\t18\t95\t2\t1500000\n"
    )


def hcp(root: Path) -> None:
    for who in ("100307", "100408"):
        folder = root / f"{who}_3T_Structural_preproc" / who
        for name in ("T1w", "T2w"):
            scan(folder / "T1w" / f"{name}_acpc_dc_restore_brain.nii.gz")
            scan(folder / "T1w" / f"{name}_acpc_dc_restore.nii.gz")
        scan(folder / "MNINonLinear" / "T1w_restore.nii.gz")
    (root / "unrestricted_someone_1_1_2024_1_1_1.csv").write_text(
        "Subject,Release,Acquisition,Gender,Age\n100307,Q1,Q01,F,26-30\n100408,Q3,Q03,M,31-35\n"
    )


def _brats(folder: Path, end: str, words: Iterable[str], joint: str, label: str, values: Iterable[int]) -> None:
    for word in words:
        scan(folder / f"{folder.name}{joint}{word}{end}")
    if label:
        mask(folder / f"{label}{end}", values)


_OLD, _NEW = ("t1", "t1ce", "t2", "flair"), ("t1n", "t1c", "t2w", "t2f")


def brats2018(root: Path) -> None:
    for name in ("HGG/Brats18_CBICA_AAB_1", "LGG/Brats18_TCIA09_141_1"):
        folder = root / name
        _brats(folder, ".nii.gz", _OLD, "_", f"{folder.name}_seg", (1, 2, 4))
    _brats(root / "Brats18_CBICA_AAM_1", ".nii.gz", _OLD, "_", "", ())
    (root / "survival_data.csv").write_text(
        "BraTS18ID,Age,Survival,ResectionStatus\nBrats18_CBICA_AAB_1,60.4,289,GTR\n"
    )


def brats2019(root: Path) -> None:
    for name in ("HGG/BraTS19_CBICA_AAB_1", "LGG/BraTS19_TMC_09043_1"):
        folder = root / "MICCAI_BraTS_2019_Data_Training" / name
        _brats(folder, ".nii.gz", _OLD, "_", f"{folder.name}_seg", (1, 2, 4))


def brats2020(root: Path) -> None:
    folder = root / "MICCAI_BraTS2020_TrainingData"
    _brats(folder / "BraTS20_Training_001", ".nii", _OLD, "_", "BraTS20_Training_001_seg", (1, 2, 4))
    _brats(folder / "BraTS20_Training_355", ".nii", _OLD, "_", "W39_1998.09.19_Segm", (2, 4))
    (folder / "survival_info.csv").write_text(
        "Brats20ID,Age,Survival_days,Extent_of_Resection\nBraTS20_Training_001,60.46,289,GTR\n"
    )


def brats2021(root: Path) -> None:
    for name in ("BraTS2021_00000", "BraTS2021_00002"):
        _brats(root / name, ".nii.gz", _OLD, "_", f"{name}_seg", (1, 2, 4))


def brats2023(root: Path) -> None:
    for kind, name in (("GLI", "BraTS-GLI-00000-000"), ("MET", "BraTS-MET-00002-000"), ("MET", "BraTS-MET-00002-001")):
        folder = root / f"ASNR-MICCAI-BraTS2023-{kind}-Challenge-TrainingData" / name
        _brats(folder, ".nii.gz", _NEW, "-", f"{name}-seg", (1, 2, 3))


def brats2024(root: Path) -> None:
    for name in ("BraTS-GLI-02063-103", "BraTS-GLI-02063-104", "BraTS-PED-00001-000"):
        _brats(root / "training_data1_v2" / name, ".nii.gz", _NEW, "-", f"{name}-seg", (1, 2, 3, 4))
    scan(root / "BraTS-MEN-RT-0001-1" / "BraTS-MEN-RT-0001-1_t1c.nii.gz")


def mslub(root: Path) -> None:
    folder = root / "cross_sectional"
    for who, prefix in (("patient01", ""), ("patient02", "patient02_")):
        for tree in ("coregistered", "raw"):
            for word in ("FLAIR", "T1W", "T1WKS", "T2W"):
                scan(folder / tree / who / f"{prefix}{word}.nii.gz")
            mask(folder / tree / who / f"{prefix}consensus_gt.nii.gz")
        mask(folder / "coregistered" / who / f"{prefix}brainmask.nii.gz")
        scan(folder / "MNI" / who / "T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz")
    scan(root / "longitudinal" / "coregistered" / "patient01" / "study1_FLAIR.nii.gz")


def isbi2015(root: Path) -> None:
    for part, who, visits in (("training", "training01", 2), ("testdata_website", "test01", 1)):
        for visit in range(1, visits + 1):
            name = f"{who}_{visit:02d}"
            for word in ("mprage", "t2", "pd", "flair"):
                scan(root / part / who / "preprocessed" / f"{name}_{word}_pp.nii")
                scan(root / part / who / "orig" / f"{name}_{word}.nii.gz", shape=(16, 16, 6))
            if part == "training":
                mask(root / part / who / "masks" / f"{name}_mask1.nii")
                mask(root / part / who / "masks" / f"{name}_mask2.nii")


def wmh2017(root: Path) -> None:
    scanner = "Amsterdam/Philips_VU .PETMR_01."
    for place in ("training/Utrecht/0", "training/Singapore/50", "training/Amsterdam/GE3T/100", f"test/{scanner}/160"):
        for tree in ("orig", "pre"):
            scan(root / place / tree / "3DT1.nii.gz", shape=(18, 18, 18))
            scan(root / place / tree / "T1.nii.gz")
            scan(root / place / tree / "FLAIR.nii.gz")
        mask(root / place / "wmh.nii.gz", (1, 2), dtype="f4")
    mask(root / "additional_annotations" / "observer_o3" / "training" / "Utrecht" / "0" / "result.nii.gz")


def atlas2(root: Path) -> None:
    space = "space-MNI152NLin2009aSym"
    for part, site, who in (
        ("Training", "R001", "r001s001"),
        ("Training", "R002", "r002s003"),
        ("Testing", "R005", "r005s001"),
    ):
        stem = f"sub-{who}_ses-1_{space}"
        folder = root / "ATLAS_2" / part / site / f"sub-{who}" / "ses-1" / "anat"
        scan(folder / f"{stem}_T1w.nii.gz")
        if part == "Training":
            mask(folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz")
    scan(root / "ATLAS_2" / "MNI152NLin2009aSym.nii.gz")


def isles2022(root: Path) -> None:
    top = root / "ISLES-2022"
    slices = make_affine(spacing=(1.0, 1.0, 2.0), angles=(0.0, 4.0, 0.0))
    for who in ("sub-strokecase0001", "sub-strokecase0002"):
        stem = f"{who}_ses-0001"
        scan(top / who / "ses-0001" / "dwi" / f"{stem}_dwi.nii.gz")
        scan(top / who / "ses-0001" / "dwi" / f"{stem}_adc.nii.gz")
        scan(top / who / "ses-0001" / "anat" / f"{stem}_FLAIR.nii.gz", slices, (20, 20, 12))
        mask(top / "derivatives" / who / "ses-0001" / f"{stem}_msk.nii.gz")


MAKERS: dict[str, Callable[[Path], None]] = {
    maker.__name__: maker
    for maker in (
        *(ixi, oasis1, oasis3, camcan, hcp, brats2018, brats2019, brats2020, brats2021, brats2023, brats2024),
        *(mslub, isbi2015, wmh2017, atlas2, isles2022),
    )
}
