import argparse
import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from anatomad.cli.common import add_folders, add_workers, make_parser, positive_int, run_command
from anatomad.cli.main import COMMANDS, main
from anatomad.errors import ImageError, UsageError


@pytest.fixture(autouse=True)
def keep_signals() -> object:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def action(_: argparse.Namespace) -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("no such thing"), 2, "no such thing"),
        (ImageError("a.nii: bad"), 3, "a.nii: bad"),
        (MemoryError(), 4, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "a.json"), 4, "a.json: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "a.json"), 2, "a.json: Permission denied"),
        (KeyboardInterrupt(), 5, "run the same command again"),
        (ZeroDivisionError("oh"), 70, "ZeroDivisionError: oh; this is a defect"),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(error), argparse.Namespace(debug=False)) == code
    written = capsys.readouterr().err
    assert written.startswith("error: ")
    assert text in written
    assert "Traceback" not in written


def test_debug_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(UsageError("x")), argparse.Namespace(debug=True)) == 2
    assert "Traceback" in capsys.readouterr().err


def test_result_and_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def action(_: argparse.Namespace) -> int:
        logging.getLogger("anatomad.somewhere").info("noted")
        return 3

    assert run_command(action, argparse.Namespace(debug=False)) == 3
    assert capsys.readouterr().err == "noted\n"


def test_shared_options(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser("anatomad_x", "Does x.", "anatomad_x 1")
    add_folders(parser)
    add_workers(parser)
    args = parser.parse_args(["--root", "a", "--work", "b", "-j", "3", "--debug"])
    assert (str(args.root), str(args.work), args.workers, args.debug) == ("a", "b", 3, True)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["-j", "0"])
    assert "'0' is not a whole number of at least 1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        parser.parse_args(["--version"])
    assert capsys.readouterr().out == "anatomad 0.1.0\n"


@pytest.mark.parametrize("text", ["-1", "1.5", "two", "", "²"])
def test_worker_counts_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        positive_int(text)


def test_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


def test_reader_that_leaves_is_no_defect() -> None:
    code = "from anatomad.cli.common import *; import argparse\n"
    code += "def f(_):\n for i in range(10**6): say('x' * 99)\n return 0\n"
    code += "sys.exit(run_command(f, argparse.Namespace(debug=False)))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read(10)
    child.stdout.close()
    assert child.wait(timeout=30) == 5
    assert child.stderr is not None
    assert child.stderr.read() == b"error: the reader of the output left\n"
    child.stderr.close()


def test_terminate_ends_like_ctrl_c() -> None:
    code = "from anatomad.cli.common import *; import argparse, time\n"
    code += "def f(_):\n say('ready'); time.sleep(60); return 0\n"
    code += "sys.exit(run_command(f, argparse.Namespace(debug=False)))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    child.stdout.readline()
    child.terminate()
    assert child.wait(timeout=30) == 5
    child.stdout.close()


@pytest.mark.parametrize("module", ["main", "plan"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = f"import sys\nfrom anatomad.cli.{module} import main\ntry:\n main(['--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'numpy', 'torch', 'scipy', 'nibabel', 'SimpleITK', 'pydantic', 'rich'} & set(sys.modules)\n"
    code += "sys.exit(str(heavy) if heavy else 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: anatomad")
