"""One owner per fold folder: a small file that says who trains, kept alive by touching it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anatomad.errors import ResourceError
from anatomad.io.atomic import write_json

_BEAT_S = 10.0
_STALE_S = 90.0
_UNREADABLE_S = 10.0
_SETTLE_S = 0.2


class Lease:
    """Context manager that owns a folder; what a dead process left is taken over.

    An owner counts as dead when its process is gone from this host, or when it has not touched its file for 90 s.

    Args:
        folder: Folder to own; made when missing.
        beat_s: Seconds between two touches.

    Raises:
        ResourceError: a living process owns it (on entering), or took it over meanwhile (on checking).
    """

    def __init__(self, folder: Path, beat_s: float = _BEAT_S) -> None:
        self._path = folder / "owner.json"
        self._beat_s = beat_s
        self._mine = {"pid": os.getpid(), "host": socket.gethostname(), "token": secrets.token_hex(8)}
        self._released = threading.Event()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            self._take_over()
        else:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._mine, file)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        if self._owner() == self._mine:
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise when another process has taken the folder over, as after a long sleep of this one."""
        if self._owner() != self._mine:
            raise ResourceError(f"{self._path.parent}: another process has taken over this training; this one stops")

    def _take_over(self) -> None:
        owner, age = self._owner(), self._age()
        if self._alive(owner, age):
            who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
            raise ResourceError(
                f"{self._path.parent}: {who} trains here; wait for it or end it (if it no longer exists, try again in "
                f"{_STALE_S:.0f} s)"
            )
        write_json(self._path, self._mine)
        time.sleep(_SETTLE_S)  # of several that take over at once, the last writer owns
        self.check()

    def _alive(self, owner: dict[str, Any] | None, age: float) -> bool:
        if owner is None:
            return age < _UNREADABLE_S
        if owner["host"] != self._mine["host"]:
            return age < _STALE_S
        return age < _STALE_S and owner["pid"] != self._mine["pid"] and _runs(int(owner["pid"]))

    def _owner(self) -> dict[str, Any] | None:
        try:
            owner = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return None
        return owner if isinstance(owner, dict) and self._mine.keys() <= owner.keys() else None

    def _age(self) -> float:
        with contextlib.suppress(OSError):
            return time.time() - self._path.stat().st_mtime
        return _STALE_S

    def _beat(self) -> None:
        while not self._released.wait(self._beat_s):
            with contextlib.suppress(OSError):
                if self._owner() == self._mine:
                    os.utime(self._path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
