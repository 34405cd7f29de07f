"""What the nodes of a run remember, for its picture: read again and again, as the dead take theirs along.

Decides how often real nodes are asked, and how much is kept. Refuses to know how it is drawn (`plot.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from stealmesh import Mesh
from stealmesh.client.journals import Happening, JournalReader
from stealmesh_bench.chaos.report import ChaosReport
from stealmesh_protocol.errors import MeshError
from stealmesh_sim.process import Process

EVERY_SECONDS = 0.5
KEPT_MAX = 400_000
"""Entries of one run: half a gigabyte at most."""


class Onlooker:
    """Reads the journals of a real mesh while it is broken."""

    def __init__(self, mesh: Mesh) -> None:
        self._reader = JournalReader(mesh._link)
        self._found: list[Happening] = []
        self._left_out = 0

    def look(self, over: threading.Event) -> None:
        """In a thread of its own, until the run is over."""
        while not over.wait(EVERY_SECONDS):
            self.read()

    def read(self) -> None:
        try:
            found = self._reader.read()
        except (TimeoutError, MeshError):
            return  # whom we asked has just been killed; the next look finds what is left
        room = KEPT_MAX - len(self._found)
        self._found += found[:room]
        self._left_out += max(0, len(found) - room)

    def tell(self, report: ChaosReport, flow: float) -> None:
        """`flow` is when work began, by the clock of this process."""
        report.began = time.time() - time.monotonic() + flow
        report.found = sorted(self._found, key=lambda each: each.at)
        report.unread = self._reader.missed + self._left_out


def of_processes(processes: Iterable[Process], report: ChaosReport, flow: float) -> None:
    """The same of a virtual mesh, whose dead can still be read."""
    found: list[Happening] = []
    for each in processes:
        rings, member = each.core.journal.rings, each.member
        entries, _ = rings.page(0, 0, 1 << 40)
        report.unread += sum(rings.told()) - len(entries)
        room = KEPT_MAX - len(found)
        found += [Happening(e.at, e.begun, each.name, member.id, e) for e in entries[:room]]
        report.unread += max(0, len(entries) - room)
    report.began = flow
    report.found = sorted(found, key=lambda each: each.at)
