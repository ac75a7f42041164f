"""Cam-CAN: ``cc700/mri/pipeline/release004/BIDSsep/anat/sub-CC110033/anat/sub-CC110033_T1w.nii.gz``, T2w beside it.

Layout: public pipelines name these paths (recon-all and MRIQC over ``release004/BIDSsep/anat``), and Taylor et al. 2017
describe the release. ``participants.tsv`` has participant_id, age, hand, gender_code (1 male, 2 female), tiv_cubicmm.
"""

from anatomad.convert.description import NII, DataSet, Scan, Table

_WHO = r"(?P<subject>sub-CC\d{6})/anat/(?P=subject)"

CAMCAN = DataSet(
    name="camcan",
    title="CamCAN",
    about="healthy adults of 18 to 88 years, one 3 T scanner (Siemens Trio), whole heads, 1 mm",
    healthy=True,
    sequences=("T1w", "T2w"),
    licence="Cam-CAN terms of use (on application; no redistribution)",
    citation="Taylor et al., NeuroImage 2017, doi:10.1016/j.neuroimage.2015.09.018; Shafto et al., BMC Neurology 2014, "
    "doi:10.1186/s12883-014-0204-1",
    homepage="https://www.cam-can.org",
    example="sub-CC110033/anat/sub-CC110033_T1w.nii.gz",
    scans=(Scan(rf"{_WHO}_T1w{NII}", 0, "{subject}_T1w"), Scan(rf"{_WHO}_T2w{NII}", 1, "{subject}_T2w")),
    tables=(
        Table(
            "participants",
            "participant_id",
            "{subject}",
            {"age": "age", "sex": "gender_code"},
            {"sex": {"1": "M", "2": "F"}},
        ),
    ),
    processing="T1w and T2w have grids of their own and are cases of their own",
)
