"""The one writer of files: text, JSON, arrays and images, each complete and verified under its name or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomad.errors import DataError
from anatomad.io.commit import link_file, write_bytes
from anatomad.io.export import write_image, write_new_image
from anatomad.io.tensors import decode_tensors, encode_tensors

__all__ = [
    "link_file",
    "read_metadata",
    "read_tensors",
    "write_bytes",
    "write_image",
    "write_json",
    "write_new_image",
    "write_tensors",
    "write_text",
]


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically; raises as ``write_bytes`` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, obj: object) -> None:
    """Write JSON atomically (keys in their order, indent 1, one newline at the end, ASCII); numpy scalars are numbers.

    Raises:
        DataError: NaN, infinity or an object JSON has no form for; otherwise as ``write_bytes``.
    """
    try:
        text = json.dumps(obj, indent=1, allow_nan=False, default=_plain)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not written, a value has no JSON form ({error}); use null or a plain type") from None
    write_text(path, text + "\n")


def write_tensors(path: Path | str, tensors: dict[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> None:
    """Write arrays as safetensors, atomically; equal input gives equal bytes. Raises as ``write_bytes`` does."""
    write_bytes(path, encode_tensors(tensors, metadata or {}))


def read_tensors(path: Path | str) -> dict[str, NDArray[Any]]:
    """Read the arrays of a safetensors file.

    Raises:
        DataError: missing or damaged.
    """
    return decode_tensors(Path(path))[0]


def read_metadata(path: Path | str) -> dict[str, str]:
    """Read the metadata of a safetensors file; raises as ``read_tensors`` does."""
    return decode_tensors(Path(path))[1]


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r}")
