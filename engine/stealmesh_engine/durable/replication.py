"""What a primary tells the other replicas of its job, which of them count, and what is safe.

Decides when something is safe: it is on our own disk and on one other replica (or on ours alone, if there
is no other). Only then may its holder forget the result and its client rely on it. Decides which nodes
keep the job. Refuses to know what the job's items are and how they are leased (primary.py).

Everything new goes out as one numbered KEEP to each replica, which answers with the number (KEPT_UPTO).
A configuration names only replicas that have everything so far.

Ideas: primary and backups after Viewstamped Replication, but with a state that is joined, so that a
change of the primary needs no agreement on a log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.base.rendezvous import ranked
from stealmesh_engine.config import Config
from stealmesh_engine.durable.replica import Added, Entry, Replica
from stealmesh_engine.links.links import Links
from stealmesh_protocol.ids import JobId, PeerId
from stealmesh_protocol.messages import Accepted, JobKind, Keep, Part, Reign, Settled

REPLICA_PATIENCE = 2.0
"""A replica is replaced after this many times the detection of a death without an acknowledgement."""
SKIPPED_SECONDS = 10.0
"""How long a node that was replaced is not chosen again."""


@dataclass(slots=True)
class Stream:
    """What one other replica has been told and has acknowledged."""

    since: int
    """The replica is whole once it has acknowledged this number."""
    acked: int = -1
    waits_since: float | None = None
    """Since when something is not acknowledged."""
    store: bytes = b""

    @property
    def is_whole(self) -> bool:
        return self.acked >= self.since


_Sent = tuple[int, list[tuple[int, int]], list[tuple[PeerId, tuple[int, int]]]]
"""A number, the items credited with it, and the holders to tell once it is safe: (holder, items)."""


class Replication:
    """The replicas of one job, as its primary sees them."""

    def __init__(
        self, config: Config, links: Links, replica: Replica, store: bytes, news: dict[JobId, None]
    ) -> None:
        self.config = config
        self.links = links
        self.replica = replica
        self.store = store
        self.streams: dict[PeerId, Stream] = {}
        self.number = 0
        self.written = 0
        """Our own disk has everything up to this number."""
        self.settled = 0
        """Everything up to this number is safe."""
        self.unsettled = IntervalSet()
        """Items with a result that is not safe yet."""
        self._news = news
        """Jobs with something to tell the replicas, or with something that may have become safe."""
        self._unsent = Added()
        self._notices: list[tuple[PeerId, tuple[int, int]]] = []
        self._accepts: dict[PeerId, None] = {}
        self._inherited: list[tuple[int, int]] = []
        """Items that we had when we took over; which other replicas have them is unknown."""
        self._pending: deque[_Sent] = deque()
        self._waiting: list[tuple[int, PeerId, Accepted]] = []
        """Clients to tell what is accepted, and from which number on it is safe."""
        self._skipped: dict[PeerId, float] = {}

    # ------------------------------------------------------------ what is new

    def _note(self) -> None:
        self._news[self.replica.spec.job] = None

    def enter(self, results: list[Entry]) -> None:
        self._unsent.results += results
        for kept, _ in results:
            self.unsettled.add(kept.lo, kept.hi)
        self._note()

    def add(self, added: Added) -> None:
        self.enter(added.results)
        self._unsent.blocks += added.blocks
        self._unsent.functions += added.functions
        self._unsent.header |= added.header

    def inherit(self) -> None:
        """Results that came with the replica count as safe only once others have them under us."""
        self._inherited = list(self.replica.covered)
        self.unsettled = self.replica.covered.copy()

    def owe(self, holder: PeerId, part: Part) -> None:
        """Tell this holder once its result is safe (or superseded)."""
        self._notices.append((holder, (part.lo, part.hi)))
        self._note()

    def refill(self, now: float) -> None:
        """Our account is another one: all replicas get it anew, and nothing of it is known to be safe."""
        self.inherit()
        self.announce()
        for peer in list(self.streams):
            self.open_stream(peer, None, now)

    def accept(self, client: PeerId) -> None:
        """Tell this client once all that was said so far is safe."""
        self._accepts[client] = None
        self._note()

    def announce(self) -> None:
        """Number what there is, though nothing is new: what is safe counts from here on."""
        self._unsent.header = True
        self._note()

    # ------------------------------------------------------------ telling and settling

    def flush(self, now: float) -> Keep | None:
        """Send everything new to the replicas as one numbered message; returns it for our own log."""
        self._news.pop(self.replica.spec.job, None)
        if not (self._unsent or self._notices or self._accepts):
            return None
        self.number += 1
        unsent, self._unsent = self._unsent, Added()
        keep = self.replica.header(self.number)
        for block, blob in unsent.blocks:
            keep.blocks.append(block)
            keep.blobs.append(blob)
        for kept, blob in unsent.results:
            keep.results.append(kept)
            keep.blobs.append(blob)
        keep.blobs += unsent.functions
        self.replica.stamp(keep)
        for peer, stream in self.streams.items():
            self.links.send(peer, keep, now)
            if stream.waits_since is None:
                stream.waits_since = now
        notices, self._notices = self._notices, []
        credited = [*self._inherited, *((kept.lo, kept.hi) for kept, _ in unsent.results)]
        self._inherited = []
        self._pending.append((self.number, credited, notices))
        # This says what will be safe with this number, and nothing that comes later.
        word = Accepted(keep.spec.job, keep.total, keep.closed)
        self._waiting += [(self.number, client, word) for client in self._accepts]
        self._accepts.clear()
        return keep

    def on_disk(self, number: int) -> Callable[[float], None]:
        """What to do once our own log has this number."""

        def on_disk(now: float) -> None:
            self.written = max(self.written, number)
            self._note()

        return on_disk

    def settle(self, now: float) -> bool:
        """Tell holders what has become safe. True if something has."""
        me = self.links.view.me.id
        peers = [peer for _, peer in self.replica.configuration.seats if peer != me]
        acked = [self.streams[peer].acked for peer in peers if peer in self.streams]
        if self.streams and not acked:
            return False  # all other replicas of the configuration are gone, and none is whole yet
        upto = min(self.written, max(acked)) if acked else self.written
        if upto <= self.settled:
            return False
        self.settled = upto
        told: dict[PeerId, list[tuple[int, int]]] = {}
        while self._pending and self._pending[0][0] <= upto:
            _, credited, notices = self._pending.popleft()
            for lo, hi in credited:
                self.unsettled.remove(lo, hi)
            for holder, interval in notices:
                told.setdefault(holder, []).append(interval)
        for holder, intervals in told.items():
            spec = self.replica.spec
            self.links.send(holder, Settled(spec.job, intervals, spec.count), now)
        return True

    def tell_clients(self, now: float) -> None:
        """Tell clients that the job, or more of it, is accepted."""
        ready = {client: word for number, client, word in self._waiting if number <= self.settled}
        self._waiting = [each for each in self._waiting if each[0] > self.settled]
        for client, word in ready.items():
            self.links.send(client, word, now)

    @property
    def safe(self) -> IntervalSet:
        """Items with a result that two replicas hold."""
        return self.replica.covered.minus(self.unsettled)

    # ------------------------------------------------------------ which nodes keep the job

    def start(self, peers: list[PeerId], now: float) -> None:
        """The job begins, and these peers keep it from its first message on."""
        for peer in peers:
            self.streams[peer] = Stream(1, waits_since=now)
        me = self.links.view.me.id
        self._reconfigure([(self.store, me), *((b"", peer) for peer in peers)])

    def kept_upto(self, peer: PeerId, number: int, store: bytes, now: float) -> None:
        """A replica has everything up to this number."""
        stream = self.streams.get(peer)
        if stream is None or number > self.number:
            return
        stream.acked = max(stream.acked, number)
        stream.waits_since = None if stream.acked == self.number else now
        stream.store = store
        if stream.is_whole and (store, peer) not in self.replica.configuration.seats:
            self.reconfigure()
        self._note()

    def lost(self, peer: PeerId) -> None:
        """The peer is gone, or has forgotten us: its replica does not count."""
        if self.streams.pop(peer, None) is not None:
            self.reconfigure()

    def reconfigure(self) -> None:
        """Let the whole replicas be the configuration.

        While all others are still being filled, the configuration stays: what was safe with the replicas
        of before is safe with no others."""
        whole = [(each.store, peer) for peer, each in self.streams.items() if each.is_whole]
        if whole or not self.streams:
            self._reconfigure([(self.store, self.links.view.me.id), *whole])

    def _reconfigure(self, replicas: list[tuple[bytes, PeerId]]) -> None:
        now = self.replica.configuration
        self.replica.reconfigure(Reign(now.term, now.version + 1, now.primary, replicas))
        self.announce()

    def choose(self, now: float) -> list[PeerId]:
        """Nodes that are to keep the job, too, so that there are enough; on other hosts if possible."""
        missing = self.config.replicas - 1 - len(self.streams)
        if missing <= 0:
            return []
        view = self.links.view
        taken = {view.me.host} | {view.members[p].host for p in self.streams if p in view.members}
        found = []
        candidates = [
            peer
            for peer in ranked(self.replica.spec.job, view.supers())
            if peer != view.me.id
            and peer not in self.streams
            and now >= self._skipped.get(peer, -1e9)
        ]
        for _ in range(missing):
            if not candidates:
                break
            new = next((p for p in candidates if view.members[p].host not in taken), candidates[0])
            candidates.remove(new)
            taken.add(view.members[new].host)
            found.append(new)
        return found

    def drop_the_slow(self, now: float) -> None:
        """Replace a replica that acknowledges nothing: the others must not wait for it."""
        config = self.config
        patience = REPLICA_PATIENCE * (config.silence_seconds + config.refute_seconds)
        for peer, stream in list(self.streams.items()):
            if stream.waits_since is not None and now - stream.waits_since > patience:
                self._skipped[peer] = now + SKIPPED_SECONDS
                self.lost(peer)

    def open_stream(self, peer: PeerId, has: IntervalSet | None, now: float) -> None:
        """Fill this peer's replica; `has`: the results that are there already.

        Of a reduction it gets all results: there, other partials may cover the same items. The account of
        an explore job goes whole."""
        self.streams[peer] = Stream(self.number, waits_since=now)
        results: list[tuple[int, int]] | None = None
        if has is not None and self.replica.spec.kind not in (JobKind.REDUCE, JobKind.EXPLORE):
            results = list(self.replica.covered.minus(has))
        for page in self.replica.pages(results):
            self.links.send(peer, page, now)
        self.links.send(peer, self.replica.header(self.number), now)
