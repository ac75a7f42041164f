"""What is known of a public data set: where its files lie, what its label values mean, who may use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BACKGROUND, LESION, IGNORE = 0, 1, 2
NII = r"\.nii(?:\.gz)?"

_CASE = "{case}"


@dataclass(frozen=True)
class Scan:
    """Files of one sequence.

    Attributes:
        path: regular expression for the end of a file's path; its named groups fill ``case``, and ``site`` and
            ``scanner`` are facts about the subject.
        channel: index of the sequence in ``DataSet.sequences``.
        case: id of the case, from the groups. Scans on grids of their own become cases of their own.
    """

    path: str
    channel: int
    case: str = _CASE


@dataclass(frozen=True)
class Mask:
    """Files of lesion masks: ``path`` and ``case`` as of `Scan`; ``meaning`` of every value that may occur."""

    path: str
    meaning: Mapping[int, int]
    case: str = _CASE


@dataclass(frozen=True)
class Unused:
    """Files that belong to the data set and are not taken, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Table:
    """A table of the subjects, as .csv or .tsv.

    Attributes:
        stem: the file's name without its ending; ``*`` stands for anything.
        id_column: column that says who a row is about.
        key: what stands there for a file, from the groups of its path; ``sub-`` and leading zeros do not count.
        columns: column of participants.tsv to column here (its whole name, or its first word).
        values: column of participants.tsv to the words for its codes.
        healthy: column here and its values in healthy subjects; every row of a subject must have one of them.
            Without such a column the table may be missing.
    """

    stem: str
    id_column: str
    key: str
    columns: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    healthy: tuple[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes:
        name: what is typed on the command line.
        title: name of the data set, also of the folder written: letters, digits and hyphens.
        about: who was scanned.
        healthy: the subjects are healthy, their scans train (``imagesTr``); otherwise they test (``imagesTs``).
        sequences: names of the channels.
        licence: licence or terms of use.
        citation: what its users are asked to cite.
        homepage: where to get it.
        example: the path of one scan, as published.
        scans: where the scans lie.
        mask: where the lesion masks lie, if there are any.
        unused: files that are known and not taken; they are looked for first.
        subject: id of the subject in participants.tsv, from the groups of the path of a scan; starts the case's id.
        tables: facts about subjects.
        scanners: name of the scanner by the group ``scanner``, else by the group ``site``.
        onto: channel onto whose grid the others of a case are resampled; None: they must share one.
        axes: directions to which the axes of an Analyze image point, which its header does not say.
        processing: what is done to the published files, for dataset.json.
        refusal: why it cannot be converted; empty where it can.
    """

    name: str
    title: str
    about: str
    healthy: bool
    sequences: tuple[str, ...]
    licence: str
    citation: str
    homepage: str
    example: str
    scans: tuple[Scan, ...] = ()
    mask: Mask | None = None
    unused: tuple[Unused, ...] = ()
    subject: str = "{subject}"
    tables: tuple[Table, ...] = ()
    scanners: Mapping[str, str] = field(default_factory=dict)
    onto: int | None = None
    axes: str | None = None
    processing: str = ""
    refusal: str = ""
