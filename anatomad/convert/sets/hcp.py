"""HCP Young Adult: ``100307/T1w/T1w_acpc_dc_restore_brain.nii.gz`` and T2w beside it, 0.7 mm, of one grid.

Layout: the package ``100307_3T_Structural_preproc.zip``; the HCP pipelines and public code that reads them (MRtrix3's
documentation, HCPpipelines). ``unrestricted_*.csv`` of ConnectomeDB has Subject, Gender and Age (a range of years).
"""

from anatomad.convert.description import NII, DataSet, Scan, Table, Unused

_WHO = r"(?P<subject>\d{6})"

HCP = DataSet(
    name="hcp",
    title="HCP",
    about="healthy adults of 22 to 37 years, one 3 T scanner, skull-stripped, bias-corrected, 0.7 mm",
    healthy=True,
    sequences=("T1w", "T2w"),
    licence="WU-Minn HCP Consortium Open Access Data Use Terms",
    citation="Van Essen et al., NeuroImage 2013, doi:10.1016/j.neuroimage.2013.05.041; Glasser et al., "
    "NeuroImage 2013, doi:10.1016/j.neuroimage.2013.04.127",
    homepage="https://www.humanconnectome.org/study/hcp-young-adult",
    example="100307/T1w/T1w_acpc_dc_restore_brain.nii.gz",
    scans=(
        Scan(rf"{_WHO}/T1w/T1w_acpc_dc_restore_brain{NII}", 0, "{subject}"),
        Scan(rf"{_WHO}/T1w/T2w_acpc_dc_restore_brain{NII}", 1, "{subject}"),
    ),
    unused=(
        Unused(
            rf"{_WHO}/(?:unprocessed|MNINonLinear|T2w|T1w(?!/T[12]w_acpc_dc_restore_brain{NII}$))/.+",
            "another stage of processing",
        ),
    ),
    tables=(Table("unrestricted_*", "Subject", "{subject}", {"age": "Age", "sex": "Gender"}),),
)
