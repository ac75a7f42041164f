"""Bounded, forward-only reading of image files: plain or gzip, decided by the first bytes, never by the name."""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from anatomad.errors import CorruptImageError, MissingImageError, TruncatedImageError

GZIP_MAGIC = b"\x1f\x8b"
# Deflate cannot shrink data by more than 1032:1, so a small file that promises more is refused before any allocation.
MAX_GZIP_RATIO = 1032
_INPUT_CHUNK = 64 * 1024
_OUTPUT_CHUNK = 1024 * 1024


class ByteStream(Protocol):
    """Decoded bytes of one file."""

    gzipped: bool
    size: int

    def read(self, count: int) -> bytes:
        """Return 1 to ``count`` bytes, or none at the verified end."""


class PlainStream:
    """The bytes of an uncompressed file."""

    gzipped = False

    def __init__(self, file: io.FileIO, size: int) -> None:
        self.size = size
        self._file = file

    def read(self, count: int) -> bytes:
        """Return 1 to ``count`` bytes, or none at the end of the file."""
        return self._file.read(min(count, _OUTPUT_CHUNK)) or b""


class GzipStream:
    """The inflated bytes of a gzip file; zlib checks CRC and length of every member, and the file must end with one."""

    gzipped = True

    def __init__(self, file: io.FileIO, size: int, path: Path) -> None:
        self.size = size
        self._file = file
        self._path = path
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._members = 1
        self._delivered = 0

    def read(self, count: int) -> bytes:
        """Return 1 to ``count`` inflated bytes, or none at the verified end.

        Raises:
            CorruptImageError: a checksum or length that does not match, or bytes that belong to no gzip member.
            TruncatedImageError: the file ends within a member.
        """
        while not self._at_end():
            if not self._pending:
                self._pending = self._file.read(_INPUT_CHUNK) or b""
            exhausted = not self._pending
            part = self._decode(min(count, _OUTPUT_CHUNK))
            if part:
                self._delivered += len(part)
                return part
            if exhausted and not self._inflate.eof:
                raise TruncatedImageError(
                    f"{self._path}: the gzip data ends after {self.size} bytes, before its checksum; "
                    "the file was cut short, copy or download it again"
                )
        return b""

    def _decode(self, count: int) -> bytes:
        try:
            part = self._inflate.decompress(self._pending, count)
        except zlib.error as error:
            raise CorruptImageError(
                f"{self._path}: damaged gzip data ({error}) after {self._delivered} good bytes; "
                "copy or download the file again"
            ) from None
        self._pending = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        return part

    def _at_end(self) -> bool:
        if not self._inflate.eof:
            return False
        self._pending = self._pending or self._file.read(_INPUT_CHUNK) or b""
        if not self._pending:
            return True
        # Block gzip (bgzip) writes one member per <= 64 KiB; a file of countless tiny members only costs time.
        self._members += 1
        if self._pending[0] != GZIP_MAGIC[0] or self._members > 64 + self._delivered // 1024:
            raise CorruptImageError(
                f"{self._path}: bytes after the end of the gzip data (member {self._members} is not one of an image); "
                "the file was padded or joined with another, export it again"
            )
        self._inflate = zlib.decompressobj(wbits=31)
        return False


def _not_regular(path: Path, mode: int) -> MissingImageError:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return MissingImageError(f"{path}: this is {kind}, not a regular file; name an image file (.nii.gz or .nii)")


def _open_regular(path: Path) -> io.FileIO:
    """Open for reading, and never block: the kind is looked at before the opening and again after it."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise _not_regular(path, mode)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MissingImageError(f"{path}: cannot be opened ({reason}); check the path and its permissions") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_regular(path, mode)
    return io.FileIO(descriptor, "rb", closefd=True)


@contextmanager
def open_stream(path: Path) -> Iterator[ByteStream]:
    """Open a regular file as a stream of decoded bytes.

    Raises:
        MissingImageError: no regular file at that path, or one that may not be read.
        CorruptImageError: the disk or network reports an error while reading.
    """
    with _open_regular(path) as file:
        try:
            gzipped = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            yield GzipStream(file, size, path) if gzipped else PlainStream(file, size)
        except OSError as error:
            raise CorruptImageError(f"{path}: reading failed ({error.strerror}); check the disk or network") from error


def read_up_to(stream: ByteStream, count: int) -> bytes:
    """Return ``count`` bytes, or fewer when the stream ends before."""
    parts = []
    while count > 0 and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def fill(stream: ByteStream, target: memoryview) -> int:
    """Fill ``target`` (bytes) from the stream; return how many bytes there were."""
    done = 0
    while done < len(target) and (part := stream.read(len(target) - done)):
        target[done : done + len(part)] = part
        done += len(part)
    return done
