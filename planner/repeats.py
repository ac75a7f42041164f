"""Which scans show the same person: by name, by content, by anatomy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatomad.planner.records import Fingerprint
from anatomad.planner.splits import subjects_of

# Correlation of fine anatomy. Different people: at most 0.75 among 861 pairs of healthy adults; one person turned by up
# to 5 degrees, with other noise and shading: from 0.81.
SAME_PERSON = 0.8
SAME_SCAN = 0.97
VOLUME_TOLERANCE = 1.05
_BLOCK = 1024

Details = NDArray[np.int8]


@dataclass(frozen=True)
class Pair:
    """Two scans of one channel that look alike: the correlation of their fine anatomy, 1 for equal voxels."""

    first: str
    second: str
    channel: int
    likeness: float
    equal: bool


@dataclass(frozen=True)
class Repeats:
    """Groups of cases that show one person, and the pairs of scans that say so whatever their names."""

    groups: tuple[tuple[str, ...], ...]
    pairs: tuple[Pair, ...]


def find_repeats(
    fingerprint: Fingerprint, details: Mapping[str, Mapping[int, Details]], participants: Sequence[str] = ()
) -> Repeats:
    """Find the cases that show one person.

    Scans are compared with those of about the same brain volume only, so that large data sets take seconds.

    Args:
        fingerprint: the measured cases.
        details: of their thumbnails, by case and channel.
        participants: ids of ``participants.tsv``.
    """
    pairs = tuple(pair for channel in fingerprint.channel_names for pair in _pairs(fingerprint, channel, details))
    named = subjects_of((case.id for case in fingerprint.cases), participants)
    links = [(ids[0], other) for ids in named.values() for other in ids[1:]]
    links += [(pair.first, pair.second) for pair in pairs]
    return Repeats(_groups(links), pairs)


def _pairs(fingerprint: Fingerprint, channel: int, details: Mapping[str, Mapping[int, Details]]) -> Iterator[Pair]:
    cases = [case for case in fingerprint.cases if channel in case.channels]
    cases.sort(key=lambda case: (case.channels[channel].brain_ml, case.id))
    if len(cases) < 2:
        return
    volumes = np.array([case.channels[channel].brain_ml for case in cases])
    stacked = np.stack([details[case.id][channel] for case in cases])
    for i, j, likeness in _alike(stacked, volumes):
        first, second = sorted((cases[i], cases[j]), key=lambda case: case.id)
        equal = first.channels[channel].digest == second.channels[channel].digest
        yield Pair(first.id, second.id, channel, likeness, equal)


def _alike(details: Details, volumes: NDArray[np.float64]) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of rows that correlate, of those whose (ascending) volumes are close."""
    for start in range(0, len(details), _BLOCK):
        rows = _unit(details[start : start + _BLOCK])
        end = int(np.searchsorted(volumes, volumes[start + len(rows) - 1] * VOLUME_TOLERANCE, "right"))
        for other in range(start, end, _BLOCK):
            likeness = rows @ _unit(details[other : min(other + _BLOCK, end)]).T
            for i, j in np.argwhere(likeness >= SAME_PERSON):
                if start + i < other + j:
                    yield start + int(i), other + int(j), float(likeness[i, j])


def _unit(details: Details) -> NDArray[np.float32]:
    rows = details.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return rows


def _groups(links: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    leader: dict[str, str] = {}

    def head(case: str) -> str:
        while leader.setdefault(case, case) != case:
            case = leader[case]
        return case

    for first, second in links:
        low, high = sorted((head(first), head(second)))
        leader[high] = low
    groups: dict[str, list[str]] = defaultdict(list)
    for case in sorted(leader):
        groups[head(case)].append(case)
    return tuple(tuple(group) for group in groups.values())
