"""Putting bytes under a name: complete and verified, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from anatomad.errors import ResourceError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def write_bytes(path: Path | str, data: bytes, verify: Callable[[Path], None] | None = None) -> None:
    """Write a file atomically: temporary file beside it, fsync, read back, ``verify``, rename, fsync of the folder.

    Missing parent folders are made. On any failure an earlier file under that name is left as it was, and no partial
    file stays behind; what a killed process left is removed by the next write of the same name.

    Raises:
        ResourceError: no space left, quota reached, or the disk returned other bytes than were written.
        UsageError: a place where nothing may be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        _write_synced(temporary, data)
        _read_back(path, temporary, data)
        if verify is not None:
            verify(temporary)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        _raise_typed(path, len(data), error)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def link_file(path: Path | str, to: Path | str) -> None:
    """Put a symbolic link to the file ``to`` under a name, atomically; missing parent folders are made.

    Raises:
        ResourceError, UsageError: as ``write_bytes``.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        os.symlink(os.path.abspath(to), temporary)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        _raise_typed(path, 0, error)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _temporary(path: Path) -> Path:
    """Name a new temporary file; those that dead processes of this host left for the same name are removed."""
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    stem = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-{host}"
    for stale in path.parent.glob(f"{stem}-*.tmp"):
        pid = stale.name.split("-")[2]
        if pid.isdecimal() and not _alive(int(pid)):
            stale.unlink(missing_ok=True)
    return path.parent / f"{stem}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # An orphan that nobody reaps keeps its number; it writes no more. Only Linux tells.
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state not in ("Z", "X")


def _write_synced(temporary: Path, data: bytes) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_back(path: Path, temporary: Path, data: bytes) -> None:
    """Compare what the disk holds with what was meant, a piece at a time."""
    position = 0
    with open(temporary, "rb") as file:
        while piece := file.read(1 << 20):
            if piece != data[position : position + len(piece)]:
                break
            position += len(piece)
    if position != len(data):
        raise ResourceError(f"{path}: the disk returned other bytes than written at {position}; check the disk")


def _sync_folder(folder: Path) -> None:
    # Some network file systems refuse this; the file is complete and in its place by now, so that is no failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _raise_typed(path: Path, size: int, error: OSError) -> NoReturn:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        free = "unknown"
        with contextlib.suppress(OSError):
            free = str(shutil.disk_usage(path.parent).free)
        raise ResourceError(
            f"{path}: not written ({reason}); {size} bytes are needed and {free} are free, make room and run again"
        ) from error
    raise UsageError(f"{path}: not written ({reason}); choose a folder where you may write") from error
