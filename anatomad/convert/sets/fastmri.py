"""fastMRI+: bounding boxes (``Annotations/brain.csv``) over the k-space files of fastMRI (``file_brain_AXT2_*.h5``).

microsoft/fastmri-plus (README.md, ExampleScripts/fastmri_to_dicom.py): one radiologist drew boxes round findings on
images that were flipped up-down; what was not boxed was not declared healthy. The HDF5 files hold slices
(``reconstruction_rss``) and a header with a field of view, but no position, orientation or order of slices in space,
and no voxel was outlined. A NIfTI file would need all of it, and metrics of voxels an outline: both would be guesses.
"""

from anatomad.convert.description import DataSet

FASTMRI = DataSet(
    name="fastmri+",
    title="fastMRIplus",
    about="1001 brain scans with bounding boxes of findings, axial slices of 5 mm",
    healthy=False,
    sequences=("T1w", "T1Gd", "T2w", "FLAIR"),
    licence="fastMRI data sharing agreement of NYU (scans); see the repository (boxes)",
    citation="Zhao et al., Sci Data 2022, doi:10.1038/s41597-022-01255-z; Zbontar et al., arXiv:1811.08839",
    homepage="https://github.com/microsoft/fastmri-plus",
    example="file_brain_AXT2_200_2000019.h5",
    refusal="its scans are k-space files (HDF5) without orientation or position in space, and its findings are "
    "bounding boxes, not lesion masks: no NIfTI scan and no voxel label can be made of them without guessing",
)
