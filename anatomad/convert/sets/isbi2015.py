"""ISBI 2015 longitudinal MS lesion segmentation challenge, also called MSSEG 2015.

Layout: ``training/training01/preprocessed/training01_01_flair_pp.nii`` with mprage, t2 and pd, labels of two raters in
``training01/masks/training01_01_mask1.nii``, unprocessed scans in ``orig``;
``testdata_website/test01/preprocessed/...`` without labels: public loaders of the challenge's data name these very
paths, and Carass et al. 2017 describe the processing. The second number is the time point.
Lesions are those of the first rater.
"""

from anatomad.convert.description import BACKGROUND, LESION, NII, DataSet, Mask, Scan, Unused

_VISIT = r"(?P<case>(?P<subject>(?:training|test)\d{2})_\d{2})"
_WORDS = ("mprage", "t2", "pd", "flair")

ISBI2015 = DataSet(
    name="isbi2015",
    title="ISBI2015",
    about="19 patients with multiple sclerosis, repeated visits, one 3 T scanner, skull-stripped, MNI space, 1 mm",
    healthy=False,
    sequences=("T1w", "T2w", "PDw", "FLAIR"),
    licence="terms of the challenge (registration); no licence is named",
    citation="Carass et al., NeuroImage 2017, doi:10.1016/j.neuroimage.2016.12.064",
    homepage="https://smart-stats-tools.org/lesion-challenge-2015",
    example="training/training01/preprocessed/training01_01_flair_pp.nii",
    scans=tuple(Scan(rf"preprocessed/{_VISIT}_{word}_pp{NII}", number) for number, word in enumerate(_WORDS)),
    mask=Mask(rf"masks/{_VISIT}_mask1{NII}", {0: BACKGROUND, 1: LESION}),
    unused=(
        Unused(rf"masks/{_VISIT}_mask2{NII}", "second rater"),
        Unused(rf"orig/{_VISIT}_[^/]+", "not preprocessed, not on the grid of the labels"),
    ),
    processing="lesions are those of the first rater",
)
