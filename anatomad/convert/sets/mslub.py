"""MSLUB, the 3D MR image database of multiple sclerosis patients of the University of Ljubljana.

Layouts: as published, ``patient01/patient01_FLAIR.nii.gz`` with T1W, T1WKS (contrast agent), T2W and consensus_gt
beside it and raw scans in ``patient01/raw/`` (cross_sectional/README.md of muschellij2/open_ms_data); in that
repository ``cross_sectional/coregistered/patient01/FLAIR.nii.gz``, the same files with or without the prefix, beside
the trees ``raw``, ``MNI`` and ``longitudinal``. Co-registered scans share the grid of FLAIR, as does consensus_gt.
"""

from anatomad.convert.description import BACKGROUND, LESION, NII, DataSet, Mask, Scan, Unused

_WHO = r"(?P<subject>patient\d{2})/(?:(?P=subject)_)?"

MSLUB = DataSet(
    name="mslub",
    title="MSLUB",
    about="30 patients with multiple sclerosis, one 3 T scanner, whole heads without faces, bias-corrected",
    healthy=False,
    sequences=("T1w", "T1Gd", "T2w", "FLAIR"),
    licence="CC BY",
    citation="Lesjak et al., Neuroinformatics 2018, doi:10.1007/s12021-017-9348-7",
    homepage="https://github.com/muschellij2/open_ms_data",
    example="coregistered/patient01/FLAIR.nii.gz",
    scans=tuple(
        Scan(rf"{_WHO}{word}{NII}", number, "{subject}") for number, word in enumerate(("T1W", "T1WKS", "T2W", "FLAIR"))
    ),
    mask=Mask(rf"{_WHO}consensus_gt{NII}", {0: BACKGROUND, 1: LESION}, "{subject}"),
    unused=(
        Unused(r"raw/patient\d{2}/[^/]+", "not co-registered"),
        Unused(r"patient\d{2}/raw/[^/]+", "not co-registered"),
        Unused(r"MNI/patient\d{2}/[^/]+", "another stage of processing"),
        Unused(r"longitudinal/.+", "the longitudinal data set"),
        Unused(rf"{_WHO}brainmask{NII}", "brain mask"),
    ),
)
