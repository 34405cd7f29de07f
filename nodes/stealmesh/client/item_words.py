"""What the running items of a job say of how far they are, for the program that submitted it.

Decides that the program's own callback (`options(report=…)`) is called in a thread of the program's, with
the latest word of each item: what comes while a callback works replaces what waits. Moves the bar by the
shares of the items that run. Refuses to know how words get here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from stealmesh.client.user_threads import Strand, UserThreads

Report = Callable[[int, float, float | None], object]


class PartBar(Protocol):
    """A progress bar (`stealmesh.progress.Bar`)."""

    def __call__(self, done: int, total: int | None) -> None:
        """This number of items is done."""

    def running(self, items: float) -> None:
        """Shares of items that run count as done."""

    def goes_on(self) -> None:
        """The program waits for results."""

    def rest(self) -> None:
        """The program's own code runs."""

    def close(self) -> None:
        """It moves no more."""


class ItemWords:
    """The words of one job."""

    def __init__(
        self, threads: UserThreads, report: Report | None, bar: PartBar | None = None
    ) -> None:
        self._strand = Strand(threads)
        self._report = report
        self._bar = bar
        self._lock = threading.Lock()
        self._unheard: dict[int, tuple[float, float | None]] = {}
        self._shares: dict[int, float] = {}
        self._asked = False
        """The strand has been asked to look."""

    # ------------------------------------------------------------ the driver's thread

    def hear(self, words: list[tuple[int, float, float]]) -> None:
        with self._lock:
            for item, done, total in words:
                self._unheard[item] = (plain(done), None if total < 0 else plain(total))
                if total > 0:
                    self._shares[item] = min(1.0, done / total)
            self._look()

    def over(self, lo: int, hi: int) -> None:
        """The items [lo, hi) are finished: the bar counts them whole. Their last words are still heard."""
        if not self._shares:
            return
        with self._lock:
            for item in [item for item in self._shares if lo <= item < hi]:
                del self._shares[item]
            self._look()

    def _look(self) -> None:
        """Called with the lock held."""
        if not self._asked:
            self._asked = True
            self._strand.put(self._tell)

    # ------------------------------------------------------------ the strand

    def _tell(self) -> None:
        with self._lock:
            self._asked = False
            words, self._unheard = self._unheard, {}
            share = sum(self._shares.values())
        if self._bar is not None:
            self._bar.running(share)
        report = self._report
        if report is None:
            return
        for item, (done, total) in words.items():
            self._strand.put(lambda item=item, done=done, total=total: report(item, done, total))  # type: ignore[misc]


def plain(number: float) -> float:
    """3 and not 3.0, as the task has most probably said it."""
    return int(number) if number.is_integer() else number


def words_for(
    threads: UserThreads, report: Report | None, bar: PartBar | None = None
) -> ItemWords | None:
    """None if the program wants to hear nothing."""
    return None if report is None and bar is None else ItemWords(threads, report, bar)
