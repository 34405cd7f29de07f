"""What goes into durable calls that are led here: the results of other durable calls, asked of their primaries.

Decides what the result of a call is to those that it goes into: a value, a failure, a cancellation or a loss.
The primary of the call that waits reads the other one as a program would, so it finds it again when its primary
dies. It collects nothing: a result that is asked for stays where it is (primary.py, retention.py). Decides
how long a call that nobody knows is looked for. Refuses to know which items wait for it (call_edges.py).

A failure goes on as it is, with the name of the call that had it first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from stealmesh_engine import effects as fx
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.config import Config
from stealmesh_engine.durable.client import DurableClient, FollowedJob, Word
from stealmesh_engine.events import AttachJob, FetchResults
from stealmesh_engine.links.links import Links
from stealmesh_protocol.errors import RemoteProtocolError
from stealmesh_protocol.given import Result
from stealmesh_protocol.ids import JobId, PeerId, short_form
from stealmesh_protocol.messages import Fetch, Fetched, Here, JobKind, Seek
from stealmesh_protocol.values import (
    OUTCOMES,
    STOPPED,
    VALUE_LOST,
    Failure,
    failures_of,
    good_in,
    pack_outcomes,
    with_failures,
)

PATIENCE = 4.0
"""How many times longer than a program looks for a job, a call that goes into others is looked for: what ends
them is final, and machines may come back late."""
ASKED_AGAIN_SECONDS = 10.0
"""How often the primary of a call is told that its result, which is here, is needed."""
ROOM_SHARE = 0.25
"""Of `keep_octets_max`: what a primary has of results that go into calls which wait for others as well."""
USED_SECONDS = 60.0
"""How long a result stays where it is after it was asked for. The election of a primary takes less."""
NOT_THEIRS = "it was launched with another token, or with the mesh key"


@dataclass(frozen=True, slots=True)
class NoResult:
    """A call has no result that could go into others, and they end with this outcome."""

    codec: int
    blob: bytes
    cancelled: bool = False
    """Its program has cancelled it."""


def no_result(kind: str, text: str, *, cancelled: bool = False) -> NoResult:
    return NoResult(*pack_outcomes(None, [Failure(0, kind, text=text)]), cancelled)


class InputUser(Protocol):
    """A job that calls go into (call_edges.py)."""

    guest: str
    """The token with which it was launched."""

    def needs(self, call: JobId) -> bool:
        """Does it wait for this?"""

    def beside(self, call: JobId) -> list[list[JobId]]:
        """The calls beside this one, of each item that it goes into and that no holder has."""

    def told(self, call: JobId, failed: NoResult | None, now: float) -> None:
        """The call is over. None: its result is there."""


class InputReader(DurableClient):
    """Reads the results of calls, and collects none."""

    def __init__(self, config: Config, links: Links, counters: Counters) -> None:
        patience = PATIENCE * config.primary_patience_seconds
        super().__init__(replace(config, primary_patience_seconds=patience), links, counters)
        self.guests: dict[JobId, str] = {}
        """The token with which each was launched."""

    def read(self, job: JobId, now: float) -> None:
        self.attach(AttachJob(job), now)
        self.fetch(FetchResults(job, 0), now)

    def leave_off(self, job: JobId) -> None:
        """It goes into nothing here any more. Its primary need not hear of it."""
        self.jobs.pop(job, None)
        self.guests.pop(job, None)

    def fetched(self, primary: PeerId, message: Fetched, now: float) -> Word | None:
        if message.job in self.jobs:
            self.guests[message.job] = message.guest
        return super().fetched(primary, message, now)

    def _ask(self, job: JobId, mine: FollowedJob, now: float) -> None:
        if mine.primary is not None:
            mine.asked_since = now if mine.asked_since is None else mine.asked_since
            self.links.send(mine.primary, Fetch(job, 0, mine.want, into=True), now)

    def _seek(self, job: JobId, now: float) -> None:
        self.links.send(self.links.view.me.id, Seek(job), now)
        super()._seek(job, now)


@dataclass(slots=True)
class _Call:
    """A call whose result goes into others."""

    users: dict[InputUser, None] = field(default_factory=dict)
    """The jobs led here that it goes into."""
    failed: NoResult | None = None
    asked_at: float = -1e9
    is_late: bool = False
    """It has a result, for which there was no room: it comes when all else is there that goes into a user's item."""


