"""What is wrong or odd in a data set, each finding with its reason in a sentence.

Absolute limits hold for every scan, so that a data set of two scans is judged too. They were set on healthy T1w brains
of one 3 T scanner (42 scans good enough to learn from, 2 flawed) and checked on other sequences and centres; each limit
says what was seen. Where a channel has scans enough, those that differ from the rest are named as well.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from anatomad.planner.records import (
    CaseFingerprint,
    ChannelFingerprint,
    Distribution,
    Fingerprint,
    Kind,
    Outlier,
    Severity,
)
from anatomad.planner.repeats import SAME_SCAN, Pair, Repeats

LEAST_TURN_MARGIN = 0.03  # healthy T1w as stored: 0.05 to 0.22 the other way; 0.004 in one FLAIR with a tumour
MOST_OUTSIDE = 0.03  # seen up to 0.025 with some neck, 0.039 where it must go
MOST_BRIGHT = 0.02  # seen up to 0.013; flawed scans from 0.033
CUT_CM2, CUT_BADLY_CM2 = 20.0, 60.0  # a tight crop touches the brain in up to about 10 cm² on a side
MOST_NOISE = 0.1  # share of the intensity range; seen 0.002 to 0.04
MOST_BIAS = 0.4  # SD of the log field; seen up to 0.2
LEAST_SCANS = 8
MOST_Z = 5.0
LEAST_SPREAD = 0.25  # of a logarithm: what is within a factor of 3.5 of the median is never an outlier
_NAMED = ((r"flair", "FLAIR-like"), (r"t2", "T2-like"), (r"t1|mprage|spgr", "T1-like"))
_SCALARS = (
    "brain_ml",
    "noise",
    "bias",
    "anisotropy",
    "obliqueness_deg",
    "foreground_share",
    "axes_margin",
    "symmetry",
    "outside_share",
    "bright_share",
    "cut_cm2",
    "nonfinite_share",
)
_VECTORS = {
    "spacing_mm": ("x", "y", "z"),
    "brain_extent_mm": ("x", "y", "z"),
    "tissue_means": ("csf", "grey", "white"),
}


class Finding(NamedTuple):
    """What is odd about one scan."""

    kind: Kind
    severity: Severity
    reason: str


def distributions_of(fingerprint: Fingerprint) -> dict[int, dict[str, Distribution]]:
    """Median, 5th and 95th percentile of every figure, per channel; vectors are spelt ``spacing_mm.x``."""
    channels = _by_channel(fingerprint)
    return {number: _distributions([image for _, image in images]) for number, images in channels.items()}


def find_outliers(fingerprint: Fingerprint, repeats: Repeats) -> tuple[Outlier, ...]:
    """Every finding, in order of case and channel."""
    found = [*_odd_scans(fingerprint), *_unlike_the_rest(fingerprint), *_incomplete(fingerprint), *_copies(fingerprint)]
    found += [outlier for pair in repeats.pairs for outlier in _alike(pair)]
    return tuple(sorted(found, key=lambda o: (o.case, -1 if o.channel is None else o.channel, o.kind, o.reason)))


def odd_about(image: ChannelFingerprint, sequence: str) -> Iterator[Finding]:
    """What is odd about one scan by itself; ``sequence`` is its name as given."""
    if image.axes != "RAS" and image.axes_margin < -LEAST_TURN_MARGIN:
        yield Finding(
            "orientation",
            "mend",
            f"the axes that the header calls R, A, S point to {', '.join(image.axes)} (left and right apart); "
            "correct the header's orientation",
        )
    if image.mask_doubt:
        yield Finding("brain mask", "look", image.mask_doubt)
    if image.cut_cm2 > CUT_CM2:
        yield Finding(
            "cut off",
            "mend" if image.cut_cm2 > CUT_BADLY_CM2 else "look",
            f"the brain touches a side of the volume over {image.cut_cm2:.0f} cm² (at most {CUT_CM2:g} is usual): "
            "part of it is missing",
        )
    if image.outside_share > MOST_OUTSIDE:
        yield Finding(
            "outside the brain",
            "look",
            f"{image.outside_share:.1%} of the brain mask lies where no brain should be (at most {MOST_OUTSIDE:.0%} is "
            "usual): neck, face or eyes were left in",
        )
    yield from _odd_intensities(image, sequence)


def _odd_intensities(image: ChannelFingerprint, sequence: str) -> Iterator[Finding]:
    if image.bright_share > MOST_BRIGHT and image.looks_like in ("T1-like", "FLAIR-like"):  # else CSF may be bright
        yield Finding(
            "bright area",
            "look",
            f"{image.bright_share:.1%} of the brain lies in areas brighter than any tissue (at most {MOST_BRIGHT:.0%} "
            "is usual in health): a lesion, an artefact, or tissue that is not brain",
        )
    for kind, value, most, unit in (
        ("noise", image.noise, MOST_NOISE, " of the intensity range"),
        ("bias field", image.bias, MOST_BIAS, " of the logarithm"),
    ):
        if value > most:
            yield Finding(_kind(kind), "look", f"the {kind} has an SD of {value:.2f}{unit} (at most {most:g} is usual)")
    expected = next((like for words, like in _NAMED if re.search(words, sequence, re.IGNORECASE)), None)
    if expected and image.looks_like not in ("unclear", expected):
        yield Finding(
            "sequence",
            "look",
            f"dataset.json calls it {sequence}, but it is {image.looks_like} ({image.tissue_order}); check the channel",
        )


def _kind(kind: str) -> Kind:
    return "noise" if kind == "noise" else "bias field"


def _odd_scans(fingerprint: Fingerprint) -> Iterator[Outlier]:
    for case in fingerprint.cases:
        for number, image in case.channels.items():
            for finding in odd_about(image, fingerprint.channel_names.get(number, "")):
                yield Outlier(case=case.id, channel=number, **finding._asdict())


def _unlike_the_rest(fingerprint: Fingerprint) -> Iterator[Outlier]:
    for number, images in _by_channel(fingerprint).items():
        for kind, limit in (("noise", MOST_NOISE), ("bias field", MOST_BIAS)):
            values = [image.noise if kind == "noise" else image.bias for _, image in images]
            middle = float(np.median(values))
            for (case, _), value, z in zip(images, values, log_z(values), strict=True):
                if z > MOST_Z and value <= limit:
                    yield Outlier(
                        case=case.id,
                        channel=number,
                        kind=_kind(kind),
                        severity="look",
                        reason=f"the {kind} has an SD of {value:.3f}, that of the other scans {middle:.3f} (median)",
                    )


def log_z(values: Sequence[float]) -> list[float]:
    """Robust z-scores of the logarithms; zeros for fewer than eight values."""
    if len(values) < LEAST_SCANS:
        return [0.0] * len(values)
    logs = np.log(np.maximum(values, 1e-4))
    middle = float(np.median(logs))
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), LEAST_SPREAD)
    return [float(z) for z in (logs - middle) / spread]


def _incomplete(fingerprint: Fingerprint) -> Iterator[Outlier]:
    for case in fingerprint.cases:
        for number in sorted(fingerprint.channel_names.keys() - case.channels.keys()):
            name = fingerprint.channel_names[number]
            reason = f"channel {number:04d} ({name}) is missing; it is left out for this case"
            yield Outlier(case=case.id, channel=number, kind="missing channel", severity="look", reason=reason)


def _copies(fingerprint: Fingerprint) -> Iterator[Outlier]:
    """Channels of one case with the same voxels."""
    for case in fingerprint.cases:
        copies = Counter(image.digest for image in case.channels.values() if image.digest)
        for number, image in case.channels.items():
            if copies[image.digest] > 1:
                twins = ", ".join(f"{n:04d}" for n in _others(case, number, image.digest))
                reason = f"the same voxels as channel {twins} of this case; keep the file that belongs here"
                yield Outlier(case=case.id, channel=number, kind="duplicate", severity="mend", reason=reason)


def _others(case: CaseFingerprint, number: int, digest: str) -> list[int]:
    return [n for n, image in case.channels.items() if n != number and image.digest == digest]


def _alike(pair: Pair) -> Iterator[Outlier]:
    for case, other in ((pair.first, pair.second), (pair.second, pair.first)):
        kind: Kind = "duplicate" if pair.likeness >= SAME_SCAN else "same person"
        if pair.equal:
            reason = f"the same voxels as {other}; remove one"
        elif kind == "duplicate":
            reason = f"the same scan as {other} but for noise or brightness (likeness {pair.likeness:.2f}); remove one"
        else:
            reason = (
                f"anatomy like that of {other} (likeness {pair.likeness:.2f}): two scans of one person share a fold"
            )
        severity: Severity = "mend" if pair.equal else "look"
        yield Outlier(case=case, channel=pair.channel, kind=kind, severity=severity, reason=reason, related=(other,))


def _by_channel(fingerprint: Fingerprint) -> dict[int, list[tuple[CaseFingerprint, ChannelFingerprint]]]:
    found: dict[int, list[tuple[CaseFingerprint, ChannelFingerprint]]] = defaultdict(list)
    for case in fingerprint.cases:
        for number, image in case.channels.items():
            found[number].append((case, image))
    return dict(sorted(found.items()))


def _distributions(images: Sequence[ChannelFingerprint]) -> dict[str, Distribution]:
    found = {name: _distribution(getattr(image, name) for image in images) for name in _SCALARS}
    for name, parts in _VECTORS.items():
        for index, part in enumerate(parts):
            found[f"{name}.{part}"] = _distribution(getattr(image, name)[index] for image in images)
    return found


def _distribution(values: Iterable[float]) -> Distribution:
    median, p05, p95 = (round(float(v), 5) for v in np.percentile(list(values), (50, 5, 95)))
    return Distribution(median=median, p05=p05, p95=p95)
