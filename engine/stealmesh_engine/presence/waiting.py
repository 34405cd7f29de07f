"""A program whose work waits because no node can be reached: when that is worth a word.

Decides when to tell the program, once when it begins and once when it is over; with every beat, and for
next to nothing as long as there is a node to talk to. Refuses to know how it is told: the work waits, and
goes on by itself, even if no one reads the word.

Two seconds: a node that is started again, or a link that is dialled again, is back before that, and
a person who has waited for longer wonders.
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.durable.client import DurableClient
from stealmesh_engine.effects import WaitsForNodes, WorksAgain
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links.links import Links
from stealmesh_protocol.messages import Role

TELL_AFTER_SECONDS = 2.0
ENDPOINTS_NAMED_MAX = 4


class Waiting:
    def __init__(
        self, context: Context, links: Links, owner: Owner, durable: DurableClient
    ) -> None:
        self.links = links
        self.owner = owner
        self.durable = durable
        self.effects = context.effects
        self._since: float | None = None
        """Since when there has been work and no node."""
        self._told = False

    def beat(self, now: float) -> None:
        if self.links.has_company:
            if self._told and self._since is not None:
                self.effects.append(WorksAgain(now - self._since))
            self._since, self._told = None, False
        elif self._told or self.links.view.me.role is not Role.CLIENT:
            return
        else:
            items = self._items()
            if not items and not self.durable.waits:
                self._since = None
            elif self._since is None:
                self._since = now
            elif now - self._since >= TELL_AFTER_SECONDS:
                self._told = True
                self.effects.append(WaitsForNodes(now - self._since, items, self._endpoints()))

    def _items(self) -> int:
        figures = (job.ledger.figures() for job in self.owner.jobs.values())
        return sum(each.total - each.done for each in figures)

    def _endpoints(self) -> list[str]:
        """Where nodes are looked for: the addresses that we were given, then where some lived."""
        given = [each for each, seed in self.links.seeds.items() if not seed.once]
        lived = [
            next((each for each in member.endpoints if each.startswith("tcp://")), "")
            for member in self.links.view.members.values()
            if member.role is not Role.CLIENT
        ]
        return list(dict.fromkeys([*given, *filter(None, lived)]))[:ENDPOINTS_NAMED_MAX]
