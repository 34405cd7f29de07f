"""How much memory processes hold, read from /proc: peaks, and whole families of processes over time."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType

MIB = 1 << 20
_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")


def peak_mib() -> float:
    """The most that this process ever held. Not getrusage: that one remembers who forked us."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("Linux always tells VmHWM")


def resident_mib(pid: int) -> float | None:
    """What a process holds now; None when it has gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pages * _PAGE_OCTETS / MIB


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = defaultdict(list)
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stat = Path(entry.path, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended while we were looking
            # The name in parentheses may hold anything; the parent comes second after it.
            children[int(stat.rpartition(")")[2].split()[1])].append(int(entry.name))
    found = [pid]
    for each in found:
        found += children[each]
    return found


class Sampler:
    """Watches a family from a thread while a `with` block runs."""

    def __init__(self, pid: int, interval_seconds: float = 0.25) -> None:
        self.seen: dict[int, list[float]] = defaultdict(list)
        """By process: what it held, sample by sample."""
        self._pid = pid
        self._interval_seconds = interval_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def peak_mib(self) -> float:
        """The most that any one of them held."""
        return max(max(samples) for samples in self.seen.values())

    @property
    def growth_mib(self) -> float:
        """By how much the worst of them outgrew the size that it had after a fifth of its time."""
        return max(
            max(samples[len(samples) // 5 :]) - samples[len(samples) // 5]
            for samples in self.seen.values()
        )

    def _watch(self) -> None:
        members = family(self._pid)
        while True:
            for pid in members:
                held = resident_mib(pid)
                if held is not None:
                    self.seen[pid].append(held)
            if self._over.wait(self._interval_seconds):
                return
