"""``plan.html``: the data set and its plan on one page that needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatomad.io.atomic import write_text
from anatomad.planner.charts import bars, quantiles, stack
from anatomad.planner.memory import fullest, usable
from anatomad.planner.plan import PlanFile
from anatomad.planner.planning import decisions_of
from anatomad.planner.records import CaseFingerprint, Fingerprint, Outlier
from anatomad.planner.thumbnails import Picture, Thumbnail, read_thumbnails

MOST_ODD, MOST_TILES = 120, 160
_ENLARGED = 2
_MASK_COLOUR, _TISSUE_COLOUR = (255, 190, 60), (70, 200, 255)
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --mend: #e5484d; --look: #f5a623; --accent: #3b82f6; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { margin: 0; font-size: 1.7rem } h2 { margin: 2.2rem 0 .7rem; font-size: 1.15rem }
.lead, .key { opacity: .75 } .charts { display: flex; flex-wrap: wrap; gap: 1rem }
svg text { fill: currentColor; font: 11px system-ui, sans-serif } svg .title { font-size: 12px; font-weight: 600 }
table { border-collapse: collapse; width: 100%; font-size: 14px }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line) }
td:nth-child(2), code { font-family: ui-monospace, monospace; font-size: 13px }
.mosaic { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: .5rem; align-items: start }
figure { margin: 0; padding: 3px; border: 3px solid transparent; border-radius: 6px }
figure.look { border-color: var(--look) } figure.mend { border-color: var(--mend) }
figure.odd { grid-column: span 2 } figure.odd div { display: flex; gap: 2px; align-items: center }
figure.odd img { width: 50%; min-width: 0 } img { width: 100%; display: block; background: #000; border-radius: 3px }
figcaption { font-size: 11px; line-height: 1.35; overflow-wrap: anywhere; padding-top: 2px }
pre { padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 6px; overflow-x: auto }
"""


def write_report(
    path: Path,
    fingerprint: Fingerprint,
    plan: PlanFile,
    thumbnails: Path,
    next_command: str,
) -> None:
    """Write the page.

    Scans with a finding come first; of large data sets the rest is an evenly spaced sample.

    Args:
        path: of the page.
        fingerprint: what was measured.
        plan: what was decided.
        thumbnails: folder of the pictures that the fingerprint kept; no scan is read.
        next_command: to type.

    Raises:
        DataError: a thumbnail is missing or damaged.
        UsageError, ResourceError: the page cannot be written.
    """
    scans = len(fingerprint.channels())
    parts = [
        f"<h1>{escape(fingerprint.dataset)}</h1>",
        f'<p class="lead">{len(fingerprint.cases)} cases, {scans} scans; findings: {len(fingerprint.outliers)}; '
        f"plan {plan.configuration().digest()[:12]}</p>",
        *_charts(fingerprint),
        *_mosaic(fingerprint, thumbnails),
        *_decisions(plan),
        *_memory(plan),
        f"<h2>Next</h2><pre>{escape(next_command)}</pre>",
    ]
    title = f"Plan of {escape(fingerprint.dataset)}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(parts)
    write_text(
        path,
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n',
    )


def _charts(fingerprint: Fingerprint) -> list[str]:
    images = fingerprint.channels()
    charts = [
        bars("Voxel size, x", [image.spacing_mm[0] for image in images], "mm"),
        bars("Voxel size, y", [image.spacing_mm[1] for image in images], "mm"),
        bars("Voxel size, z", [image.spacing_mm[2] for image in images], "mm"),
        bars("Brain volume", [image.brain_ml for image in images], "ml"),
        bars("Noise", [100 * image.noise for image in images], "% of the intensity range"),
        bars("Bias field", [image.bias for image in images], "SD of the logarithm"),
    ]
    charts += [_intensities(fingerprint, number) for number in sorted(fingerprint.distributions)]
    return ["<h2>Distributions</h2>", f'<div class="charts">{"".join(charts)}</div>']


def _intensities(fingerprint: Fingerprint, number: int) -> str:
    rows = [case.channels[number].percentiles for case in fingerprint.cases if number in case.channels]
    return quantiles(f"Intensities in the brain, {fingerprint.channel_names[number]}", rows)


