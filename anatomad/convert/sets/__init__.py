"""The known data sets, one small description each; where a layout was found stands in the file's first lines."""

from __future__ import annotations

from anatomad.convert.description import DataSet
from anatomad.convert.sets.atlas import ATLAS
from anatomad.convert.sets.brats import BRATS
from anatomad.convert.sets.camcan import CAMCAN
from anatomad.convert.sets.fastmri import FASTMRI
from anatomad.convert.sets.hcp import HCP
from anatomad.convert.sets.isbi2015 import ISBI2015
from anatomad.convert.sets.isles2022 import ISLES2022
from anatomad.convert.sets.ixi import IXI
from anatomad.convert.sets.mslub import MSLUB
from anatomad.convert.sets.oasis import OASIS1, OASIS3
from anatomad.convert.sets.wmh2017 import WMH2017
from anatomad.errors import UsageError

_HEALTHY = (IXI, OASIS1, OASIS3, CAMCAN, HCP)
_PATIENTS = (*BRATS, MSLUB, ISBI2015, WMH2017, ATLAS, ISLES2022, FASTMRI)

KNOWN: dict[str, DataSet] = {data_set.name: data_set for data_set in (*_HEALTHY, *_PATIENTS)}


def known_set(name: str) -> DataSet:
    """The data set of that name, in capitals or not.

    Raises:
        UsageError: there is none; those there are, are listed.
    """
    found = KNOWN.get(name.lower())
    if found is None:
        raise UsageError(f"no data set {name!r}; known are {', '.join(KNOWN)} (anatomad_convert --list says more)")
    return found
