"""HELLO, WELCOME and REFUSED: how the two ends of a link come to know each other, and end it otherwise.

Decides which peers are let in, which of two links with one peer carries our messages, and what becomes
of a peer when its link ends. Refuses to know when to dial, and what the messages after the
introduction mean: what happened to peers goes to the core as `Happened`.

A link is one connection; a peer is one process life. Two peers may dial each other at the same moment.
Both links work then; the one dialled by the smaller id carries the messages, and the dialler of the
other closes it.

Ideas: the first message of a link says who speaks, after ZRE and Harmony (ZeroMQ guide); ids decide,
and not the order of arrival, after Chord and many others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.rude import RUDE_MAX
from stealmesh_engine.effects import Hangup, JoinFailed, Send
from stealmesh_engine.events import Heard, LinkId
from stealmesh_engine.links.admission import Admission
from stealmesh_engine.links.dialling import Dialling
from stealmesh_engine.links.guests import Guests
from stealmesh_engine.links.sending import Sending
from stealmesh_engine.links.state import Happened, Line, LinkTable, Peer
from stealmesh_protocol.conversation import LinkState
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.messages import Hello, Member, Message, Refused, Role, Welcome

PROTOCOL_VERSION = 1
SUPERS_IN_WELCOME = 16
CONFUSED_ATTEMPTS = 5
UNKNOWN_LINKS_MAX = 256
SHOWN_OUT = ("expired", "revoked", "role")
"""Refusals that are about our token, and not about the link."""
NOT_AT_ONCE = ("gap", "forgotten", *SHOWN_OUT)
"""Refusals after which we wait before we dial again."""


class Introductions:
    """Makes links ready and ends them. Owns `link`, `epoch` and `their_epoch` of Peer, and all of Line."""

    def __init__(
        self,
        context: Context,
        table: LinkTable,
        dialling: Dialling,
        sending: Sending,
        guests: Guests,
        mesh: bytes,
        runtime: str,
        proof: bytes,
    ) -> None:
        self._effects = context.effects
        self._counters = context.counters
        self._journal = context.journal
        self._table = table
        self._dialling = dialling
        self._sending = sending
        self._guests = guests
        self._mesh = mesh
        self._runtime = runtime
        self._proof = proof
        self._admission = Admission(context.config.attach_a_second, context.rng)
        self._unknown: dict[LinkId, None] = {}
        """Links that we do not remember and have said so, the latest last."""

    # ------------------------------------------------------------ connections

    def link_up(self, link: LinkId, now: float) -> Happened:
        line = self._table.lines.get(link)
        if line is not None:
            line.since, line.state = now, LinkState.HELLO_SENT
            self._say_hello(link, line)
        return Happened()

    def link_down(self, link: LinkId, reason: str, now: float) -> Happened:
        line = self._table.lines.pop(link, None)
        self._guests.gone(link)
        if line is not None and line.state is not LinkState.READY:
            self._dialling.failed(link, line, "unreachable", reason, now)
        return self._over(link, line)

    # ------------------------------------------------------------ what is heard

    def asks_the_way(self, event: Heard) -> bool:
        """True if a node of this mesh that knows no peer asks who listens here."""
        hello, line = event.message, self._table.lines.get(event.link)
        return (
            isinstance(hello, Hello)
            and (line is None or not line.dialled)
            and not hello.to
            and hello.mesh == self._mesh
            and hello.sender.id != self._table.view.me.id
            and hello.sender.role is not Role.CLIENT
        )

    def heard(self, event: Heard, now: float) -> Happened:
        """The only messages that may come before both sides know each other."""
        link, message = event.link, event.message
        line = self._table.lines.get(link)
        handler = _HANDLERS.get(type(message))
        if handler is not None and (happened := handler(self, link, message, line, now)):
            return happened
        if line is not None:
            return self.confused(link, "too-early", now)
        if self._is_told(link):
            self._counters.count("heard-too-late")
        else:
            self._counters.count("rude-no-session")
            self._journal.rings.refused(now, "rude-no-session")
            self._refuse(link, Refused("no-session", "say HELLO first"))
        return Happened()

    def _hello(self, link: LinkId, hello: Hello, line: Line | None, now: float) -> Happened | None:
        """A peer dialled us and says who it is."""
        if line is not None and line.dialled:
            return None
        guest = self._guests.introduced(link, hello, now)
        refusal = self._objection(hello)
        if refusal is None:
            refusal = guest if isinstance(guest, Refused) else self._crowded(hello, now)
        if refusal is not None:
            self._counters.count("refused-" + refusal.code)
            name = hello.sender.name
            self._journal.rings.refused(now, "refused-" + refusal.code, hello.sender.id, name)
            self._refuse(link, refusal)
            return self._over(link, self._table.lines.pop(link, None))
        sender = hello.sender
        if not hello.to:
            # "Who are you?": the answer lets it introduce itself properly on the same link.
            self._effects.append(Send(link, self._welcome_to(sender, 0)))
            return Happened()
        assert not isinstance(guest, Refused)
        line = Line(LinkState.READY, dialled=False, guest=guest)
        self._table.lines.setdefault(link, line)
        self._table.becomes_ready(link, sender.id)
        peer = self._table.meet(sender)
        self._effects.append(Send(link, self._welcome_to(sender, peer.epoch)))
        return self._attach(link, peer, sender, hello.epoch, now)

    def _welcome(
        self, link: LinkId, welcome: Welcome, line: Line | None, now: float
    ) -> Happened | None:
        """A peer that we dialled agrees."""
        if line is None:
            return None
        happened = self._welcomed(link, welcome, line, now)
        happened.named, happened.named_by = welcome.members, welcome.sender.id
        return happened

    def _welcomed(self, link: LinkId, welcome: Welcome, line: Line, now: float) -> Happened:
        sender = welcome.sender
        if line.state is not LinkState.HELLO_SENT or welcome.to != self._table.view.me.id:
            return self.confused(link, "welcome-unasked", now)
        if line.to and line.to != sender.id:
            return self.confused(link, "wrong-node", now)
        if sender.id == self._table.view.me.id:
            return self.confused(link, "own-id", now)
        peer = self._table.meet(sender)
        if not line.to:
            line.to = sender.id
            if peer.link is None and peer.dialling is None:
                peer.dialling = link  # it need not be dialled a second time
            self._say_hello(link, line)
            return Happened()
        self._table.becomes_ready(link, sender.id)
        self._dialling.succeeded(link, line, peer)
        return self._attach(link, peer, sender, welcome.epoch, now)

    def _refused(self, link: LinkId, refusal: Refused, line: Line | None, now: float) -> Happened:
        """The process at the other end will not talk to us."""
        self._table.lines.pop(link, None)
        self._effects.append(Hangup(link))
        if line is None or line.state is LinkState.READY:
            if line is not None and refusal.code in NOT_AT_ONCE:
                # Somebody may introduce itself under our name: dialling anew at once would not end.
                self._back_off(line)
            happened = self._over(link, line)
            self._shown_out(refusal)
            return happened
        self._shown_out(refusal)
        if refusal.code == "self":
            self._dialling.reached_ourselves(line.endpoint)
        self._dialling.failed(link, line, refusal.code, refusal.text, now, refusal.retry_after)
        happened = Happened()
        elsewhere = refusal.code == "wrong-node" and line.to in self._table.peers
        if elsewhere and self._dialling.is_nowhere(line.to, line.endpoint):
            happened.replaced.append(line.to)
        return happened

    def _shown_out(self, refusal: Refused) -> None:
        """If no node has us any more, our program hears why."""
        if refusal.code in SHOWN_OUT and not self._table.joined:
            self._effects.append(JoinFailed(refusal.code, refusal.text))

    # ------------------------------------------------------------ how links end

    def confused(self, link: LinkId, reason: str, now: float) -> Happened:
        """What came over this link makes no sense: count it and end the link."""
        line = self._table.lines.get(link)
        if line is not None and line.state is not LinkState.READY:
            self._dialling.give_up(link, reason, now)
            return Happened()
        self._counters.count("rude-" + reason)
        self._journal.rings.refused(now, "rude-" + reason, b"" if line is None else line.peer)
        self._table.lines.pop(link, None)
        self._effects.append(Hangup(link))
        if line is not None:
            # What makes no sense now will be said again on the next link: let that take a while.
            self._back_off(line, CONFUSED_ATTEMPTS)
        return self._over(link, line)

    def offended(self, link: LinkId, peer: Peer, why: str, now: float) -> Happened:
        """A message contradicts what we know: it was refused, and nothing has changed. A peer that goes on
        like this is cut off for a while."""
        member, line = peer.member, self._table.lines.get(link)
        self._journal.rings.refused(now, "rude-" + why, member.id, member.name)
        if peer.offends() < RUDE_MAX or line is None:
            return Happened()
        if line.guest is not None:
            self._counters.count("rude-too-often")
            return self._end(link, Refused("role", "this token does not allow what you say"), now)
        return self.confused(link, "too-often", now)

    def show_out(self, now: float) -> list[Happened]:
        """End the links of guests that may not stay, and say why."""
        return [self._end(link, refusal, now) for link, refusal in self._guests.overdue(now)]

    def _end(self, link: LinkId, refusal: Refused, now: float) -> Happened:
        line = self._table.lines.pop(link)
        self._counters.count("refused-" + refusal.code)
        self._journal.tell(now, "shows out", detail=refusal.text)
        self._refuse(link, refusal)
        return self._over(link, line)

    def begin_again(self, link: LinkId, now: float) -> Happened:
        """A message before this one is missing: end the link, so that the peer sends all again."""
        self._counters.count("custody-gaps")
        line = self.leave(link, "something that you said is missing", code="gap")
        self._journal.tell(now, "missed something from", detail=line.peer)
        self._back_off(line)
        return self._over(link, line)

    def leave(self, link: LinkId, why: str, *, code: str = "forgotten") -> Line:
        """Stop listening on a link: what still comes over it has numbers of an older session, and would
        be taken for new. Regression: test_worlds_that_once_broke_a_promise[20015]."""
        line = self._table.lines.pop(link)
        if line.dialled:
            self._effects.append(Hangup(link))
        else:
            # Only the dialler can close the connection, and it may go on trusting it: so tell it.
            # Regression: test_worlds_that_once_broke_a_promise[23071].
            self._refuse(link, Refused(code, why))
        return line

    def _refuse(self, link: LinkId, refusal: Refused) -> None:
        self._effects += (Send(link, refusal), Hangup(link))

    def _back_off(self, line: Line, attempts: int = 1) -> None:
        """The next link with this peer may end for the same reason: let a while pass before it."""
        peer = self._table.peers.get(line.peer)
        if peer is not None:
            peer.back_off(attempts)

    def _over(self, link: LinkId, line: Line | None) -> Happened:
        """A link is gone. If it carried our messages, another one may be ready: when both peers dial at
        once, the two may choose differently for a moment. Without another the peer is cut off."""
        happened = Happened()
        peer = None if line is None else self._table.peers.get(line.peer)
        if line is None or peer is None or peer.link != link:
            return happened
        self._table.detach(line.peer)
        others = self._table.ready_lines(line.peer)
        if others:
            peer.link = others[0]
            self._sending.repeat(peer)
        else:
            happened.cut.append(line.peer)
        return happened

    def _is_told(self, link: LinkId) -> bool:
        """Was this link told before that we do not remember it? From now on it was. Everything that
        lies unread was said before the peer could know, and once is enough."""
        if link in self._unknown:
            return True
        self._unknown[link] = None
        if len(self._unknown) > UNKNOWN_LINKS_MAX:
            del self._unknown[next(iter(self._unknown))]
        return False

    # ------------------------------------------------------------ what we say

    def _say_hello(self, link: LinkId, line: Line) -> None:
        """Introduce ourselves. To an unknown listener this is only a question: our epoch with a
        peer means something only once we know which peer it is."""
        peer = self._table.peers.get(line.to)
        epoch = peer.epoch if peer is not None else 0
        versions, me = (PROTOCOL_VERSION, PROTOCOL_VERSION), self._table.view.me
        hello = Hello(versions, self._mesh, me, line.to, self._runtime, epoch, self._proof)
        self._effects.append(Send(link, hello))

    def _welcome_to(self, sender: Member, epoch: int) -> Welcome:
        """With the supernodes that a newcomer should know first: not all of the mesh."""
        view = self._table.view
        members = [view.members[peer] for peer in view.supers_near(sender.id, SUPERS_IN_WELCOME)]
        return Welcome(PROTOCOL_VERSION, view.me, sender.id, members, self._runtime, epoch)

    def _objection(self, hello: Hello) -> Refused | None:
        low, high = hello.versions
        me = self._table.view.me.id
        if not low <= PROTOCOL_VERSION <= high:
            return Refused(
                "version",
                f"this node speaks protocol {PROTOCOL_VERSION}, you speak {low} to {high}: "
                "upgrade the older side",
            )
        if hello.mesh != self._mesh:
            return Refused("mesh", "this node belongs to another mesh: check the key file")
        if hello.sender.id == me:
            return Refused("self", "this is your own address")
        if hello.to and hello.to != me:
            return Refused("wrong-node", "another process lives at this address now")
        return None

    def _crowded(self, hello: Hello, now: float) -> Refused | None:
        """Turns a leaf away that comes while too many others do. A node that only asks the way, a
        supernode and a client always get in."""
        sender = hello.sender
        if not hello.to or sender.role is not Role.PLAIN:
            return None
        if self._table.view.me.role is not Role.SUPER or self._table.is_ready(sender.id):
            return None
        wait = self._admission.retry_after(now)
        return Refused("busy", "too many come at once: ask again later", wait) if wait else None

    # ------------------------------------------------------------ which link carries our messages

    def _attach(self, link: LinkId, peer: Peer, member: Member, epoch: int, now: float) -> Happened:
        """A link is ready: let it carry our messages to the peer, unless a better one does."""
        happened = Happened()
        peer.member = member
        peer.is_not_dialled_by(link)
        if epoch < peer.their_epoch:
            return self._too_late(link, member.id, now)
        if peer.their_epoch and epoch > peer.their_epoch:
            peer.restart_session()
            happened.reset.append(member.id)
            for former in self._table.ready_lines(member.id):
                if former != link:
                    self.leave(former, "your numbers begin again")
        peer.their_epoch = epoch
        old = peer.link if peer.link in self._table.lines else None
        if old is not None and not self._is_better(link, old, member.id):
            self._close_if_ours(link)
            return happened
        peer.is_carried_by(link)
        self._sending.repeat(peer)
        if old is not None:
            self._close_if_ours(old)
        happened.up.append(member.id)
        return happened

    def _too_late(self, link: LinkId, peer_id: PeerId, now: float) -> Happened:
        """This introduction is from before the peer forgot us; a cut held it up."""
        self._counters.count("introductions-too-late")
        line = self.leave(link, "you have forgotten us since")
        if line.dialled:
            self._dialling.connect(peer_id, now)
        return self._over(link, line)

    def _is_better(self, link: LinkId, old: LinkId, peer_id: PeerId) -> bool:
        """Of two links with one peer the one dialled by the smaller id is better; of two that were
        dialled by the same side the newer."""
        dialled = self._table.lines[link].dialled
        if dialled == self._table.lines[old].dialled:
            return True
        return dialled == (self._table.view.me.id < peer_id)

    def _close_if_ours(self, link: LinkId) -> None:
        """Close a link that carries nothing. If the peer dialled it, the peer closes it."""
        if self._table.lines[link].dialled:
            del self._table.lines[link]
            self._effects.append(Hangup(link))


_HANDLERS: dict[
    type[Message], Callable[[Introductions, LinkId, Any, Line | None, float], Happened | None]
] = {
    Hello: Introductions._hello,
    Welcome: Introductions._welcome,
    Refused: Introductions._refused,
}
"""Each returns None where its message is out of place."""
