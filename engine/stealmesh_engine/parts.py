"""All parts of one peer, each made with those below it that it works with.

Decides nothing. What the parts do, and in which order, is the matter of core.py and consequences.py; status.py
shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.base.rings import Rings
from stealmesh_engine.config import Config
from stealmesh_engine.data.values import Values
from stealmesh_engine.durable.door import DurableDoor
from stealmesh_engine.effects import Effect
from stealmesh_engine.holding.holder import Holder
from stealmesh_engine.journals.journals import Journals
from stealmesh_engine.ledger.jobs_around import JobsAround
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.membership.membership import Membership
from stealmesh_engine.presence.heartbeats import Heartbeats
from stealmesh_engine.presence.leaving import Leaving
from stealmesh_engine.presence.waiting import Waiting
from stealmesh_engine.stealing.thief import Thief
from stealmesh_engine.stealing.victim import Victim
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_engine.view.runtimes import Runtimes
from stealmesh_protocol.messages import Member
from stealmesh_protocol.passes import TokenSecrets


class Parts:
    """What a peer is made of. The arguments: see `NodeCore`."""

    def __init__(
        self,
        me: Member,
        config: Config,
        rng: Random,
        mesh: bytes,
        runtime: str,
        wall_offset: float,
        submitter: str,
        threads: int,
        tokens: TokenSecrets,
    ) -> None:
        self.config = config
        self.rng = rng
        self.counters = Counters()
        """Everything refused, dropped or wasted, by reason."""
        self.effects: list[Effect] = []
        self.journal = Journal(config.story_lines_max, Rings.of(config, self.effects))
        self.view = MembershipView(me)
        self.detector = Detector(config.refute_seconds)
        context = self.context = Context(config, self.effects, self.counters, self.journal, rng)
        self.links = Links(context, self.view, mesh, runtime, tokens, wall_offset)
        self.owner = Owner(context, self.links, wall_offset=wall_offset, submitter=submitter)
        self.values = Values(context, self.links, self.view, self.owner.staying)
        self.owner.candidates.ask_about_values(self.values.directory)
        self.holder = Holder(context, self.links, self.values, threads)
        self.dispatcher = self.holder.dispatcher
        self.reports, self.answers = self.holder.reports, self.holder.answers
        self.hires, self.hired_out = self.owner.hires, self.holder.hired_out
        self.thief = Thief(context, self.links, self.dispatcher)
        self.victim = Victim(context, self.links, self.detector, self.holder, self.thief)
        self.durable = DurableDoor(self.owner, self.holder)
        self.membership = Membership(context, self.links, self.detector)
        self.waiting = Waiting(context, self.links, self.owner, self.durable.client)
        self.heartbeats = Heartbeats(context, self.links, self.owner, self.holder, self.membership)
        self.leaving = Leaving(
            context, self.links, self.owner, self.holder, self.membership.supernodes
        )
        self.around = JobsAround(self.counters)
        self.journals = Journals(context, self.view, self.links, wall_offset)
        self.runtimes = Runtimes(self.effects)
        self.host_facts: Callable[[], dict[str, Any]] = dict
        """Asked for what only the host knows and `status` shows."""

    @property
    def me(self) -> Member:
        return self.view.me
