"""What goes into durable calls that are led here: the results of other durable calls, asked of their homes.

Decides what the result of a call is to those that it goes into: a value, a failure, a cancellation or a loss.
The primary of the call that waits reads the other one as a program would, so it finds it again when its home
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
from stealmesh_protocol.ids import JobId, PeerId
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
"""So many times longer than a program looks for a job, a call that goes into others is looked for: what ends
them is final, and machines may come back late."""
ASKED_AGAIN_SECONDS = 10.0
"""How often the home of a call is told that its result, which is here, is needed."""
USED_SECONDS = 60.0
"""So long after it was asked for, a result stays where it is. The election of a primary takes less."""
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


def name_of(call: JobId) -> str:
    """The short form of its id that commands show, and that `attach` takes."""
    return f"{call.hex()[:8]}..{call.hex()[-4:]}"


class InputUser(Protocol):
    """A job that calls go into (call_edges.py)."""

    guest: str
    """The token with which it was launched."""

    def needs(self, call: JobId) -> bool:
        """Does it wait for this?"""

    def told(self, call: JobId, failed: NoResult | None, now: float) -> None:
        """The call is over. None: its result is there."""


class InputReader(DurableClient):
    """Reads the results of calls, and collects none."""

    def __init__(self, config: Config, links: Links, counters: Counters) -> None:
        patience = PATIENCE * config.home_patience_seconds
        super().__init__(replace(config, home_patience_seconds=patience), links, counters)
        self.guests: dict[JobId, str] = {}
        """The token with which each was launched."""

    def read(self, job: JobId, now: float) -> None:
        self.attach(AttachJob(job), now)
        self.fetch(FetchResults(job, 0), now)

    def leave_off(self, job: JobId) -> None:
        """It goes into nothing here any more. Its home need not hear of it."""
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


class Inputs:
    """All calls whose results go into jobs that are led here."""

    def __init__(self, config: Config, links: Links, counters: Counters) -> None:
        self.reader = InputReader(config, links, counters)
        self.results: dict[JobId, Result] = {}
        """Those that are there."""
        self._calls: dict[JobId, _Call] = {}
        self._new: dict[JobId, None] = {}
        """Those that nobody has been asked for yet."""
        self._over: dict[JobId, None] = {}
        """Those that have something to tell their users."""

    # ------------------------------------------------------------ what primaries need

    def need(self, call: JobId, user: InputUser) -> None:
        known = self._calls.get(call)
        if known is None:
            known = self._calls[call] = _Call()
            self._new[call] = None
        known.users[user] = None
        if call in self.results or known.failed is not None:
            self._over[call] = None

    def need_no_more(self, call: JobId, user: InputUser) -> None:
        known = self._calls[call]
        del known.users[user]
        if not known.users:
            del self._calls[call]
            self.results.pop(call, None)
            self._new.pop(call, None)
            self._over.pop(call, None)
            self.reader.leave_off(call)

    @property
    def is_empty(self) -> bool:
        return not (self._calls or self.results or self.reader.jobs)

    @property
    def has_news(self) -> bool:
        return bool(self._new or self._over)

    def settle(self, now: float) -> None:
        """Ask for what is new, and tell primaries what is over."""
        while self._new:
            call, _ = self._new.popitem()
            self._calls[call].asked_at = now
            self.reader.read(call, now)
        while self._over:
            call, _ = self._over.popitem()
            known = self._calls[call]
            for user in list(known.users):
                failed = known.failed
                if failed is None and user.guest and self.reader.guests.get(call) != user.guest:
                    failed = no_result(VALUE_LOST, f"durable call {name_of(call)}: {NOT_THEIRS}")
                user.told(call, failed, now)

    # ------------------------------------------------------------ what homes say

    def fetched(self, primary: PeerId, message: Fetched, now: float) -> None:
        self._hear(self.reader.fetched(primary, message, now))

    def here(self, peer: PeerId, message: Here, now: float) -> None:
        self._hear(self.reader.here(peer, message, now))

    def beat(self, now: float) -> None:
        for call in self.reader.due():
            known = self._calls[call]
            if call not in self.results or now - known.asked_at >= ASKED_AGAIN_SECONDS:
                known.asked_at = now
                self._hear(self.reader.beat(call, now))

    def peer_gone(self, peer: PeerId, now: float) -> None:
        self.reader.peer_gone(peer, now)

    def _hear(self, word: Word | None) -> None:
        if word is None or word.job not in self._calls:
            return
        known = self._calls[word.job]
        if word.job in self.results or known.failed is not None:
            return  # what it goes into has it, or has ended with it
        found: Result | NoResult | None
        if isinstance(word, fx.JobGone):
            found = no_result(VALUE_LOST, f"durable call {name_of(word.job)} is gone: {word.why}")
        else:
            assert isinstance(word, fx.Results)
            found = _said_by(word)
        if isinstance(found, Result):
            self.results[word.job] = found
        elif found is not None:
            known.failed = found
        if found is not None:
            self._over[word.job] = None

    def audit(self) -> None:
        for call, known in self._calls.items():
            assert known.users, "a call goes into nothing"
            for user in known.users:
                assert user.needs(call), "a call is asked for and goes into nothing"
        assert self.results.keys() <= self._calls.keys()
        assert self.reader.jobs.keys() <= self._calls.keys()


def _said_by(word: fx.Results) -> Result | NoResult | None:
    """What the home's word means to those that the call goes into. None: it is not over."""
    line = word.line
    named = f"durable call {line.name} ({name_of(word.job)})"
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
