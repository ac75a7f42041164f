"""OASIS-1 and OASIS-3, the cognitively normal subjects alone.

OASIS-1 layout: ``disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img`` (n3
in some), Analyze 7.5 whose axes point left, anterior, superior, and ``oasis_cross-sectional.csv`` with ID, M/F, Age,
CDR: balbasty/braindataprep (datasets/OASIS/I/bidsifier.py), which takes the directions from
https://brainder.org/2011/08/13/converting-oasis-brains-to-nifti/. Only subjects of 60 and above were rated; in younger
ones CDR is empty.

OASIS-3 layouts: ``OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz`` and
``sub-OAS30001/ses-d0129/anat/...`` (README of NrgXnat/oasis-scripts); some names say ``sess-``
(balbasty/braindataprep). ``OASIS3_UDSb4_cdr.csv`` has OASISID and CDRTOT, one row per visit;
``OASIS3_demographics.csv`` OASISID, AgeatEntry and GENDER (1 male, 2 female) (aramis-lab/clinica, oasis3_to_bids).
"""

from anatomad.convert.description import NII, DataSet, Scan, Table, Unused

_TERMS = "OASIS Data Use Agreement"
_SESSION = r"(?P<case>(?P<subject>OAS1_\d{4})_MR\d)"
_VISIT = r"(?P<subject>sub-OAS3\d{4})_sess?-(?P<day>d\d{4})(?P<more>(?:_[A-Za-z]+-[A-Za-z0-9]+)*)"
_VISIT_CASE = "{subject}_ses-{day}{more}"

OASIS1 = DataSet(
    name="oasis1",
    title="OASIS1",
    about="adults of 18 to 96 years, those without dementia; skull-stripped, Talairach space, 1 mm",
    healthy=True,
    sequences=("T1w",),
    licence=_TERMS,
    citation="Marcus et al., J Cogn Neurosci 2007, doi:10.1162/jocn.2007.19.9.1498",
    homepage="https://www.oasis-brains.org",
    example="disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.img",
    scans=(Scan(rf"{_SESSION}/PROCESSED/MPRAGE/T88_111/(?P=case)_mpr_n\d_anon_111_t88_masked_gfc\.img", 0),),
    unused=(
        Unused(rf"{_SESSION}/(?:RAW|FSL_SEG|PROCESSED/MPRAGE/SUBJ_111)/[^/]+", "another stage of processing"),
        Unused(rf"{_SESSION}/PROCESSED/MPRAGE/T88_111/(?:t4_files/)?[^/]+_t88_gfc[^/]*", "another stage of processing"),
    ),
    tables=(
        Table(
            "oasis_cross-sectional",
            "ID",
            "{case}",
            {"age": "Age", "sex": "M/F"},
            healthy=("CDR", ("", "0", "0.0", "N/A")),
        ),
    ),
    axes="LAS",
    processing="Analyze became NIfTI; subjects with a clinical dementia rating above 0 are left out",
)

OASIS3 = DataSet(
    name="oasis3",
    title="OASIS3",
    about="adults of 42 to 95 years, those never rated as demented; whole heads, repeated visits",
    healthy=True,
    sequences=("T1w", "T2w", "FLAIR"),
    licence=_TERMS,
    citation="LaMontagne et al., medRxiv 2019, doi:10.1101/2019.12.13.19014902",
    homepage="https://www.oasis-brains.org",
    example="OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz",
    scans=tuple(
        Scan(rf"{_VISIT}_{name}{NII}", number, f"{_VISIT_CASE}_{name}")
        for number, name in enumerate(("T1w", "T2w", "FLAIR"))
    ),
    unused=(
        Unused(
            rf"{_VISIT}_(?:T2star|angio|swi|minIP|GRE|bold|dwi|asl|pet|phase\w*|magnitude\w*|fieldmap){NII}",
            "another kind of scan",
        ),
    ),
    tables=(
        Table("OASIS3_UDSb4_cdr", "OASISID", "{subject}", {}, healthy=("CDRTOT", ("0", "0.0"))),
        Table(
            "OASIS3_demographics",
            "OASISID",
            "{subject}",
            {"age": "AgeatEntry", "sex": "GENDER"},
            {"sex": {"1": "M", "2": "F"}},
        ),
    ),
    processing="every scan is a case of its own; subjects with a clinical dementia rating above 0 at any visit are "
    "left out",
)
