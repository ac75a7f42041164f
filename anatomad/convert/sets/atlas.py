"""ATLAS v2.0: ``Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz``.

The lesion mask lies beside it with ``_label-L_desc-T1lesion_mask`` for ``_T1w``; ``Testing`` has no masks. Layout:
openmedlab/Awesome-Medical-Dataset (resources/ATLASv2.0.md). R001 is the cohort. Age and sex are not in the release.
"""

from anatomad.convert.description import BACKGROUND, LESION, NII, DataSet, Mask, Scan, Unused

_SPACE = "space-MNI152NLin2009aSym"
_WHO = (
    r"(?P<site>R\d{3})/(?P<subject>sub-r\d{3}s\d{3})/(?P<session>ses-\d+)/anat/"
    rf"(?P<case>(?P=subject)_(?P=session))_{_SPACE}"
)

ATLAS = DataSet(
    name="atlas2",
    title="ATLAS2",
    about="955 scans after stroke (655 with masks), 33 cohorts, whole heads without faces, MNI space, 1 mm",
    healthy=False,
    sequences=("T1w",),
    licence="INDI terms of use (registration)",
    citation="Liew et al., Sci Data 2022, doi:10.1038/s41597-022-01401-7",
    homepage="https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
    example=f"Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_{_SPACE}_T1w.nii.gz",
    scans=(Scan(rf"{_WHO}_T1w{NII}", 0),),
    mask=Mask(rf"{_WHO}_label-L_desc-T1lesion_mask{NII}", {0: BACKGROUND, 1: LESION}),
    unused=(Unused(rf"MNI152NLin2009aSym{NII}", "template"),),
)
