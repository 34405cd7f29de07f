"""Guests: peers that came with a token instead of the mesh key. What they may say, and how long they may stay.

Decides whether the speaker of a HELLO may have the id that it names; whether the pass of a HELLO is genuine, belongs
to the speaker, has expired or was revoked; whether a guest
may say a message about this job or value; and when a guest has to go. Keeps the names of revoked tokens, and tells
them to other nodes. Refuses to know CURVE: the host says with which key a link came (`CameBy`). Who may collect
and cancel a durable job is for its primary to say (durable/requests.py), with the name that it learns here.

The record of revoked names is a set that only grows, up to BARRED_MAX; beyond that the first in alphabetical order
stay. So records merge in any order, and two peers that have heard the same keep the same.

Clocks differ: a token counts until CLOCKS_DIFFER_SECONDS after its date, by the clock of each node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.rude import Rude, unless
from stealmesh_engine.effects import KeepBarred
from stealmesh_engine.events import CameBy, LinkId
from stealmesh_engine.links.state import GuestPass, Happened, LinkTable
from stealmesh_protocol.ids import PeerId, ValueId, owner_of
from stealmesh_protocol.key_roles import MAY_SAY
from stealmesh_protocol.limits import BARRED_MAX
from stealmesh_protocol.messages import (
    Barred,
    Beat,
    Grant,
    Hello,
    JobSpec,
    Message,
    Refused,
    Role,
    View,
)
from stealmesh_protocol.passes import KeyRole, PassSecrets, barred, may_be, proved

CLOCKS_DIFFER_SECONDS = 300.0
"""How long after its date a token still counts."""

_ABOUT_OWN_VALUES = frozenset(
    {"ValueSeek", "ValueAt", "ValueGet", "ValuePut", "ValueHeld", "ValueDrop"}
)
_ABOUT_OWN_JOBS = frozenset({"Revoked", "Withdraw", "Closed", "Supply", "Hire", "Dismiss"})


def _needed(message: Message) -> Iterator[ValueId]:
    """The values that work in this message is made from."""
    spec: JobSpec | None = getattr(message, "spec", None)
    if spec is not None:
        yield from spec.needs
    for block in getattr(message, "blocks", ()):
        yield from block.needs


class Guests:
    """All guests of this node, and the names that count no more."""

    def __init__(
        self,
        context: Context,
        table: LinkTable,
        secrets: PassSecrets,
        wall_offset: float,
        send: Callable[[PeerId, Message, float], bool],
    ) -> None:
        self._counters = context.counters
        self._effects = context.effects
        self._table = table
        self._secrets = secrets
        """Those with which passes may be sealed: of the mesh key, and of the one before it."""
        self._marks = frozenset(mark for mark, _ in secrets)
        self._wall_offset = wall_offset
        self._send = send
        self.barred: frozenset[str] = frozenset()
        self._came_by: dict[LinkId, CameBy] = {}
        """Links that were made with another key than the mesh key of today."""
        self._names: dict[PeerId, str] = {}
        """Guests that have introduced themselves → the name of their token."""

    # ------------------------------------------------------------ who comes

    def came(self, event: CameBy) -> Happened:
        """The host knows with which key this link was made, and it was not the mesh key."""
        self._came_by[event.link] = event
        return Happened()

    def gone(self, link: LinkId) -> None:
        self._came_by.pop(link, None)

    def name_of(self, peer: PeerId) -> str:
        """The name of this peer's token; empty: it holds the mesh key."""
        return self._names.get(peer, "")

    def introduced(self, link: LinkId, hello: Hello, now: float) -> GuestPass | Refused | None:
        """Who says this HELLO: a guest, one that is refused, or a holder of the mesh key (None)."""
        by = self._came_by.get(link)
        if by is None or by.role is KeyRole.PEER:
            sender = hello.sender.id
            if sender in self._names or not may_be(sender, hello.proof):
                return Refused("duplicate", "this is the id of another process")
            guest = None if by is None else GuestPass(by.role, "", by.until)
            return guest and (self._overdue(guest, now) or guest)
        found = proved(hello.proof, self._secrets, hello.sender.id)
        if found is None or found[0].role is not by.role:
            return Refused(
                "key", "this token was not made with the key of this mesh, or is another's"
            )
        if hello.sender.role is not Role.CLIENT or hello.sender.endpoints:
            return Refused("role", f"a {by.role.name.lower()} token cannot be a node")
        told, mark = found
        guest = GuestPass(told.role, told.name, told.expires, barred(told.name, mark))
        if (refusal := self._overdue(guest, now)) is not None:
            return refusal
        if hello.to:
            self._names[hello.sender.id] = guest.name
        return guest

    def _overdue(self, guest: GuestPass, now: float) -> Refused | None:
        """Why this guest may not stay."""
        if guest.entry in self.barred:
            return Refused("revoked", f"the token {guest.name!r} was revoked")
        if guest.expires and now + self._wall_offset > guest.expires + CLOCKS_DIFFER_SECONDS:
            what = f"the token {guest.name!r}" if guest.name else "the mesh key before this one"
            return Refused("expired", f"{what} has expired")
        return None

    def overdue(self, now: float) -> list[tuple[LinkId, Refused]]:
        """Links whose guests have to go."""
        found = []
        for link in self._came_by:
            line = self._table.lines.get(link)
            if line is not None and line.guest is not None:
                refusal = self._overdue(line.guest, now)
                if refusal is not None:
                    found.append((link, refusal))
        return found

    def forget(self, peer: PeerId) -> None:
        self._names.pop(peer, None)

    # ------------------------------------------------------------ what they say

    def heard(self, guest: GuestPass, peer: PeerId, message: Message) -> Message | None:
        """What this message of a guest is to us; None: it may not say it."""
        try:
            return self._allowed(guest, peer, message)
        except Rude as rude:
            self._counters.count("rude-" + rude.reason)
            return None

    def _allowed(self, guest: GuestPass, peer: PeerId, message: Message) -> Message:
        unless(message.TAG in MAY_SAY[guest.role], "key-role")
        if guest.role is KeyRole.PEER:
            return message
        kind = type(message).__name__
        # A node would fetch them for it, from their owner.
        unless(all(owner_of(value) == peer for value in _needed(message)), "guest-not-its-value")
        if isinstance(message, View):
            return self._own_record(peer, message)
        if isinstance(message, Beat):
            nothing = not (message.loads or message.told or message.queued_seconds)
            unless(nothing, "guest-holds-leases")
            jobs = message.jobs if guest.role is KeyRole.SUBMIT else []
            unless(all(owner_of(line.job) == peer for line in message.jobs), "guest-not-its-job")
            unless(len(jobs) == len(message.jobs), "key-role")
        elif isinstance(message, Grant):
            unless(not message.spec.term, "guest-leads")
        elif kind in _ABOUT_OWN_JOBS:
            unless(owner_of(message.job) == peer, "guest-not-its-job")  # type: ignore[attr-defined]
        elif kind in _ABOUT_OWN_VALUES:
            unless(owner_of(message.value) == peer, "guest-not-its-value")  # type: ignore[attr-defined]
        return message

    def _own_record(self, peer: PeerId, view: View) -> View:
        """A guest speaks of itself alone. An honest one may repeat what nodes have told it."""
        own = [record for record in view.members if record.id == peer]
        for record in own:
            unless(record.role is Role.CLIENT and not record.endpoints, "guest-as-node")
        if len(own) < len(view.members):
            self._counters.count("guests-records-dropped", len(view.members) - len(own))
        return View(own)

    def facts(self) -> dict[str, list[str]]:
        """For `status`."""
        if not self.barred:
            return {}
        return {"revoked": sorted({name.rpartition("@")[0] for name in self.barred})}

    # ------------------------------------------------------------ revoked names

    def heard_barred(self, peer: PeerId, message: Barred, now: float) -> None:
        self.bar(message.names, now, peer)

    def bar(self, names: Iterable[str], now: float, source: PeerId = b"") -> Happened:
        """These tokens count no more. Those that were made with a key that no node takes any more need no record."""
        before = self.barred
        every = before.union(
            name for name in names if not self._marks or name.rpartition("@")[2] in self._marks
        )
        if every == before:
            return Happened()
        if len(every) > BARRED_MAX:
            self._counters.count("revocations-beyond-bound", len(every) - BARRED_MAX)
            every = frozenset(sorted(every)[:BARRED_MAX])
        self.barred = every
        if every == before:
            return Happened()
        self._effects.append(KeepBarred(sorted(every)))
        for peer_id, peer in list(self._table.ready()):
            if peer_id != source and peer.member.role is not Role.CLIENT:
                self._send(peer_id, Barred(sorted(every)), now)
        return Happened()

    def met(self, peer_id: PeerId, now: float) -> None:
        """There is a link with this node: it learns what we know."""
        peer = self._table.peers.get(peer_id)
        if self.barred and peer is not None and peer.member.role is not Role.CLIENT:
            self._send(peer_id, Barred(sorted(self.barred)), now)
