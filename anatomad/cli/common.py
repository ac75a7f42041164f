"""What every command shares: options, log lines, and errors turned into exit codes."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import anatomad
from anatomad.errors import AnatomadError, InterruptedRunError, ResourceError, UsageError, out_of_memory

Action = Callable[[argparse.Namespace], int]

_log = logging.getLogger("anatomad")


def make_parser(command: str, description: str, example: str = "") -> argparse.ArgumentParser:
    """Parser of a command with ``--version`` and ``--debug``."""
    parser = argparse.ArgumentParser(
        prog=command,
        description=description,
        epilog=f"example:\n  {example}" if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anatomad {anatomad.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole trace of an error")
    return parser


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add --method: our own unless another is named."""
    parser.add_argument("--method", metavar="NAME", help="train or use another method, as in docs/baselines.md")


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add ``--root`` and ``--work``: where raw data sets lie and where results go."""
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="folder of the data sets (else ANATOMAD_ROOT, else here or above)"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder of the results (else ANATOMAD_WORK, else ROOT/anatomad)"
    )


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add ``-c``: configuration of the plan; None means its default."""
    parser.add_argument(
        "-c", "--configuration", metavar="NAME", help="configuration of the plan: 2d or 3d (default: 2d if it has that)"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add ``-j``: worker processes; None means by cores and free memory."""
    parser.add_argument(
        "-j", "--workers", type=positive_int, metavar="N", help="worker processes (default: by cores and free memory)"
    )


def positive_int(text: str) -> int:
    """Argument type: a whole number of at least 1."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def say(text: str = "") -> None:
    """Write one line to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_command(action: Action, args: argparse.Namespace) -> int:
    """Run ``action(args)`` and return its exit code; errors become one line on stderr and their code.

    Codes: 2 usage, 3 data, 4 disk or memory, 5 interrupted, 70 a defect. SIGTERM ends a command as Ctrl-C does.
    """
    _set_up_logging()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        return action(args)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last place where an error can get words
        if args.debug:
            _log.error("trace:", exc_info=error)
        known = as_known(error)
        _log.error("error: %s", known)
        return known.exit_code


def as_known(error: BaseException) -> AnatomadError:
    """The error itself where it has words of ours, else the one that it amounts to."""
    if isinstance(error, AnatomadError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError("interrupted; run the same command again: what it has written is not made twice")
    if out_of_memory(error):
        return ResourceError(
            "not enough memory; close other programs, or use fewer workers (-j 1) or the CPU (--device cpu) where the "
            "command has that option"
        )
    if isinstance(error, OSError):
        return _as_known_os_error(error)
    return AnatomadError(f"{type(error).__name__}: {error}; this is a defect of anatomad, --debug shows where")


def _as_known_os_error(error: OSError) -> AnatomadError:
    text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(error, BrokenPipeError):
        # The reader of our output left (as `| head` does); Python's own flush at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return InterruptedRunError("the reader of the output left")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"{text}; free some disk space, then run the same command again")
    return UsageError(text)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _StderrHandler(logging.Handler):
    """Writes to the stderr of the moment, which a progress bar may have taken over."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


def _set_up_logging() -> None:
    _log.handlers = [_StderrHandler()]
    _log.setLevel(logging.INFO)
    _log.propagate = False
