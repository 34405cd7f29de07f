"""What happened here and why, as far back as there is room.

Decides nothing. Refuses to know what the words mean. A bounded log of (when, what, job, lease, detail),
written at every change of custody. It tells the life of any job or lease: `journal.of(job)` is the first
thing to read when a result is late.
"""

from __future__ import annotations

from collections import deque

from stealmesh_engine.base.rings import Rings
from stealmesh_protocol.ids import JobId, short


class Journal:
    __slots__ = ("_lines", "rings", "told")

    def __init__(self, lines_max: int, rings: Rings | None = None) -> None:
        self._lines: deque[tuple[float, str, bytes, int, object]] = deque(maxlen=lines_max)
        self.rings = rings if rings is not None else Rings(0, 0, [])
        """The part of it that people see, and that peers may ask for."""
        self.told = 0
        """How many lines were ever written; those before the last `lines_max` are gone."""

    def tell(
        self, now: float, what: str, job: JobId = b"", lid: int = 0, detail: object = ""
    ) -> None:
        self._lines.append((now, what, job, lid, detail))
        self.told += 1

    def of(self, job: JobId | None = None, lid: int | None = None) -> list[str]:
        """The lines about a job (or one of its leases), oldest first; all lines without arguments."""
        return [
            self._line(*line)
            for line in self._lines
            if (job is None or line[2] == job) and (lid is None or line[3] == lid)
        ]

    @staticmethod
    def _line(now: float, what: str, job: JobId, lid: int, detail: object) -> str:
        about = f" job {short(job)}" if job else ""
        lease = f" lease {lid >> 32}.{lid & 0xFFFFFFFF}" if lid else ""
        if isinstance(detail, bytes):
            detail = short(detail)
        return f"{now:12.6f} {what}{about}{lease} {detail}".rstrip()
