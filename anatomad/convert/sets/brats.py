"""BraTS 2018 to 2024: one folder per case, four co-registered, skull-stripped scans of 1 mm, and a label.

- 2018, 2019: ``HGG/Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1_t1.nii.gz`` (and ``BraTS19_...``), LGG beside HGG:
  MIC-DKFZ/nnUNet (dataset_conversion/Dataset042_BraTS18.py, Dataset043_BraTS19.py). ``survival_data.csv``: BraTS18ID,
  Age.
- 2020: ``BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz`` (.nii in the Kaggle copy). Its case 355 was released
  with its label named ``W39_1998.09.19_Segm.nii``, which many readers of it handle by name. ``survival_info.csv``:
  Brats20ID.
- 2021: ``BraTS2021_00000/BraTS2021_00000_t1.nii.gz``: nnUNet's Dataset137_BraTS21.py.
- 2023, 2024: ``BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz`` with t1n, t1c, t2w, t2f; GLI, MEN, MET, PED, SSA:
  openmedlab/Awesome-Medical-Dataset (BraTS2023-*.md), nnUNet's Dataset226_BraTS2024-BraTS-GLI.py. The last three
  digits are a time point.

Labels: 1 necrotic or non-enhancing core, 2 oedema, 4 enhancing tumour until 2021; since 2023 enhancing is 3. In 2024,
4 is the resection cavity (adults) or oedema (children). Every value above 0 is abnormal tissue, hence lesion.
"""

from collections.abc import Iterable
from dataclasses import replace

from anatomad.convert.description import BACKGROUND, LESION, NII, DataSet, Mask, Scan, Table, Unused

_SEQUENCES = ("T1w", "T1Gd", "T2w", "FLAIR")
_CBICA = (
    "Menze et al., IEEE TMI 2015, doi:10.1109/TMI.2014.2377694; Bakas et al., Sci Data 2017, "
    "doi:10.1038/sdata.2017.117; Bakas et al., arXiv:1811.02629"
)
_CLUSTER = r"(?P<case>(?P<subject>BraTS-(?:GLI|MEN|MET|PED|SSA)-\d{5})-\d{3})"


def _meaning(lesion: Iterable[int]) -> dict[int, int]:
    return {0: BACKGROUND, **dict.fromkeys(lesion, LESION)}


_EARLY = DataSet(
    name="",
    title="",
    about="glioma before treatment, many centres, skull-stripped, 1 mm",
    healthy=False,
    sequences=_SEQUENCES,
    licence="BraTS terms: registration, research only, no redistribution",
    citation=_CBICA,
    homepage="",
    example="",
    subject="{case}",
    processing="every label value above 0 is lesion",
)


def _until_2021(year: int, case: str, example: str, mask: str = "{case}_seg", id_column: str = "") -> DataSet:
    """BraTS until 2021: names joined by ``_``, one time point per subject; ``case`` and ``mask`` are expressions."""
    who = f"(?P<case>{case})/"
    survival = Table("survival_*", id_column, "{case}", {"age": "Age"})
    return replace(
        _EARLY,
        name=f"brats{year}",
        title=f"BraTS{year}",
        homepage=f"https://www.med.upenn.edu/cbica/brats{year}/data.html",
        example=f"{example}_t1.nii.gz",
        scans=tuple(Scan(f"{who}(?P=case)_{word}{NII}", n) for n, word in enumerate(("t1", "t1ce", "t2", "flair"))),
        mask=Mask(f"{who}{mask.format(case='(?P=case)')}{NII}", _meaning((1, 2, 4))),
        tables=(survival,) if id_column else (),
    )


def _since_2023(year: int, about: str, lesion: Iterable[int], citation: str, homepage: str) -> DataSet:
    """BraTS since 2023: names joined by ``-``, several time points of a subject."""
    who = f"{_CLUSTER}/(?P=case)"
    return replace(
        _EARLY,
        name=f"brats{year}",
        title=f"BraTS{year}",
        about=about,
        licence="BraTS terms on Synapse (registration)",
        citation=citation,
        homepage=homepage,
        example="BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz",
        scans=tuple(Scan(f"{who}-{word}{NII}", n) for n, word in enumerate(("t1n", "t1c", "t2w", "t2f"))),
        mask=Mask(f"{who}-seg{NII}", _meaning(lesion)),
        unused=(Unused(rf"BraTS-MEN-RT-[^/]+{NII}", "radiotherapy planning: other contrasts and labels"),),
        subject="{subject}",
    )


BRATS = (
    _until_2021(2018, r"Brats18_\w+", "HGG/Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1", id_column="BraTS18ID"),
    _until_2021(2019, r"BraTS19_\w+", "HGG/BraTS19_CBICA_AAB_1/BraTS19_CBICA_AAB_1", id_column="BraTS19ID"),
    _until_2021(
        2020,
        r"BraTS20_\w+_\d{3}",
        "BraTS20_Training_001/BraTS20_Training_001",
        mask=r"(?:{case}_seg|(?<=BraTS20_Training_355/)W39_1998\.09\.19_Segm)",
        id_column="Brats20ID",
    ),
    replace(
        _until_2021(2021, r"BraTS2021_\d{5}", "BraTS2021_00000/BraTS2021_00000"),
        citation=f"Baid et al., arXiv:2107.02314; {_CBICA}",
        homepage="https://www.synapse.org/Synapse:syn25829067/wiki/610863",
    ),
    _since_2023(
        2023,
        "glioma (adults, children, Sub-Saharan Africa), meningioma, metastases; skull-stripped, 1 mm",
        (1, 2, 3),
        f"Baid et al., arXiv:2107.02314, and the paper of each part used; {_CBICA}",
        "https://www.synapse.org/Synapse:syn51156910",
    ),
    _since_2023(
        2024,
        "glioma after treatment, also children and metastases; skull-stripped, 1 mm",
        (1, 2, 3, 4),
        f"de Verdier et al., arXiv:2405.18368, and the paper of each part used; {_CBICA}",
        "https://www.synapse.org/Synapse:syn53708249",
    ),
)
