"""Decisions as text: how the table shows them, and how ``--set`` reads them back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from anatomad.errors import UsageError

_ROW = re.compile(r"\d+(?:x\d+)+")
_AXES = 3
_SUGGESTED = 3
_LEAST_LIKENESS = 0.6


def shown(value: object) -> str:
    """A value as the table prints it, like ``2, 2, 2`` or ``3x3x1, 3x3x3``; no digit is left out."""
    if isinstance(value, tuple | dict):
        return ", ".join("x".join(map(shown, each)) if isinstance(each, tuple) else shown(each) for each in value)
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def parsed(name: str, text: str, kind: Any, example: object) -> Any:
    """The value that ``text`` gives to a decision: JSON, as the table prints it, or one number for all three axes.

    Args:
        name: of the decision.
        text: what stands behind ``--set NAME=``.
        kind: type of the value.
        example: a value that it can have, for the message.

    Raises:
        UsageError: no such value; says what one looks like.
    """
    try:
        return TypeAdapter(kind).validate_python(_for_all(_read(text), kind))
    except ValidationError as error:
        told = "; ".join(dict.fromkeys(each["msg"] for each in error.errors()))
        like = shown(example).replace(", ", ",")
        raise UsageError(f"--set {name}={text}: {told}; give it like --set {name}={like}") from None


def unknown(names: Iterable[str], known: Sequence[str]) -> UsageError:
    """Refusal of names that are no decision to be set, with the closest that are."""
    return UsageError("; ".join(_refusal(name, known) for name in names))


def _refusal(name: str, known: Sequence[str]) -> str:
    likeness = {each: max(_likeness(name, each), _likeness(_last(name), _last(each))) for each in known}
    close = sorted((each for each in known if likeness[each] >= _LEAST_LIKENESS), key=lambda each: -likeness[each])
    told = f"close to it: {', '.join(close[:_SUGGESTED])}" if close else "anatomad_plan prints those that there are"
    return f"--set {name}: no such decision in this plan; {told}"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _likeness(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second).ratio()


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    if "," in text:
        return [_read(part.strip()) for part in text.split(",")]
    return [int(side) for side in text.split("x")] if _ROW.fullmatch(text) else text


def _for_all(value: Any, kind: Any) -> Any:
    """One number where a number for each axis, or any number of them, is wanted."""
    inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if not isinstance(value, int | float) or get_origin(inner) is not tuple:
        return value
    items = get_args(inner)
    if items[-1] is Ellipsis:
        return [value]
    return [value] * _AXES if len(items) == _AXES else value
