import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anatomad.errors import ResourceError
from anatomad.train.lease import Lease


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(folder: Path, pid: int, host: str, age: float = 0) -> None:
    (folder / "owner.json").write_text(json.dumps({"pid": pid, "host": host, "token": "t"}))
    then = time.time() - age
    os.utime(folder / "owner.json", (then, then))


def test_owned_then_free(tmp_path: Path) -> None:
    with Lease(tmp_path / "new") as lease:
        assert json.loads((tmp_path / "new" / "owner.json").read_text())["pid"] == os.getpid()
        lease.check()
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_living_owner_is_named(tmp_path: Path, host: str) -> None:
    leave(tmp_path, os.getppid(), socket.gethostname() if host == "here" else host)
    with (
        pytest.raises(ResourceError, match=f"process {os.getppid()} on .* trains here; wait for it or end it"),
        Lease(tmp_path),
    ):
        pass
    assert json.loads((tmp_path / "owner.json").read_text())["token"] == "t"


@pytest.mark.parametrize("how", ["dead", "own number", "silent", "elsewhere", "unreadable"])
def test_dead_owner_is_replaced(tmp_path: Path, how: str) -> None:
    here = socket.gethostname()
    pid = {"dead": dead_process(), "own number": os.getpid()}.get(how, os.getppid())
    leave(tmp_path, pid, "other" if how == "elsewhere" else here, 0 if how in ("dead", "own number") else 100)
    if how == "unreadable":
        (tmp_path / "owner.json").write_text("")
        os.utime(tmp_path / "owner.json", (0, 0))
    with Lease(tmp_path) as lease:
        lease.check()
    assert not list(tmp_path.iterdir())


def test_a_lease_taken_over_is_noticed_and_left_alone(tmp_path: Path) -> None:
    with Lease(tmp_path) as lease:
        leave(tmp_path, 1, "other")
        with pytest.raises(ResourceError, match="another process has taken over"):
            lease.check()
    assert (tmp_path / "owner.json").exists()


def test_owner_shows_that_it_lives(tmp_path: Path) -> None:
    with Lease(tmp_path, beat_s=0.01):
        os.utime(tmp_path / "owner.json", (0, 0))
        deadline = time.monotonic() + 5
        while (tmp_path / "owner.json").stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "owner.json").stat().st_mtime > 1
