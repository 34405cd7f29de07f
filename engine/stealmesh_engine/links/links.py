"""Connections and the peers behind them: introductions, redialling, custody over broken links.

Decides when to dial whom, which of two links with one peer carries our words, whom to
refuse and why, and what must be said again after a link broke. Refuses to know what the
messages mean beyond HELLO, WELCOME and REFUSED; it reports what happened to peers as
findings and leaves the consequences to core.py.

A link is one connection; a peer is one process life. Two peers may dial each other at the
same moment: both links work, the one dialled by the smaller id carries the traffic and the
other is closed by whoever dialled it. Redialling waits a random time that doubles (full
jitter): libzmq's own reconnecting has no jitter, so thousands of peers would retry in step.

Ideas: ROUTER to receive and reply, DEALER to dial, a HELLO first, after ZRE and Harmony
(ZeroMQ guide); who dialled last is irrelevant, ids decide, after Chord and many others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from random import Random

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.config import Config
from stealmesh_engine.effects import Dial, Effect, Hangup, JoinFailed, Probe, Send
from stealmesh_engine.events import LinkId
from stealmesh_engine.links.addresses import is_proof, ways_to
from stealmesh_engine.links.admission import Admission
from stealmesh_engine.links.custody import Channel
from stealmesh_engine.links.known_addresses import Remembered
from stealmesh_engine.links.state import Happened, Line, Peer, Seed
from stealmesh_engine.view.view import View
from stealmesh_protocol.conversation import LinkState
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import (
    Ack,
    Bye,
    Hello,
    Member,
    Message,
    Refused,
    Role,
    Welcome,
)

PROTOCOL_VERSION = 1
BACKOFF_SECONDS_MIN = 0.05
SUPERS_IN_WELCOME = 16
WELCOME_SECONDS = 5.0
ACKS_OWED_MAX = 16
CONFUSED_ATTEMPTS = 5
ACKS_OWED_OCTETS_MAX = 1 << 20
SEEDS_SPARED_SECONDS = 2.0
UNKNOWN_LINKS_MAX = 256


class Links:
    """All connections of this peer. Effects go to the list that core.py hands out."""

    def __init__(
        self,
        config: Config,
        view: View,
        mesh: bytes,
        runtime: str,
        rng: Random,
        effects: list[Effect],
        counters: Counters,
    ) -> None:
        self.config = config
        self.view = view
        self.mesh = mesh
        self.runtime = runtime
        self.rng = rng
        self.effects = effects
        self.counters = counters
        self.lines: dict[LinkId, Line] = {}
        self._unknown: dict[LinkId, None] = {}
        """Links that we do not remember and have said so, the latest last."""
        self.peers: dict[PeerId, Peer] = {}
        self._living_at: dict[str, dict[PeerId, None]] = {}
        """Endpoint → those of `peers` that listen there."""
        self._lines_of: dict[PeerId, list[LinkId]] = {}
        """Links that became ready with a peer, the oldest first; some may be gone."""
        self.seeds: dict[str, Seed] = {}
        self.remembered = Remembered(rng)
        self.owing: dict[PeerId, None] = {}
        """Peers that wait for an acknowledgement."""
        self._pressing: dict[PeerId, None] = {}
        """Those of them that are owed so much that they should not wait."""
        self.own_mail: deque[Message] = deque()
        """What we say to ourselves: a node that is the home of a job holds parts of it, too."""
        self.mute: dict[PeerId, int] = {}
        """Nodes that are out of our reach, whatever others say of them: silent, not to be dialled, or
        deaf to us; then the number of the custody message that they have to acknowledge first."""
        self._waiting: dict[PeerId, None] = {}
        """Those of `peers` that are to be dialled at some time."""
        self.dial_at: float | None = None
        """No dialling is due before this moment."""
        self._epochs = 0
        self.admission = Admission(config.attach_a_second, rng)
        self._next_link = 0
        self._give_up_at = 0.0
        self._sought = -1
        self._all_found = False
        self._refusal: tuple[str, str] | None = None
        self._reported = False

    # ------------------------------------------------------------ talking

    def send(self, peer_id: PeerId, message: Message, now: float) -> bool:
        """Say something to a peer. Custody messages are kept until acknowledged and may wait for
        a link; control messages are lost without one (False)."""
        peer = self.peers.get(peer_id)
        if peer is None:
            if peer_id == self.view.me.id:
                self.own_mail.append(message)
                return True
            member = self.view.members.get(peer_id)
            if member is None:
                self.counters.count("sent-to-unknown")
                return False
            peer = self._meet(member)
        seq = peer.channel.number(message) if message.CUSTODY else 0
        peer.used = now
        if peer.link is None:
            self.connect(peer_id, now)
            return message.CUSTODY
        self.effects.append(Send(peer.link, message, seq, peer.channel.acknowledging()))
        self.owing.pop(peer_id, None)
        return True

    def unheard(self, peer_id: PeerId) -> Iterator[Message]:
        """The custody messages that a peer has not acknowledged."""
        peer = self.peers.get(peer_id)
        return iter(()) if peer is None else (message for _, message, _ in peer.channel.unacked)

    def unsaid(self, link: LinkId, seq: int, instead: Message) -> PeerId | None:
        """A message could not be said, and something else was: that takes its place. Who would have
        heard it; None: it was no custody message, or its hearer is forgotten."""
        line = self.lines.get(link)
        peer = None if line is None else self.peers.get(line.peer)
        if line is None or peer is None or not seq:
            return None
        replaced = peer.channel.replace(seq, instead)
        assert replaced, "what was never said cannot be acknowledged, nor replaced a second time"
        return line.peer

    def broadcast(self, message: Message, *, but: PeerId = b"") -> None:
        """A control message to everybody that we have a link with."""
        for peer_id, peer in self.ready():
            if peer_id != but and peer.link is not None:
                self.effects.append(Send(peer.link, message, 0, peer.channel.acknowledging()))
                self.owing.pop(peer_id, None)

    def ready(self) -> Iterator[tuple[PeerId, Peer]]:
        """Peers that can be talked to now."""
        return ((peer_id, peer) for peer_id, peer in self.peers.items() if peer.link is not None)

    def is_ready(self, peer_id: PeerId) -> bool:
        peer = self.peers.get(peer_id)
        return peer is not None and peer.link is not None

    def last_said(self, peer_id: PeerId) -> int:
        """The number of the last custody message for this peer."""
        peer = self.peers.get(peer_id)
        return 0 if peer is None or not peer.channel.unacked else peer.channel.unacked[-1][0]

    def has_acknowledged(self, peer_id: PeerId, number: int) -> bool:
        peer = self.peers.get(peer_id)
        return peer is None or not peer.channel.unacked or peer.channel.unacked[0][0] > number

    def unacked_octets(self, peer_id: PeerId) -> int:
        peer = self.peers.get(peer_id)
        return 0 if peer is None else peer.channel.unacked_octets

    def owe(self, peer_id: PeerId, peer: Peer) -> None:
        """It has said something that it must know we have acted on."""
        self.owing[peer_id] = None
        channel = peer.channel
        if channel.owed >= ACKS_OWED_MAX or channel.owed_octets >= ACKS_OWED_OCTETS_MAX:
            self._pressing[peer_id] = None

    def acknowledge(self, *, all_owed: bool) -> None:
        """Acknowledge what no other message will carry; unless `all_owed`, only where much is owed."""
        for peer_id in list(self.owing if all_owed else self._pressing):
            if peer_id not in self.owing:
                continue  # something else has carried it
            del self.owing[peer_id]
            peer = self.peers[peer_id]
            if peer.link is not None and peer.channel.owed:
                ack = peer.channel.acknowledging()
                self.effects.append(Send(peer.link, Ack(), 0, ack))
        self._pressing.clear()

    # ------------------------------------------------------------ dialling

    def join(self, seeds: list[str], remembered: list[str], now: float) -> None:
        """Dial the given addresses; a while later if there are remembered ones to be tried first."""
        self.remembered.add(remembered)
        self.remembered.remove(seeds)
        for endpoint in seeds:
            if endpoint not in self.seeds:
                at = now + self.rng.uniform(0, SEEDS_SPARED_SECONDS) if self.remembered else 0.0
                self.seeds[endpoint] = Seed(dial_at=at, spared=bool(self.remembered))
                self._plan(at)
        self.seek_remembered(now)

    def seek_remembered(self, now: float) -> None:
        """Try some of the addresses that an earlier life of ours knew."""
        if self.remembered:
            find = self.remembered
            chosen = find.joined(self._known_endpoints()) if self.has_company else find.lonely()
            for endpoint in chosen:
                self._try_once(endpoint, now)

    def reseek(self, now: float) -> None:
        """Dial again every given address behind which nobody lives as far as we know: whoever
        starts there, or lives on the other side of a mended cut, may not know our address."""
        if self._sought == self.view.digest and self._all_found:
            return
        self._sought, self._all_found = self.view.digest, True
        known = self._known_endpoints()
        for endpoint, seed in self.seeds.items():
            if seed.own or seed.once or endpoint in known:
                continue
            self._all_found = False
            if seed.dialling is None and seed.dial_at is None:
                seed.dial_at = now + self.rng.uniform(0, self.config.dial_backoff_seconds_max)
                self._plan(seed.dial_at)

    def give_up_waiting(self, now: float) -> None:
        """Hang up where somebody listens and says nothing: its process may never run again."""
        if now < self._give_up_at:
            return
        self._give_up_at = now + WELCOME_SECONDS / 5
        for link, line in list(self.lines.items()):
            if line.state is LinkState.HELLO_SENT and now - line.since > WELCOME_SECONDS:
                self.confused(link, "no-welcome", now)

    def misses(self, peer_id: PeerId, upto: int = 0) -> None:
        """It is out of our reach: its address is worth another look, and no work goes there."""
        self.mute[peer_id] = upto
        self._all_found = False

    def hears(self, peer_id: PeerId) -> None:
        """One that was out of our reach speaks: if it hears us as well it is within it again."""
        if self.has_acknowledged(peer_id, self.mute[peer_id]):
            del self.mute[peer_id]

    def knock(self, member: Member, now: float) -> None:
        """Find out who lives at the address of one who is held for dead."""
        members = self.view.members
        for endpoint in self.endpoints_of(member)[:1]:
            others = (peer for peer in self.view.nodes() if peer != member.id)
            if not any(endpoint in members[peer].endpoints for peer in others):
                self._try_once(endpoint, now)

    def endpoints_of(self, member: Member) -> list[str]:
        """Where to dial a member from here: local sockets only mean something on its own host."""
        return ways_to(member, self.view.me)

    def connect(self, peer_id: PeerId, now: float) -> None:
        """See to it that there is a link with this member, now or after a while."""
        member = self.view.members.get(peer_id)
        peer = self.peers.get(peer_id)
        if peer is None:
            if member is None or peer_id == self.view.me.id:
                return
            peer = self._meet(member)
        if peer.link is not None or peer.dialling is not None or peer.dial_at is not None:
            return
        if self.endpoints_of(peer.member):
            peer.dial_at = now + self._jitter(peer.attempts) if peer.attempts else now
            self._plan(peer.dial_at, peer_id)

    def dial_due(self, now: float) -> None:
        """Dial everybody whose time has come."""
        if self.dial_at is None or self.dial_at > now:
            return
        for endpoint, seed in self.seeds.items():
            if seed.dialling is None and seed.dial_at is not None and seed.dial_at <= now:
                seed.dial_at = None
                if not (seed.spared and self.joined and endpoint in self._known_endpoints()):
                    seed.dialling = self._dial(endpoint, b"")
                seed.spared = False
        waiting, self._waiting = self._waiting, {}
        for peer_id in waiting:
            peer = self.peers.get(peer_id)
            if peer is None or peer.dial_at is None:
                continue
            if peer.dial_at > now:
                self._waiting[peer_id] = None
                continue
            peer.dial_at = None
            endpoints = self.endpoints_of(peer.member)
            if peer.link is None and peer.dialling is None and endpoints:
                endpoint = endpoints[peer.attempts % len(endpoints)]
                peer.dialling = self._dial(endpoint, peer_id)
        planned: list[Seed | Peer] = [*self.seeds.values(), *(self.peers[p] for p in self._waiting)]
        times = (each.dial_at for each in planned if each.dial_at is not None)
        self.dial_at = min(times, default=None)

    def probe(self, peer_id: PeerId) -> None:
        """Find out whether anything listens where this peer should be."""
        peer = self.peers.get(peer_id)
        if peer is not None:
            peer.absent_at = ()
            for endpoint in self.endpoints_of(peer.member):
                self.effects.append(Probe(endpoint))

    def is_nowhere(self, peer_id: PeerId, endpoint: str) -> bool:
        """It is not at this address: is it gone?"""
        peer = self.peers[peer_id]
        peer.absent_at = (*peer.absent_at, endpoint)
        return is_proof(peer.absent_at, self.endpoints_of(peer.member))

    def ask_again(self, peer_id: PeerId) -> None:
        """Dial a peer although there is a link: another process at its address will say that it is one."""
        peer = self.peers.get(peer_id)
        if peer is not None and peer.dialling is None:
            for endpoint in self.endpoints_of(peer.member)[:1]:
                peer.dialling = self._dial(endpoint, peer_id)

    def living_at(self, endpoint: str) -> list[PeerId]:
        """Peers without a link that should be listening at this endpoint."""
        found = ((peer_id, self.peers[peer_id]) for peer_id in self._living_at.get(endpoint, ()))
        return [
            peer_id
            for peer_id, peer in found
            if peer.link is None and endpoint in self.endpoints_of(peer.member)
        ]

    def let_go(self, peer_id: PeerId) -> None:
        """The peer has closed its idle link with us: that is no break, nobody need look for it."""
        peer = self.peers[peer_id]
        if peer.link is not None:
            self.lines.pop(peer.link, None)
            self.effects.append(Hangup(peer.link))
            self.owing.pop(peer_id, None)
            peer.link = None

    def release(self, wanted: Container[PeerId], now: float) -> None:
        """Close the links that we dialled and have no use for (the seed's, when there are homes)."""
        for peer_id, peer in list(self.ready()):
            if peer_id in wanted or peer.channel.unacked or peer.member.role is Role.CLIENT:
                continue
            if self.lines[peer.link].dialled and now - peer.used > 1.0:  # type: ignore[index]
                self.hang_up(peer_id, "idle")

    def retire(self, links_max: int, now: float) -> None:
        """Close the least recently used links that we dialled, beyond `links_max` of them."""
        if len(self.peers) <= links_max:
            return
        ours = [
            (peer.used, peer_id)
            for peer_id, peer in self.ready()
            if self.lines[peer.link].dialled and not peer.channel.unacked  # type: ignore[index]
        ]
        for used, peer_id in sorted(ours)[: max(0, len(ours) - links_max)]:
            if now - used > 1.0:
                self.hang_up(peer_id, "idle")

    # ------------------------------------------------------------ what links tell

    def link_up(self, link: LinkId, now: float) -> None:
        line = self.lines.get(link)
        if line is not None:
            line.since = now
            line.state = LinkState.HELLO_SENT
            self._say_hello(link, line)

    def link_down(self, link: LinkId, reason: str, now: float) -> Happened:
        happened = Happened()
        line = self.lines.pop(link, None)
        if line is None:
            return happened
        if line.state is not LinkState.READY:
            self._failed(line, link, "unreachable", reason, now)
        peer = self.peers.get(line.peer)
        if peer is not None and peer.link == link:
            self._lose_link(line.peer, peer, happened)
        return happened

    def introduced(self, link: LinkId, hello: Hello, now: float) -> Happened:
        """Someone dialled us and says who he is."""
        refusal = self._objection(hello) or self._crowded(hello, now)
        if refusal is not None:
            self.counters.count("refused-" + refusal.code)
            self.effects.append(Send(link, refusal))
            self.effects.append(Hangup(link))
            return Happened()
        sender = hello.sender
        if not hello.to:
            # "Who are you?": the answer lets it introduce itself properly on the same link.
            self.effects.append(Send(link, self._welcome(sender, 0)))
            return Happened()
        line = self.lines.setdefault(link, Line(LinkState.READY, dialled=False))
        self._becomes_ready(line, link, sender.id)
        peer = self.peers.get(sender.id) or self._meet(sender)
        self.effects.append(Send(link, self._welcome(sender, peer.epoch)))
        return self._attach(link, peer, sender, hello.epoch, now)

    def welcomed(self, link: LinkId, welcome: Welcome, now: float) -> Happened:
        """Someone that we dialled agrees."""
        line = self.lines.get(link)
        if line is None or line.state is not LinkState.HELLO_SENT or welcome.to != self.view.me.id:
            return self.confused(link, "welcome-unasked", now)
        if line.to and line.to != welcome.sender.id:
            return self.confused(link, "wrong-node", now)
        peer = self.peers.get(welcome.sender.id) or self._meet(welcome.sender)
        if not line.to:
            line.to = welcome.sender.id
            if peer.link is None and peer.dialling is None:
                peer.dialling = link  # nobody need dial it a second time
            self._say_hello(link, line)
            return Happened()
        self._becomes_ready(line, link, welcome.sender.id)
        seed = self.seeds.get(line.endpoint)
        if seed is not None and seed.dialling == link:
            seed.dialling, seed.attempts = None, 0
            if seed.once:
                del self.seeds[line.endpoint]
        peer.attempts = 0
        return self._attach(link, peer, welcome.sender, welcome.epoch, now)

    def refused(self, link: LinkId, refusal: Refused, now: float) -> Happened:
        """Whoever lives there will not talk to us."""
        line = self.lines.pop(link, None)
        self.effects.append(Hangup(link))
        if line is None or line.state is LinkState.READY:
            if line is not None and refusal.code == "gap":
                self._not_at_once(line)
            return self._drop_line(line, link)
        if refusal.code == "self" and line.endpoint in self.seeds:
            self.seeds[line.endpoint].own = True
        self._failed(line, link, refusal.code, refusal.text, now, refusal.retry_after)
        happened = Happened()
        if refusal.code == "wrong-node" and line.to in self.peers:
            happened.replaced += [line.to] if self.is_nowhere(line.to, line.endpoint) else []
        return happened

    def confused(self, link: LinkId, reason: str, now: float) -> Happened:
        """What came over this link makes no sense: count it and end the link."""
        self.counters.count("rude-" + reason)
        line = self.lines.pop(link, None)
        self.effects.append(Hangup(link))
        if line is not None and line.state is not LinkState.READY:
            self._failed(line, link, reason, f"the peer said something unexpected ({reason})", now)
            return Happened()
        peer = None if line is None else self.peers.get(line.peer)
        if peer is not None:
            # What makes no sense now will be said again on the next link: let that take a while.
            peer.attempts = max(peer.attempts, CONFUSED_ATTEMPTS)
        return self._drop_line(line, link)

    def begin_again(self, link: LinkId) -> Happened:
        """Something that the peer said over this link is missing: end it, so that the peer says it again."""
        self.counters.count("custody-gaps")
        line = self._leave(link, "something that you said is missing", code="gap")
        self._not_at_once(line)
        return self._drop_line(line, link)

    def hang_up(self, peer_id: PeerId, reason: str) -> None:
        """End the link with a peer in order."""
        peer = self.peers.get(peer_id)
        if peer is None or peer.link is None:
            return
        self.effects.append(Send(peer.link, Bye(reason), 0, peer.channel.acknowledging()))
        self.effects.append(Hangup(peer.link))
        self.lines.pop(peer.link, None)
        self.owing.pop(peer_id, None)
        peer.link = None

    def renew(self, peer_id: PeerId, now: float) -> None:
        """A link that we dialled brings nothing any more: try another one."""
        peer = self.peers.get(peer_id)
        if peer is not None and peer.link is not None and self.lines[peer.link].dialled:
            self.hang_up(peer_id, "idle")
            self.connect(peer_id, now)

    def forget(self, peer_id: PeerId) -> None:
        """This life is over: what was meant for it is dropped."""
        self.owing.pop(peer_id, None)
        peer = self.peers.pop(peer_id, None)
        if peer is None:
            return
        lost = len(peer.channel.unacked)
        if lost:
            self.counters.count("unsent-to-the-dead", lost)
        links = self._ready_lines(peer_id)
        if peer.dialling in self.lines and peer.dialling not in links:
            links.append(peer.dialling)
        for link in links:
            line = self._leave(link, "you were held for dead")
            seed = self.seeds.get(line.endpoint)
            if seed is not None and seed.dialling == link:
                seed.dialling = None
                self._all_found = False
                if seed.once:
                    del self.seeds[line.endpoint]
        del self._lines_of[peer_id]
        for endpoint in peer.member.endpoints:
            there = self._living_at.get(endpoint)
            if there is not None:
                there.pop(peer_id, None)
                if not there:
                    del self._living_at[endpoint]

    @property
    def joined(self) -> bool:
        return any(peer.link is not None for peer in self.peers.values())

    @property
    def has_company(self) -> bool:
        """Is there a node within our reach? Programs that have joined us lead to no other node."""
        return any(p.member.role is not Role.CLIENT and i not in self.mute for i, p in self.ready())

    # ------------------------------------------------------------ inside

    def _known_endpoints(self) -> set[str]:
        """Where somebody lives as far as we know."""
        heard = (peer for peer in self.view.nodes() if peer not in self.mute)
        return {e for peer in heard for e in self.view.members[peer].endpoints}

    def _try_once(self, endpoint: str, now: float) -> None:
        if endpoint not in self.seeds:
            self.seeds[endpoint] = Seed(dial_at=now, once=True)
            self._plan(now)

    def _meet(self, member: Member) -> Peer:
        self._epochs += 1
        peer = Peer(member, self._epochs)
        self.peers[member.id] = peer
        for endpoint in member.endpoints:
            self._living_at.setdefault(endpoint, {})[member.id] = None
        return peer

    def _ready_lines(self, peer_id: PeerId) -> list[LinkId]:
        """Every link that is ready with this peer, the oldest first."""
        lines = self.lines
        found = [
            n for n in self._lines_of.get(peer_id, ()) if n in lines and lines[n].peer == peer_id
        ]
        self._lines_of[peer_id] = found
        return found

    def _becomes_ready(self, line: Line, link: LinkId, peer_id: PeerId) -> None:
        line.state, line.peer = LinkState.READY, peer_id
        known = self._ready_lines(peer_id)
        if link not in known:
            known.append(link)

    def _say_hello(self, link: LinkId, line: Line) -> None:
        """Introduce ourselves. To an unknown listener this is only a question: our epoch with a
        peer means something only once we know which peer it is."""
        peer = self.peers.get(line.to)
        versions = (PROTOCOL_VERSION, PROTOCOL_VERSION)
        epoch = peer.epoch if peer is not None else 0
        hello = Hello(versions, self.mesh, self.view.me, line.to, self.runtime, epoch)
        self.effects.append(Send(link, hello))

    def _welcome(self, sender: Member, epoch: int) -> Welcome:
        """Whom a newcomer should know first: not everybody, but some who do."""
        view = self.view
        members = [view.members[peer] for peer in view.supers_near(sender.id, SUPERS_IN_WELCOME)]
        return Welcome(
            PROTOCOL_VERSION,
            self.view.me,
            sender.id,
            members,
            self.runtime,
            epoch,
        )

    def _dial(self, endpoint: str, to: PeerId) -> LinkId:
        self._next_link += 2
        link = self._next_link
        self.lines[link] = Line(LinkState.CONNECTING, dialled=True, endpoint=endpoint, to=to)
        self.effects.append(Dial(link, endpoint))
        return link

    def _jitter(self, attempts: int) -> float:
        ceiling = min(
            BACKOFF_SECONDS_MIN * 2.0 ** min(attempts, 16), self.config.dial_backoff_seconds_max
        )
        return self.rng.uniform(0, ceiling)

    def _failed(
        self,
        line: Line,
        link: LinkId,
        code: str,
        text: str,
        now: float,
        retry_after: float = 0.0,
    ) -> None:
        """A dialled link did not become ready: try again later."""
        seed = self.seeds.get(line.endpoint)
        if seed is not None and seed.dialling == link:
            seed.dialling = None
            seed.attempts += 1
            if seed.once:
                del self.seeds[line.endpoint]
            elif not seed.own:
                seed.dial_at = now + retry_after + self._jitter(seed.attempts)
                self._plan(seed.dial_at)
                self._refusal = (code, f"{line.endpoint}: {text}")
            self._report_failure()
        peer = self.peers.get(line.to)
        if peer is not None and peer.dialling == link:
            self.misses(line.to)
            peer.dialling = None
            peer.attempts += 1
            if peer.link is None and self.view.is_alive(line.to):
                # A dying process closes its connections before its inbox: an earlier probe may
                # have found it still listening.
                self.probe(line.to)
            if (retry_after or peer.channel.unacked) and self.view.is_alive(line.to):
                peer.dial_at = now + retry_after + self._jitter(peer.attempts)
                self._plan(peer.dial_at, line.to)

    def _plan(self, at: float, peer_id: PeerId | None = None) -> None:
        if peer_id is not None:
            self._waiting[peer_id] = None
        self.dial_at = at if self.dial_at is None else min(self.dial_at, at)

    def _report_failure(self) -> None:
        """When every seed has failed once, say so (once), and go on trying."""
        if self._reported or self.joined or self._refusal is None:
            return
        if all(seed.attempts or seed.own or seed.once for seed in self.seeds.values()):
            self._reported = True
            self.effects.append(JoinFailed(*self._refusal))

    def _objection(self, hello: Hello) -> Refused | None:
        low, high = hello.versions
        sender = hello.sender
        if not low <= PROTOCOL_VERSION <= high:
            return Refused(
                "version",
                f"this node speaks protocol {PROTOCOL_VERSION}, you speak {low} to {high}: "
                "upgrade the older side",
            )
        if hello.mesh != self.mesh:
            return Refused("mesh", "this node belongs to another mesh: check the key file")
        if sender.id == self.view.me.id:
            return Refused("self", "this is your own address")
        if hello.to and hello.to != self.view.me.id:
            return Refused("wrong-node", "another process lives at this address now")
        return None

    def _crowded(self, hello: Hello, now: float) -> Refused | None:
        """A leaf that comes while too many others do. Who asks only for the way, whoever serves
        itself and whoever owns jobs gets in."""
        sender = hello.sender
        if not hello.to or sender.role is not Role.PLAIN or self.view.me.role is not Role.SUPER:
            return None
        if self.is_ready(sender.id):
            return None
        wait = self.admission.retry_after(now)
        return Refused("busy", "too many come at once: ask again later", wait) if wait else None

    def _attach(self, link: LinkId, peer: Peer, member: Member, epoch: int, now: float) -> Happened:
        """A link is ready: let it carry our words to the peer, unless a better one does."""
        happened = Happened()
        peer_id = member.id
        peer.member = member
        if peer.dialling == link:
            peer.dialling = None
        if epoch < peer.their_epoch:
            self._too_late(link, peer_id, now)
            return happened
        if peer.their_epoch and epoch > peer.their_epoch:
            peer.channel = Channel()
            happened.reset.append(peer_id)
            for former in self._ready_lines(peer_id):
                if former != link:
                    self._leave(former, "your numbers begin again")
            peer.link = None
        peer.their_epoch = epoch
        old = peer.link
        if old is not None and old in self.lines and not self._better(link, peer_id):
            if self.lines[link].dialled:
                self.lines.pop(link)
                self.effects.append(Hangup(link))
            return happened
        peer.link = link
        peer.dial_at = None
        for seq, message in peer.channel.again():
            self.effects.append(Send(link, message, seq, peer.channel.heard))
        if old is not None and old in self.lines and self.lines[old].dialled:
            self.lines.pop(old)
            self.effects.append(Hangup(old))
        happened.up.append(peer_id)
        return happened

    def _too_late(self, link: LinkId, peer_id: PeerId, now: float) -> None:
        """An introduction from before the peer forgot us: a cut kept it on its way."""
        self.counters.count("introductions-too-late")
        if self._leave(link, "you have forgotten us since").dialled:
            self.connect(peer_id, now)

    def is_told(self, link: LinkId) -> bool:
        """Has whoever talks here been told that we do not remember this link? From now on it has. All
        that lay unread was said before it could know, and once is enough."""
        if link in self._unknown:
            return True
        self._unknown[link] = None
        if len(self._unknown) > UNKNOWN_LINKS_MAX:
            del self._unknown[next(iter(self._unknown))]
        return False

    def _not_at_once(self, line: Line) -> None:
        """The next link with this peer may end for the same reason: let a moment pass before it."""
        peer = self.peers.get(line.peer)
        if peer is not None:
            peer.attempts = max(peer.attempts, 1)

    def _leave(self, link: LinkId, why: str, *, code: str = "forgotten") -> Line:
        """Listen no more: what still comes here is numbered by a memory that is gone. (Found by durable
        world 20015: old numbers went on where new ones had begun, and new ones seemed old.)"""
        line = self.lines.pop(link)
        if not line.dialled:
            # We cannot close what it dialled, and it may believe in it (durable world 23071): so tell it.
            self.effects.append(Send(link, Refused(code, why)))
        self.effects.append(Hangup(link))
        return line

    def _better(self, link: LinkId, peer_id: PeerId) -> bool:
        """Of two links with one peer, the one dialled by the smaller id (of equal ones the newer)."""
        ours_is_smaller = self.view.me.id < peer_id
        old = self.peers[peer_id].link
        assert old is not None
        if self.lines[link].dialled == self.lines[old].dialled:
            return True
        return self.lines[link].dialled == ours_is_smaller

    def _lose_link(self, peer_id: PeerId, peer: Peer, happened: Happened) -> None:
        """Our words with a peer went over a link that is gone. Of two that were dialled at once the
        two sides may have chosen differently: then the other one is still there."""
        peer.link = None
        self.owing.pop(peer_id, None)
        for link in self._ready_lines(peer_id):
            peer.link = link
            for seq, message in peer.channel.again():
                self.effects.append(Send(link, message, seq, peer.channel.heard))
            return
        happened.cut.append(peer_id)

    def _drop_line(self, line: Line | None, link: LinkId) -> Happened:
        happened = Happened()
        peer = self.peers.get(line.peer) if line is not None else None
        if line is not None and peer is not None and peer.link == link:
            self._lose_link(line.peer, peer, happened)
        return happened
