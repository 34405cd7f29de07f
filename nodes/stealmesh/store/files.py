"""The few things that a log does with files, so that the same log runs on a disk and on a virtual one.

Does them and raises OSError. Decides nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Protocol

READ_OCTETS = 1 << 20
SECTOR_OCTETS = 4096


class Files(Protocol):
    """Files of one directory, by name. What was not synced may be gone after a power failure."""

    def read(self, name: str) -> bytes | None:
        """Everything in it; None: there is no such file. What the disk cannot read is zeros."""

    def create(self, name: str) -> None:
        """An empty file, in place of any that is there."""

    def write(self, name: str, at: int, octets: bytes) -> None:
        """Put these octets there: all, or raise (then it is unknown what is there)."""

    def sync(self, name: str) -> None:
        """What was written is on the disk; if it raises, it is unknown what is."""

    def rename(self, name: str, to: str) -> None:
        """Rename a file. `sync_names` makes it durable."""

    def sync_names(self) -> None:
        """The names are on the disk."""

    def remove(self, name: str) -> None:
        """Remove the file, if it exists."""


class SystemFiles:
    """A real directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, int] = {}

    def read(self, name: str) -> bytes | None:
        try:
            file = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(file).st_size
            return b"".join(
                _read_some(file, at, min(READ_OCTETS, size - at), READ_OCTETS)
                for at in range(0, size, READ_OCTETS)
            )
        finally:
            os.close(file)

    def create(self, name: str) -> None:
        self._forget(name)
        self._open[name] = self._opened(name, os.O_TRUNC)

    def write(self, name: str, at: int, octets: bytes) -> None:
        file = self._file(name)
        view = memoryview(octets)
        while view:
            done = os.pwrite(file, view, at)
            view, at = view[done:], at + done

    def sync(self, name: str) -> None:
        os.fdatasync(self._file(name))

    def rename(self, name: str, to: str) -> None:
        os.replace(self._directory / name, self._directory / to)
        self._forget(to)
        if name in self._open:
            self._open[to] = self._open.pop(name)

    def sync_names(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove(self, name: str) -> None:
        self._forget(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._directory / name)

    def close(self) -> None:
        for name in list(self._open):
            self._forget(name)

    def _file(self, name: str) -> int:
        if name not in self._open:
            self._open[name] = self._opened(name, 0)
        return self._open[name]

    def _opened(self, name: str, more: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | more
        return os.open(self._directory / name, flags, 0o600)

    def _forget(self, name: str) -> None:
        file = self._open.pop(name, None)
        if file is not None:
            os.close(file)


def _read_some(file: int, at: int, octets: int, step: int) -> bytes:
    """Read octets; where the disk cannot read them as a whole, what it can read sector by sector."""
    try:
        found = os.pread(file, octets, at)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        if step == SECTOR_OCTETS:
            return bytes(octets)
        return b"".join(
            _read_some(file, part, min(SECTOR_OCTETS, at + octets - part), SECTOR_OCTETS)
            for part in range(at, at + octets, SECTOR_OCTETS)
        )
    return found.ljust(octets, b"\0")
