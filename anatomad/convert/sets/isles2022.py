"""ISLES 2022: DWI, ADC and FLAIR of acute and subacute stroke, each in its native space, masks in the space of DWI.

Layouts: ``sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz`` (and ``_adc``),
``anat/..._FLAIR.nii.gz``, ``derivatives/sub-strokecase0001/ses-0001/..._msk.nii.gz`` (Zenodo 7960856, as read by
rajpurkarlab/ReX-MLE); without ``dwi`` and ``anat``, under ``rawdata`` and with ``_flair`` in the README of
ezequieldlrosa/isles22.

The scans of a case must share a grid and the mask is drawn on DWI: FLAIR is resampled onto DWI's grid by the scanner's
coordinates. It is not registered: a patient who moved between the two scans stays moved.
"""

from anatomad.convert.description import BACKGROUND, LESION, NII, DataSet, Mask, Scan

_WHO = r"(?P<case>(?P<subject>sub-strokecase\d{4})_ses-\d{4})"

ISLES2022 = DataSet(
    name="isles2022",
    title="ISLES2022",
    about="250 patients with acute or subacute stroke, three centres, skull-stripped, native space",
    healthy=False,
    sequences=("DWI", "ADC", "FLAIR"),
    licence="CC BY 4.0",
    citation="Hernandez Petzsche et al., Sci Data 2022, doi:10.1038/s41597-022-01875-5",
    homepage="https://doi.org/10.5281/zenodo.7153326",
    example="sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz",
    scans=(Scan(rf"{_WHO}_dwi{NII}", 0), Scan(rf"{_WHO}_adc{NII}", 1), Scan(rf"{_WHO}_(?:FLAIR|flair){NII}", 2)),
    mask=Mask(rf"{_WHO}_msk{NII}", {0: BACKGROUND, 1: LESION}),
    onto=0,
    processing="FLAIR is resampled onto the grid of DWI by the scanner's coordinates, without registration",
)
