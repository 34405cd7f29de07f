"""What a node says on its terminal of what happens: a few lines for the person who started it.

Decides how many lines there may be: after a burst, two a second, and the next line says how many were left out.
(Refusals are counted together by the core already.) What is left out is in the journal, and
`stealmesh events` shows it. Refuses to know which entries are worth a line: the core has said so.
"""

from __future__ import annotations

from collections.abc import Callable

from stealmesh.host.happened import facts_of, words_of
from stealmesh.host.saying import say
from stealmesh_protocol.journal_messages import JournalEntry

BURST = 20
LINES_A_SECOND = 2.0


class Terminal:
    def __init__(self, say: Callable[..., None] = say) -> None:
        self._say = say
        self._left = float(BURST)
        self._at = 0.0
        self._silenced = 0

    def tell(self, entry: JournalEntry, now: float) -> None:
        self._left = min(float(BURST), self._left + (now - self._at) * LINES_A_SECOND)
        self._at = now
        if self._left < 1.0:
            self._silenced += 1
            return
        self._left -= 1.0
        facts = facts_of(entry)
        if self._silenced:
            facts["left_out"] = self._silenced
        more = f" ({self._silenced:,} lines before this one left out)" if self._silenced else ""
        self._silenced = 0
        self._say(words_of(entry) + more, **facts)
