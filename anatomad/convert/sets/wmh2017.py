"""WMH segmentation challenge (MICCAI 2017), training and test data as released in 2022.

Layout: ``training/Utrecht/0/orig/FLAIR.nii.gz``, ``orig/T1.nii.gz`` registered to it, ``wmh.nii.gz`` beside ``orig``;
``test/Amsterdam/GE1T5/150/...``; one folder is called ``Philips_VU .PETMR_01.``; ``pre`` holds the same images after
bias correction and ``additional_annotations/observer_o3`` other raters: readme of the release (doi:10.34894/AECRSD) as
told by MedARC-AI/brainmarks-smri, which also has the scanners and the licence. Subject numbers are unique.

Labels (https://wmh.isi.uu.nl, manual reference standard): 1 is WMH; 2 is other pathology, "ignored during evaluation".
It is kept as the label ``ignore`` of dataset.json, and anatomad_evaluate leaves these voxels out.
"""

from anatomad.convert.description import BACKGROUND, IGNORE, LESION, NII, DataSet, Mask, Scan, Unused

_WHO = r"(?P<site>Utrecht|Singapore|Amsterdam)/(?:(?P<scanner>[^/]+)/)?(?P<number>\d+)"
_CASE = "{site}_{number}"

WMH2017 = DataSet(
    name="wmh2017",
    title="WMH2017",
    about="170 patients of memory clinics, five scanners, whole heads without faces, slices of 3 mm",
    healthy=False,
    sequences=("T1w", "FLAIR"),
    licence="CC BY-NC 4.0",
    citation="Kuijf et al., IEEE TMI 2019, doi:10.1109/TMI.2019.2905770; data doi:10.34894/AECRSD",
    homepage="https://doi.org/10.34894/AECRSD",
    example="training/Utrecht/0/orig/FLAIR.nii.gz",
    scans=(Scan(rf"{_WHO}/orig/T1{NII}", 0, _CASE), Scan(rf"{_WHO}/orig/FLAIR{NII}", 1, _CASE)),
    mask=Mask(rf"{_WHO}/wmh{NII}", {0: BACKGROUND, 1: LESION, 2: IGNORE}, _CASE),
    unused=(
        Unused(rf"{_WHO}/pre/[^/]+", "another stage of processing"),
        Unused(rf"{_WHO}/orig/(?:3DT1|(?:3DT1|T1|FLAIR)_mask){NII}", "not on the grid of FLAIR, or a face mask"),
        Unused(r"additional_annotations/.+", "other raters"),
    ),
    subject=_CASE,
    scanners={
        "Utrecht": "Philips Achieva 3 T",
        "Singapore": "Siemens TrioTim 3 T",
        "GE3T": "GE Signa HDxt 3 T",
        "GE1T5": "GE Signa HDxt 1.5 T",
        "Philips_VU .PETMR_01.": "Philips Ingenuity 3 T",
    },
    processing="other pathology (label 2) is kept as the label 'ignore', which anatomad_evaluate leaves out",
)
