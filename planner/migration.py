"""Plans of earlier versions, brought to the present one with what was fixed in the code of their time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anatomad.planner.settings import shown

EARLIER = 2

Values = Mapping[str, Any]


def migrated(values: Values) -> dict[str, Any]:
    """A plan file, or a model's plan, of version 2 as one of version 3 that does the same.

    Version 3 made decisions of what had been constants: one voxel of rim, whatever its size, and no smallest region.
    """
    sides = tuple(values["spacing_mm"])
    usual = {
        "brain_mask": "auto",
        "normalisation": dict.fromkeys(values["channel_names"], (0.5, 99.5)),
        "edge_mm": sides,
        "postprocessing": {"rim_mm": min(sides), "mask_p": 0.01, "smallest_mm3": 0.0},
    }
    result = dict(values) | {"version": 3} | usual
    if "decisions" in values:
        result["decisions"] = [*values["decisions"], *_decisions(usual)]
    return result


def _decisions(group: Values, path: str = "") -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for key, value in group.items():
        if isinstance(value, dict):
            found += _decisions(value, f"{path}{key}.")
        else:
            reason = f"as in every plan of version {EARLIER}"
            found.append({"name": path + key, "value": shown(value), "reason": reason})
    return found
