"""IXI: ``IXI-T1/IXI002-Guys-0828-T1.nii.gz``, and the same for T2, PD, MRA and DTI.

Layout: balbasty/braindataprep (datasets/IXI/bidsify.py) and aramis-lab/clinica (ixi_to_bids) read it so; sites and
scanners: https://brain-development.org/ixi-dataset/. T2 and PD share a grid, T1 has its own, so that a subject gives
two cases. IXI.xls is in Excel's old binary format: save it as IXI.csv to have age and sex carried over.
"""

from anatomad.convert.description import NII, DataSet, Scan, Table, Unused

_WHO = r"(?P<subject>IXI(?P<number>\d{3})-(?P<site>Guys|HH|IOP)-\d{4})"

IXI = DataSet(
    name="ixi",
    title="IXI",
    about="healthy adults of 20 to 86 years, three hospitals in London, whole heads",
    healthy=True,
    sequences=("T1w", "T2w", "PDw"),
    licence="CC BY-SA 3.0",
    citation="IXI dataset, brain-development.org; EPSRC GR/S21533/02",
    homepage="https://brain-development.org/ixi-dataset/",
    example="IXI-T1/IXI002-Guys-0828-T1.nii.gz",
    scans=(
        Scan(rf"{_WHO}-T1{NII}", 0, "{subject}_T1"),
        Scan(rf"{_WHO}-T2{NII}", 1, "{subject}_T2"),
        Scan(rf"{_WHO}-PD{NII}", 2, "{subject}_T2"),
    ),
    unused=(Unused(rf"{_WHO}-(?:MRA|DTI-\d\d){NII}", "angiography or diffusion"),),
    tables=(Table("IXI", "IXI_ID", "{number}", {"age": "AGE", "sex": "SEX_ID"}, {"sex": {"1": "M", "2": "F"}}),),
    scanners={"Guys": "Philips 1.5 T", "HH": "Philips 3 T", "IOP": "GE 1.5 T"},
    processing="T1w is a case of its own; T2w and PDw share a grid and are another",
)
