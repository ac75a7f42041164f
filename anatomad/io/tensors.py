"""Arrays to and from safetensors bytes.

The layout is written here rather than by the safetensors package, whose metadata comes in random order: equal arrays
must give equal files. Reading is the package's, which checks every offset.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from anatomad.errors import DataError

_NAMES = {
    "b1": "BOOL",
    "u1": "U8",
    "i1": "I8",
    "u2": "U16",
    "i2": "I16",
    "f2": "F16",
    "u4": "U32",
    "i4": "I32",
    "f4": "F32",
    "u8": "U64",
    "i8": "I64",
    "f8": "F64",
}


def encode_tensors(tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> bytes:
    """Return the safetensors form of ``tensors``, the widest types first so that all are aligned.

    Raises:
        DataError: a type that safetensors has no name for.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    parts = []
    position = 0
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        kind = array.dtype.kind + str(array.dtype.itemsize)
        if kind not in _NAMES:
            raise DataError(f"tensor '{name}' has type {array.dtype}; expected a number or boolean of up to 64 bits")
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {
            "dtype": _NAMES[kind],
            "shape": list(array.shape),
            "data_offsets": [position, position + len(data)],
        }
        parts.append(data)
        position += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def decode_tensors(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Return (arrays, metadata) of a safetensors file.

    Raises:
        DataError: missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the step that makes it again")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it and run the step that makes it again") from None
