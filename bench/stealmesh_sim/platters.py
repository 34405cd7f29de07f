"""The files of a virtual disk, and what a power failure or a defect makes of them.

Does what a directory does (`stealmesh.store.files`), and knows which octets and names were synced. At
a power failure the others may be there, in part, as zeros, or not at all. `spoilt` does to a file
what disks do to files: a flipped bit, a lost sector, a cut end. Decides nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from stealmesh.store.logfile import FILE, FRESH, SURE
from stealmesh.store.records import OPENING_OCTETS

SECTOR_OCTETS = 512
RUBBISH_OCTETS_MAX = 40


@dataclass(slots=True)
class Content:
    """One file."""

    octets: bytearray = field(default_factory=bytearray)
    sure: int = 0
    """Octets that are on the disk for certain."""
    overwritten: list[tuple[int, bytes]] = field(default_factory=list)
    """(offset, octets) of what the disk still has under octets written over it."""


class Platter:
    """A directory on a virtual disk."""

    def __init__(self) -> None:
        self.files: dict[str, Content] = {}
        self.full = False
        """Nothing more can be written."""
        self._replaced: dict[str, Content | None] = {}
        """Names that are not synced, and what they meant before."""

    # ------------------------------------------------------------ what the log does

    def read(self, name: str) -> bytes | None:
        content = self.files.get(name)
        return None if content is None else bytes(content.octets)

    def create(self, name: str) -> None:
        self._need_room()
        self.files[name] = Content()

    def write(self, name: str, at: int, octets: bytes) -> None:
        content = self.files.setdefault(name, Content())
        size = len(content.octets)
        if self.full and at + len(octets) > size:
            content.octets[at : at + len(octets)] = octets[: len(octets) // 2]
            self._need_room()
        if at < content.sure:
            content.overwritten.append((at, bytes(content.octets[at : at + len(octets)])))
        content.octets[at : at + len(octets)] = octets

    def sync(self, name: str) -> None:
        content = self.files[name]
        content.sure = len(content.octets)
        content.overwritten.clear()

    def rename(self, name: str, to: str) -> None:
        self._replaced.setdefault(to, self.files.get(to))
        self.files[to] = self.files.pop(name)

    def sync_names(self) -> None:
        self._replaced.clear()

    def remove(self, name: str) -> None:
        self.files.pop(name, None)

    def _need_room(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    # ------------------------------------------------------------ what befalls it

    def power_off(self, rng: Random, *, harsh: bool = False) -> None:
        """Any part of what was not synced may be on the disk; `harsh`: nothing of it is."""
        for name, meant in self._replaced.items():
            if harsh or rng.random() < 0.5:
                self.files.pop(name, None)
                if meant is not None:
                    self.files[name] = meant
        self._replaced.clear()
        for name, content in self.files.items():
            if harsh:
                del content.octets[content.sure :]
            elif name != SURE:
                self._lose(content, rng)
            while content.overwritten:
                at, before = content.overwritten.pop()
                if harsh or rng.random() < 0.5:
                    content.octets[at : at + len(before)] = before

    def _lose(self, content: Content, rng: Random) -> None:
        late = len(content.octets) - content.sure
        if late > 0:
            del content.octets[content.sure + rng.randint(0, late) :]
            for at in range(content.sure, len(content.octets), SECTOR_OCTETS):
                if rng.random() < 0.1:  # the file has grown, but this sector was never written
                    hole = min(SECTOR_OCTETS, len(content.octets) - at)
                    content.octets[at : at + hole] = bytes(hole)
            if rng.random() < 0.3:
                content.octets += rng.randbytes(rng.randint(1, RUBBISH_OCTETS_MAX))
        content.sure = len(content.octets)

    def spoil(self, how: str, rng: Random) -> None:
        """Something happens to the log."""
        octets = self.read(FILE)
        if octets is not None:
            self.put(spoilt(octets, how, rng))

    def put(self, octets: bytes) -> None:
        """The log is this from now on."""
        self.files.pop(FRESH, None)
        self.files[FILE] = Content(bytearray(octets), len(octets))


# ---------------------------------------------------------------- damage


def _flipped(octets: bytes, rng: Random) -> bytes:
    """One bit, anywhere in the records."""
    at = rng.randrange(min(OPENING_OCTETS, len(octets) - 1), len(octets))
    return octets[:at] + bytes([octets[at] ^ 1 << rng.randrange(8)]) + octets[at + 1 :]


def _flipped_header(octets: bytes, rng: Random) -> bytes:
    at = rng.randrange(min(50, len(octets)))
    return octets[:at] + bytes([octets[at] ^ 1 << rng.randrange(8)]) + octets[at + 1 :]


def _truncated(octets: bytes, rng: Random) -> bytes:
    """The second half, or less of the end, is gone."""
    return octets[
        : rng.randint(max(len(octets) // 2, min(OPENING_OCTETS, len(octets))), len(octets))
    ]


def _sector_lost(octets: bytes, rng: Random) -> bytes:
    at = rng.randrange(0, len(octets), SECTOR_OCTETS)
    size = min(SECTOR_OCTETS, len(octets) - at)
    return octets[:at] + rng.choice((bytes(size), rng.randbytes(size))) + octets[at + size :]


def _zero_tail(octets: bytes, rng: Random) -> bytes:
    """The file is as long as it was, and ends in zeros."""
    kept = _truncated(octets, rng)
    return kept.ljust(len(octets) + rng.randint(0, 4096), b"\0")


def _doubled_tail(octets: bytes, rng: Random) -> bytes:
    """A write was done twice."""
    return octets + octets[-rng.randint(1, max(1, (len(octets) - OPENING_OCTETS) // 2)) :]


SPOILS: dict[str, Callable[[bytes, Random], bytes]] = {
    "bitflip": _flipped,
    "header": _flipped_header,
    "truncated": _truncated,
    "sector": _sector_lost,
    "zero-tail": _zero_tail,
    "doubled-tail": _doubled_tail,
}


def spoilt(octets: bytes, how: str, rng: Random) -> bytes:
    """The file after this befell it."""
    return SPOILS[how](octets, rng) if octets else octets


__all__ = ["SPOILS", "Content", "Platter", "spoilt"]
