"""Which addresses and peers to dial, and when.

Decides which seeds, known addresses and peers are dialled, how long a failed dial waits for the next
one, and when a listener that stays silent is given up. Refuses to know what is said on a link once it
is open (introductions.py), and who is dead (membership).

Redialling waits a random time with a doubling bound (full jitter). libzmq's own reconnecting has no
jitter: thousands of peers would retry in step.

Ideas: a DEALER socket for each dialled link, after the ZeroMQ guide; full jitter after Brooker,
"Exponential Backoff and Jitter" (AWS, 2015).
"""

from __future__ import annotations

from stealmesh_engine.base.context import Context
from stealmesh_engine.effects import Dial, Hangup, JoinFailed, Probe
from stealmesh_engine.events import LinkId
from stealmesh_engine.links.addresses import is_proof
from stealmesh_engine.links.known_addresses import KnownAddresses
from stealmesh_engine.links.state import Line, LinkTable, Peer, Seed
from stealmesh_protocol.conversation import LinkState
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Member

BACKOFF_SECONDS_MIN = 0.05
WELCOME_SECONDS = 5.0
"""A listener that has not answered our HELLO after this time may never run again."""
SEEDS_SPARED_SECONDS = 2.0
"""The head start of known addresses: seeds are dialled up to this much later."""