def _mosaic(fingerprint: Fingerprint, folder: Path) -> list[str]:
    findings: dict[str, list[Outlier]] = {}
    for outlier in fingerprint.outliers:
        findings.setdefault(outlier.case, []).append(outlier)
    shown = _chosen(fingerprint.cases, findings)
    tiles = [_tile(case, findings.get(case.id, []), read_thumbnails(folder, case.id)) for case in shown]
    count = f"{len(shown)} of {len(fingerprint.cases)}" if len(shown) < len(fingerprint.cases) else "all"
    key = "the brain mask is outlined in yellow, grey against white matter in blue; the right side is on the right"
    return [f"<h2>Scans ({count})</h2>", f'<p class="key">{key}</p>', f'<div class="mosaic">{"".join(tiles)}</div>']


def _chosen(cases: Sequence[CaseFingerprint], findings: dict[str, list[Outlier]]) -> list[CaseFingerprint]:
    odd = [case for case in cases if case.id in findings]
    odd.sort(key=lambda case: all(outlier.severity == "look" for outlier in findings[case.id]))
    odd = odd[:MOST_ODD]
    rest = [case for case in cases if case.id not in findings]
    index = np.unique(np.linspace(0, len(rest) - 1, min(len(rest), MOST_TILES - len(odd))).round().astype(int))
    return odd + [rest[i] for i in index]


def _tile(case: CaseFingerprint, findings: Sequence[Outlier], thumbnails: dict[int, Thumbnail]) -> str:
    if not findings:
        first = thumbnails[min(thumbnails)]
        return f"<figure>{_image(first.axial, first.axial_tissue)}<figcaption>{escape(case.id)}</figcaption></figure>"
    word = "mend" if any(outlier.severity == "mend" for outlier in findings) else "look"
    channel = next((o.channel for o in findings if o.channel in thumbnails), min(thumbnails))
    odd = thumbnails[min(thumbnails) if channel is None else channel]
    pictures = _image(odd.axial, odd.axial_tissue) + _image(odd.sagittal, odd.sagittal_tissue)
    reasons = "<br>".join(escape(_captioned(outlier)) for outlier in findings)
    caption = f"<figcaption><b>{escape(case.id)}</b> ({word})<br>{reasons}</figcaption>"
    return f'<figure class="odd {word}"><div>{pictures}</div>{caption}</figure>'


def _captioned(outlier: Outlier) -> str:
    return outlier.reason if outlier.channel is None else f"{outlier.channel:04d}: {outlier.reason}"


def _image(picture: Picture, tissue: Picture) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(_png(drawn(picture, tissue))).decode()}">'


def drawn(picture: Picture, tissue: Picture) -> NDArray[np.uint8]:
    """Colour picture (rows from top to bottom, columns, 3) of a slice with its outlines."""
    large = np.ones((_ENLARGED, _ENLARGED), np.uint8)
    labels = np.kron(tissue, large)
    colours = np.repeat(np.kron(picture, large)[..., None], 3, axis=2)
    colours[_borders(labels == 3) & (labels > 1)] = _TISSUE_COLOUR
    colours[_borders(labels > 0)] = _MASK_COLOUR
    return np.ascontiguousarray(colours.transpose(1, 0, 2)[::-1])


def _borders(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a region beside one that is outside."""
    padded = np.pad(region, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inner


def _png(colours: NDArray[np.uint8]) -> bytes:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, colours, format="png")
    return buffer.getvalue()


def _decisions(plan: PlanFile) -> list[str]:
    rows = (
        f"<tr><td>{escape(d.name)}</td><td>{escape(d.value)}</td><td>{escape(d.reason)}</td></tr>"
        for d in decisions_of(plan)
    )
    return ["<h2>Decisions</h2>", f"<table><tr><th>decision</th><th>value</th><th>why</th></tr>{''.join(rows)}</table>"]


def _memory(plan: PlanFile) -> list[str]:
    chosen, machine = plan.configuration(), plan.machine
    return [
        f"<h2>Memory of a training step, {chosen.configuration}</h2>",
        stack(fullest(chosen, machine), usable(machine)),
    ]