class Inputs:
    """All calls whose results go into jobs that are led here."""

    def __init__(self, config: Config, links: Links, counters: Counters) -> None:
        self.reader = InputReader(config, links, counters)
        self.results: dict[JobId, Result] = {}
        """Those that are there."""
        self._room = int(ROOM_SHARE * config.keep_octets_max)
        self.octets = 0
        """Of the results."""
        self._urgent: dict[JobId, None] = {}
        """Late ones that are on their way, with or without room."""
        self._calls: dict[JobId, _Call] = {}
        self._new: dict[JobId, None] = {}
        """Those that nobody has been asked for yet."""
        self._over: dict[JobId, None] = {}
        """Those that have something to tell their users."""
        self._look: dict[JobId, None] = {}
        """Late ones that more items wait for than before."""

    # ------------------------------------------------------------ what primaries need

    def need(self, call: JobId, user: InputUser) -> None:
        known = self._calls.get(call)
        if known is None:
            known = self._calls[call] = _Call()
            self._new[call] = None
        known.users[user] = None
        if call in self.results or known.failed is not None:
            self._over[call] = None
        if known.is_late:
            self._look[call] = None

    def need_no_more(self, call: JobId, user: InputUser) -> None:
        known = self._calls[call]
        del known.users[user]
        if known.users:
            self._drop_for_room(call, known)
        else:
            del self._calls[call]
            result = self.results.pop(call, None)
            self.octets -= 0 if result is None else len(result.blob)
            self._urgent.pop(call, None)
            self._new.pop(call, None)
            self._over.pop(call, None)
            self._look.pop(call, None)
            self.reader.leave_off(call)

    def has(self, call: JobId, guest: str) -> bool:
        """Is its result here, for jobs that were launched with this token?"""
        return call in self.results and (not guest or self.reader.guests.get(call) == guest)

    @property
    def is_empty(self) -> bool:
        return not (self._calls or self.results or self.reader.jobs)

    @property
    def has_news(self) -> bool:
        return bool(self._new or self._over or self._look)

    def settle(self, now: float) -> None:
        """Ask for what is new, and tell primaries what is over."""
        while self._new:
            call, _ = self._new.popitem()
            self._calls[call].asked_at = now
            self.reader.read(call, now)
        while self._look:
            call, _ = self._look.popitem()
            self._fetch_late(call, self._calls[call], now)
        while self._over:
            call, _ = self._over.popitem()
            known = self._calls[call]
            for user in list(known.users):
                failed = known.failed
                if failed is None and user.guest and self.reader.guests.get(call) != user.guest:
                    failed = no_result(VALUE_LOST, f"durable call {short_form(call)}: {NOT_THEIRS}")
                user.told(call, failed, now)

    # ------------------------------------------------------------ what primaries say

    def fetched(self, primary: PeerId, message: Fetched, now: float) -> None:
        self._hear(self.reader.fetched(primary, message, now), now)

    def here(self, peer: PeerId, message: Here, now: float) -> None:
        self._hear(self.reader.here(peer, message, now), now)

    def beat(self, now: float) -> None:
        for call in self.reader.due():
            known = self._calls[call]
            if call not in self.results or now - known.asked_at >= ASKED_AGAIN_SECONDS:
                known.asked_at = now
                self._hear(self.reader.beat(call, now), now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        self.reader.peer_gone(peer, now)

    def _hear(self, word: Word | None, now: float) -> None:
        if word is None or word.job not in self._calls:
            return
        known = self._calls[word.job]
        if word.job in self.results or known.failed is not None:
            return  # what it goes into has it, or has ended with it
        found: Result | NoResult | None
        if isinstance(word, fx.JobGone):
            found = no_result(
                VALUE_LOST, f"durable call {short_form(word.job)} is gone: {word.why}"
            )
        else:
            assert isinstance(word, fx.Results)
            found = _said_by(word)
        if isinstance(found, Result):
            self._came(word.job, known, found, now)
        elif found is not None:
            known.failed = found
            self._over[word.job] = None

    # ------------------------------------------------------------ room

    def _came(self, call: JobId, known: _Call, result: Result, now: float) -> None:
        """Keep it if there is room, or if all else is there that goes into some item, or comes at once."""
        ripe = self._fetch_late(call, known, now)
        if not ripe and call not in self._urgent and self.octets + len(result.blob) > self._room:
            known.is_late = True
            return
        known.is_late = False
        self._urgent.pop(call, None)
        self.results[call] = result
        self.octets += len(result.blob)
        self._over[call] = None

    def _fetch_late(self, call: JobId, known: _Call, now: float) -> bool:
        """Is all else over that goes into an item with this? Then have come what is late of it."""
        ripe = [
            calls for user in known.users for calls in user.beside(call) if self._are_over(calls)
        ]
        for each in [each for calls in ripe for each in (call, *calls)]:
            if self._calls[each].is_late and each not in self._urgent:
                self._urgent[each] = None
                self.reader.fetch(FetchResults(each, 0), now)
        return bool(ripe)

    def _drop_for_room(self, call: JobId, known: _Call) -> None:
        """It was needed by one that has it now, and there is no room for it."""
        needed = any(self._are_over(calls) for user in known.users for calls in user.beside(call))
        if self.octets > self._room and call in self.results and not needed:
            self.octets -= len(self.results.pop(call).blob)
            known.is_late = True
            self._over.pop(call, None)

    def _are_over(self, calls: list[JobId]) -> bool:
        return all(each in self.results or self._calls[each].is_late for each in calls)

    def audit(self) -> None:
        for call, known in self._calls.items():
            assert known.users, "a call goes into nothing"
            for user in known.users:
                assert user.needs(call), "a call is asked for and goes into nothing"
        assert self.results.keys() <= self._calls.keys()
        assert self.octets == sum(len(each.blob) for each in self.results.values())
        assert self.reader.jobs.keys() <= self._calls.keys()


def _said_by(word: fx.Results) -> Result | NoResult | None:
    """What the primary's word means to those that the call goes into. None: it is not over."""
    line = word.line
    named = f"durable call {line.name} ({short_form(word.job)})"
    if line.kind is not JobKind.SUBMIT:
        return no_result(VALUE_LOST, f"{named} is no single call, so its result goes into no other")
    if line.state == "cancelled":
        return no_result(STOPPED, f"{named}, which goes into this, was cancelled", cancelled=True)
    if word.results:
        part, blob = word.results[0].part, word.blobs[0]
        result = good_in(part.codec, blob, 0)
        if result is not None:
            return result
        return _passed_on(part.codec, blob, named)
    if word.missing or line.state in ("lost", "expired"):
        return no_result(VALUE_LOST, f"the result of {named}, which goes into this, is lost")
    return None


def _passed_on(codec: int, blob: bytes, named: str) -> NoResult:
    """This failure as that of what waited for it."""
    try:
        failures = failures_of(blob) if codec == OUTCOMES else []
    except RemoteProtocolError:
        failures = []
    if not failures:
        return no_result(VALUE_LOST, f"the result of {named}, which goes into this, cannot be read")
    failures[0].of = failures[0].of or named
    return NoResult(OUTCOMES, with_failures(blob, failures[:1]))