class Dialling:
    """Opens links. Owns the times of dialling, and `dialling`, `dial_at` and `attempts` of Peer and Seed."""

    def __init__(self, context: Context, table: LinkTable) -> None:
        self._context = context
        self._table = table
        self.known_addresses = KnownAddresses(context.rng)
        self.dial_at: float | None = None
        """No dial is due before this moment."""
        self._waiting: dict[PeerId, None] = {}
        """Peers with a `dial_at`."""
        self._next_link = 0
        self._give_up_at = 0.0
        self._sought_digest = -1
        """The view in which we last looked for seeds that no known node listens at ..."""
        self._all_found = False
        """... and whether there was none."""
        self._refusal: tuple[str, str] | None = None
        self._reported = False

    # ------------------------------------------------------------ addresses

    def join(self, seeds: list[str], remembered: list[str], now: float) -> None:
        """Dial the given addresses; a while later if there are remembered ones to be tried first."""
        known = self.known_addresses
        known.add(remembered)
        known.remove(seeds)
        for endpoint in seeds:
            if endpoint not in self._table.seeds:
                at = now + self._context.rng.uniform(0, SEEDS_SPARED_SECONDS) if known else 0.0
                self._table.seeds[endpoint] = Seed(dial_at=at, spared=bool(known))
                self._plan(at)
        self.seek_remembered(now)

    def seek_remembered(self, now: float) -> None:
        """Try some of the addresses that an earlier life of this node knew."""
        known = self.known_addresses
        if known:
            alone = not self._table.has_company
            for endpoint in known.lonely() if alone else known.joined(self._endpoints_in_reach()):
                self._try_once(endpoint, now)

    def reseek(self, now: float) -> None:
        """Dial again every given address at which no known node listens: a node that starts there, or
        that is on the other side of a mended cut, may not know our address."""
        if self._sought_digest == self._table.view.digest and self._all_found:
            return
        self._sought_digest, self._all_found = self._table.view.digest, True
        known = self._endpoints_in_reach()
        for endpoint, seed in self._table.seeds.items():
            if seed.own or seed.once or endpoint in known:
                continue
            self._all_found = False
            if seed.dialling is None and seed.dial_at is None:
                longest = self._context.config.dial_backoff_seconds_max
                seed.dial_at = now + self._context.rng.uniform(0, longest)
                self._plan(seed.dial_at)

    def knock(self, member: Member, now: float) -> None:
        """Find out which process listens at the address of a member that passes for dead."""
        view = self._table.view
        for endpoint in self._table.endpoints_of(member)[:1]:
            others = (peer for peer in view.nodes() if peer != member.id)
            if not any(endpoint in view.members[peer].endpoints for peer in others):
                self._try_once(endpoint, now)

    def reached_ourselves(self, endpoint: str) -> None:
        """This address is our own: it is not dialled again."""
        if endpoint in self._table.seeds:
            self._table.seeds[endpoint].own = True

    def _endpoints_in_reach(self) -> set[str]:
        """Where nodes listen as far as we know."""
        table = self._table
        in_reach = (peer for peer in table.view.nodes() if peer not in table.mute)
        return {e for peer in in_reach for e in table.view.members[peer].endpoints}

    def _try_once(self, endpoint: str, now: float) -> None:
        if endpoint not in self._table.seeds:
            self._table.seeds[endpoint] = Seed(dial_at=now, once=True)
            self._plan(now)

    # ------------------------------------------------------------ peers

    def connect(self, peer_id: PeerId, now: float) -> None:
        """See to it that there is a link with this member, now or after a while."""
        table = self._table
        peer = table.peers.get(peer_id)
        if peer is None:
            member = table.view.members.get(peer_id)
            if member is None or peer_id == table.view.me.id:
                return
            peer = table.meet(member)
        if peer.link is not None or peer.dialling is not None or peer.dial_at is not None:
            return
        if table.endpoints_of(peer.member):
            wait = self._jitter(peer.attempts) if peer.attempts else 0.0
            self._dial_later(peer_id, peer, now + wait)

    def misses(self, peer_id: PeerId, upto: int = 0) -> None:
        """It is out of our reach: its address is worth another look, and no work goes there. It is in
        reach again once it speaks and has acknowledged custody message `upto`."""
        self._table.mute[peer_id] = upto
        self._all_found = False

    def ask_again(self, peer_id: PeerId) -> None:
        """Dial a peer although there is a link: another process at its address will say that it is one."""
        peer = self._table.peers.get(peer_id)
        if peer is not None and peer.dialling is None:
            for endpoint in self._table.endpoints_of(peer.member)[:1]:
                peer.dialling = self._dial(endpoint, peer_id)

    def probe(self, peer_id: PeerId) -> None:
        """Find out whether anything listens where this peer should be."""
        peer = self._table.peers.get(peer_id)
        if peer is not None:
            peer.absent_at = ()
            for endpoint in self._table.endpoints_of(peer.member):
                self._context.effects.append(Probe(endpoint))

    def is_nowhere(self, peer_id: PeerId, endpoint: str) -> bool:
        """Note that the peer is not at this address. True if that proves that its process is gone."""
        peer = self._table.peers.get(peer_id)
        if peer is None:
            return False  # what followed from the death of another has had us forget it
        peer.absent_at = (*peer.absent_at, endpoint)
        return is_proof(peer.absent_at, self._table.endpoints_of(peer.member))

    # ------------------------------------------------------------ when a dial is due

    def dial_due(self, now: float) -> None:
        """Dial every address and peer that is due."""
        if self.dial_at is None or self.dial_at > now:
            return
        table = self._table
        for endpoint, seed in table.seeds.items():
            if seed.dialling is None and seed.dial_at is not None and seed.dial_at <= now:
                seed.dial_at = None
                found = seed.spared and table.joined and endpoint in self._endpoints_in_reach()
                if not found:
                    seed.dialling = self._dial(endpoint, b"")
                seed.spared = False
        waiting, self._waiting = self._waiting, {}
        for peer_id in waiting:
            peer = table.peers.get(peer_id)
            if peer is None or peer.dial_at is None:
                continue
            if peer.dial_at > now:
                self._waiting[peer_id] = None
                continue
            peer.dial_at = None
            endpoints = table.endpoints_of(peer.member)
            if peer.link is None and peer.dialling is None and endpoints:
                peer.dialling = self._dial(endpoints[peer.attempts % len(endpoints)], peer_id)
        planned: list[Seed | Peer] = [*table.seeds.values()]
        planned += (table.peers[peer_id] for peer_id in self._waiting)
        times = (each.dial_at for each in planned if each.dial_at is not None)
        self.dial_at = min(times, default=None)

    def _dial(self, endpoint: str, to: PeerId) -> LinkId:
        self._next_link += 2
        link = self._next_link
        self._table.lines[link] = Line(LinkState.CONNECTING, dialled=True, endpoint=endpoint, to=to)
        self._context.effects.append(Dial(link, endpoint))
        return link

    def _dial_later(self, peer_id: PeerId, peer: Peer, at: float) -> None:
        peer.dial_at = at
        self._waiting[peer_id] = None
        self._plan(at)

    def _plan(self, at: float) -> None:
        self.dial_at = at if self.dial_at is None else min(self.dial_at, at)

    def _jitter(self, attempts: int) -> float:
        """Seconds until the next dial after this number of failed ones."""
        longest = BACKOFF_SECONDS_MIN * 2.0 ** min(attempts, 16)
        config = self._context.config
        return self._context.rng.uniform(0, min(longest, config.dial_backoff_seconds_max))

    # ------------------------------------------------------------ what came of it

    def succeeded(self, link: LinkId, line: Line, peer: Peer) -> None:
        """A dialled link has been introduced."""
        seed = self._dial_over(link, line)
        if seed is not None:
            seed.attempts = 0
        peer.attempts = 0

    def abandoned(self, link: LinkId, line: Line) -> None:
        """A dialled link was closed because its peer was forgotten: its seed, if any, is to be sought."""
        if self._dial_over(link, line) is not None:
            self._all_found = False

    def failed(
        self, link: LinkId, line: Line, code: str, text: str, now: float, retry_after: float = 0.0
    ) -> None:
        """A dialled link did not become ready: try again later."""
        seed = self._dial_over(link, line)
        if seed is not None:
            seed.attempts += 1
            if not seed.once and not seed.own:
                seed.dial_at = now + retry_after + self._jitter(seed.attempts)
                self._plan(seed.dial_at)
                self._refusal = (code, f"{line.endpoint}: {text}")
            self._report_failure()
        peer = self._table.peers.get(line.to)
        if peer is None or peer.dialling != link:
            return
        self.misses(line.to)
        peer.dialling = None
        peer.attempts += 1
        if not self._table.view.is_alive(line.to):
            return
        if peer.link is None:
            # A dying process closes its connections before its inbox: an earlier probe may have
            # found it still listening.
            self.probe(line.to)
        if retry_after or peer.channel.unacked:
            self._dial_later(line.to, peer, now + retry_after + self._jitter(peer.attempts))

    def give_up(self, link: LinkId, reason: str, now: float) -> None:
        """What came over this dialled link makes no sense, or nothing came: close it, try again later."""
        self._context.counters.count("rude-" + reason)
        line = self._table.lines.pop(link)
        self._context.effects.append(Hangup(link))
        self.failed(link, line, reason, f"the peer said something unexpected ({reason})", now)

    def give_up_waiting(self, now: float) -> None:
        """Close links on which a listener stays silent: its process may never run again."""
        if now < self._give_up_at:
            return
        self._give_up_at = now + WELCOME_SECONDS / 5
        for link, line in list(self._table.lines.items()):
            if line.state is LinkState.HELLO_SENT and now - line.since > WELCOME_SECONDS:
                self.give_up(link, "no-welcome", now)

    def _dial_over(self, link: LinkId, line: Line) -> Seed | None:
        """The seed that this link was dialled for; one that is dialled once only is forgotten."""
        seed = self._table.seeds.get(line.endpoint)
        if seed is None or seed.dialling != link:
            return None
        seed.dialling = None
        if seed.once:
            del self._table.seeds[line.endpoint]
        return seed

    def _report_failure(self) -> None:
        """When every seed has failed once, say so (once), and go on trying."""
        if self._reported or self._table.joined or self._refusal is None:
            return
        if all(each.attempts or each.own or each.once for each in self._table.seeds.values()):
            self._reported = True
            self._context.effects.append(JoinFailed(*self._refusal))
