"""Tells in plain words what happens in a virtual world: one line an event or message that matters.

Decides what is worth a line and how it is said. Refuses to know the stories (`stories`). After the
`testdata` of etcd's raft.

A message is told when it is sent. What a core writes into its journal is told as it stands there,
with names in the place of ids; the journal's verbs were chosen to be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.effects import Send
from stealmesh_protocol import messages as m
from stealmesh_protocol.ids import PeerId
from stealmesh_sim.checkers import Checkers
from stealmesh_sim.network import Latency, Network, Station
from stealmesh_sim.process import Process
from stealmesh_sim.world import World

CHATTER: frozenset[type[m.Message]] = frozenset(
    {m.Hello, m.Welcome, m.Beat, m.Ack, m.Digests, m.Around, m.Nothing, m.Sated, m.Closed,
     m.FnGet, m.FnPut, m.Seek, m.Fetch, m.Supply, m.Settled, m.KeptUpto}
)  # fmt: skip
"""Messages that no story shows unless it asks for them."""

UNTOLD = frozenset(
    {"talks to", "granted", "received", "gave", "split", "let go", "leads", "opened", "declined",
     "lost the link with", "was forgotten by", "is not heard by", "claims from",
     "missed something from", "says goodbye", "does without", "got back", "waits no longer for", "complete"}
)  # fmt: skip
"""Journal entries that a message or another entry says as well."""

PHRASES = {
    "suspects": "suspects {about}, which is silent",
    "doubts itself": "doubts itself: {about} are silent",
    "declares dead": "declares {about} dead ({why})",
    "refutes": "hears that it is dead, and refutes it ({about})",
    "serves as a supernode": "serves as a supernode ({about})",
    "worker died": "loses a worker that was busy with {about} ({lease})",
    "fenced": "fences {about}: what it reports under its leases does not count any more",
    "accedes": "becomes the job's primary ({lease})",
    "closed": "drops what it has of the job",
    "expired": "takes {lease} back from {about}: it has run out",
}
"""How a journal entry is said: `about` is its subject or its detail."""

ONE_MOMENT_SECONDS = 0.002

GATHERED: dict[type[m.Message], str] = {
    m.Report: "reports to {{to}}: {} done",
    m.Keep: "sends {{to}}, to keep: the results of {}",
    m.Fetched: "sends {{to}} the results of {}",
}

STATES = {m.PeerState.DEAD: "dead", m.PeerState.LEFT: "gone in order"}
FINDINGS = {
    m.Finding.HEARD: "it hears {0}",
    m.Finding.SILENT: "{0} is silent",
    m.Finding.STALLED: "{0} stands still",
}
STANDINGS = {
    m.Standing.LEADS: "it is the job's primary",
    m.Standing.KEEPS: "it has a replica of the job",
    m.Standing.GONE: "the job is over",
}


@dataclass(slots=True)
class Line:
    """One line of a transcript. `text` has a place {to} for the receivers."""

    at: float
    who: str
    text: str
    to: list[str] = field(default_factory=list)
    message: str = ""
    """The name of the message, for readers who want to find it in the code."""
    gathered: dict[int, IntervalSet] = field(default_factory=dict)
    """Lease (0: none) → items, of a line that later lines of its kind are added to."""

    def written(self) -> str:
        said = self.text.replace("{to}", listed(self.to))
        tail = f"  [{self.message}]" if self.message else ""
        return f"{self.at:8.3f}  {self.who:<6} {said}{tail}"


class Narrator:
    """Collects the lines of one story."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hidden: frozenset[type[m.Message]] = CHATTER
        self.lines: list[Line | str] = []
        """A string is a remark between the lines."""
        self.zero: float | None = None
        """When the story began; None: not yet, so nothing is told."""
        self._leases: dict[int, int] = {}
        self._asked: dict[tuple[str, int], Line] = {}
        """(thief, nonce) → the line of its request."""
        self._news: set[tuple[str, PeerId, int, int]] = set()
        self._journals: dict[int, int] = {}
        """Process → how many entries of its journal were seen."""
        world.checkers = _Eavesdropper(world, self)
        world.network = _TappedNetwork(world, self)

    # ------------------------------------------------------------ telling

    def tell(self, who: str, text: str, to: str = "", message: str = "") -> None:
        """Add a line. Lines of one moment that differ in the receiver alone become one."""
        line = self._line(who, text, to, message)
        if line is None:
            return
        for before in reversed(self.lines):
            if isinstance(before, str) or line.at - before.at > ONE_MOMENT_SECONDS:
                break
            same = (before.who, before.text, before.message) == (who, text, message)
            if same and to and before.to:
                if to not in before.to:
                    before.to.append(to)
                return
        self.lines.append(line)

    def remark(self, text: str) -> None:
        self.lines.append(text)

    def _line(self, who: str, text: str, to: str, message: str) -> Line | None:
        if self.zero is None:
            return None
        return Line(self.world.now - self.zero, who, text, [to] if to else [], message)

    # ------------------------------------------------------------ names

    def name(self, peer: PeerId) -> str:
        found = (p.name for p in self.world.processes if p.member.id == peer)
        return next(found, "somebody")

    def lease(self, lid: int) -> str:
        """Leases are numbered in the order in which the story meets them."""
        return f"lease {self._leases.setdefault(lid, len(self._leases) + 1)}"

    def parts(self, parts: Iterable[m.Lease | m.Part]) -> str:
        return listed([f"{items(p.lo, p.hi)} ({self.lease(p.lid)})" for p in parts])

    # ------------------------------------------------------------ what a core notes

    def noted(self, process: Process) -> None:
        """Tell what this process has written into its journal since the last look."""
        journal = process.core.journal
        seen = self._journals.get(process.number, 0)
        self._journals[process.number] = journal.told
        if journal.told == seen or self.zero is None:
            return
        for _, what, _, lid, detail in list(journal._lines)[seen - journal.told :]:
            if what not in UNTOLD:
                self.tell(process.name, self._entry(what, lid, detail))

    def _entry(self, what: str, lid: int, detail: object) -> str:
        """An entry as a sentence; without a phrase for it, as the journal has it."""
        if isinstance(detail, bytes):
            about = self.name(detail)
        elif isinstance(detail, tuple) and all(isinstance(each, int) for each in detail):
            about = items(*detail)
        else:
            about = str(detail)
        what, _, why = what.removesuffix(")").partition(" (")
        lease = "" if not lid else self.lease(lid) if lid >> 32 else f"term {lid}"
        if what in PHRASES:
            return PHRASES[what].format(about=about, lease=lease, why=why)
        more = "".join(f" ({each})" for each in (why, lease) if each)
        return f"{what} {about}".rstrip() + more

    # ------------------------------------------------------------ what is said

    def sent(self, sender: Station, target: Station, message: m.Message) -> None:
        kind = type(message)
        if self.zero is None or kind in self.hidden:
            return
        if isinstance(message, m.Steal):
            line = self._line(sender.name, "asks {to} for work", target.name, "Steal")
            if line is not None and not message.standing:
                self._asked[sender.name, message.nonce] = line
            return
        if isinstance(message, m.Grant | m.Split):
            thief = target.name if isinstance(message, m.Grant) else self.name(message.thief)
            self._tell_request(thief, message.nonce)
        about = _gathered(message)
        if about:
            self._gather(sender.name, target.name, kind, about)
            return
        text = self._said(sender.name, message)
        if text:
            self.tell(sender.name, text, target.name, kind.__name__)

    def _tell_request(self, thief: str, nonce: int) -> None:
        """A request is told, in its place, once something came of it: most find nothing."""
        line = self._asked.pop((thief, nonce), None)
        if line is None:
            return
        place = len(self.lines)
        while place and isinstance(before := self.lines[place - 1], Line) and before.at > line.at:
            place -= 1
        self.lines.insert(place, line)

    def _gather(
        self, sender: str, target: str, kind: type[m.Message], about: list[tuple[int, int, int]]
    ) -> None:
        """Results that flow become one line for each sender, at the time of the last message."""
        gathered: dict[int, IntervalSet] = {}
        receivers = [target]
        for place in range(len(self.lines) - 1, -1, -1):
            line = self.lines[place]
            if isinstance(line, str) or not line.gathered:
                break
            same = (line.who, line.message) == (sender, kind.__name__)
            if same and (kind is m.Keep or line.to == receivers):
                gathered, receivers = line.gathered, sorted({*line.to, target})
                del self.lines[place]
                break
        for lid, lo, hi in about:
            gathered.setdefault(lid, IntervalSet()).add(lo, hi)
        what = listed(
            [
                ranges(some) + (f" ({self.lease(lid)})" if lid else "")
                for lid, some in gathered.items()
            ]
        )
        added = self._line(sender, GATHERED[kind].format(what), "", kind.__name__)
        if added is not None:
            added.to, added.gathered = receivers, gathered
            self.lines.append(added)

    def _said(self, sender: str, said: m.Message) -> str:
        """The sentence for a message; empty: it is not worth one."""
        match said:
            case m.Grant():
                return f"grants {{to}} {self.parts(said.leases)}"
            case m.Split():
                thief = self.name(said.thief)
                return f"asks {{to}} to move {self.parts(said.parts)} to {thief}"
            case m.Report():
                return f"reports to {{to}}: {self._finished(said.parts)}"
            case m.Returned():
                return f"hands back to {{to}}: {self.parts(said.parts)}"
            case m.Declined():
                return f"cannot run, and tells {{to}}: {self.parts(said.parts)}"
            case m.Revoked():
                return (
                    f"tells {{to}}: {listed([self.lease(lid) for lid in said.lids])} is not yours"
                )
            case m.Withdraw():
                return f"tells {{to}} not to run {ranges(said.intervals)}"
            case m.Closed():
                return "tells {to} that the job is over"
            case m.FnGet():
                return "asks {to} for the function"
            case m.FnPut():
                return "sends {to} the function"
            case m.Bye(reason="idle"):
                return ""  # an unused link is closed
            case m.Bye():
                return f"says goodbye to {{to}}{': ' * bool(said.reason)}{said.reason}"
            case m.Vote():
                finding = FINDINGS[said.finding].format(self.name(said.subject))
                return f"tells {{to}} that {finding}"
            case m.Promote():
                return "asks {to} to serve as a supernode"
            case m.View():
                return self._membership(sender, said)
        return self._said_of_durable(said)

    def _said_of_durable(self, said: m.Message) -> str:
        match said:
            case m.Launch():
                again = " again, as no replica is left" if said.spec.term else ""
                return f"asks {{to}} to look after a durable job{again}"
            case m.Accepted():
                whole = "the whole job is safe" if said.closed else f"{said.upto} items are safe"
                return f"tells {{to}}: {said.refusal or whole}"
            case m.Here():
                why = f" ({said.why})" if said.why else ""
                return f"tells {{to}} that {STANDINGS[said.standing]}{why}"
            case m.Keep():
                state = f"that the job is over ({said.state})" if said.state else "the job"
                return f"sends {{to}}, to keep: {state}, and who has a replica of it"
            case m.KeptUpto():
                return "tells {to} that it has this on disk"
            case m.Offer():
                return f"tells {{to}} that its replica has the results of {ranges(said.covered)}"
            case m.Pull():
                return f"asks {{to}} for the results of {ranges(said.results)}"
            case m.Forget():
                return "tells {to} to forget the job"
            case m.Claim():
                has = [self.parts(said.leases), self._finished(said.parts) if said.parts else ""]
                return f"tells {{to}} what it has: {listed(list(filter(None, has))) or 'nothing'}"
            case m.Fetch():
                return "asks {to} for results"
        return ""

    def _finished(self, parts: Iterable[m.Part]) -> str:
        told = []
        for part in parts:
            how = "failed" if part.failed == part.hi - part.lo else "done"
            told.append(f"{items(part.lo, part.hi)} {how} ({self.lease(part.lid)})")
        return listed(told)

    def _membership(self, sender: str, said: m.View) -> str:
        """What is new in a view, the first time that the sender tells anybody."""
        told = []
        for member in said.members:
            news = sender, member.id, int(member.state), member.incarnation
            state = STATES.get(member.state)
            if state is None and member.incarnation > 1 and self.name(member.id) == sender:
                state = "alive" if member.workers else "leaving"
            if state is not None and news not in self._news:
                self._news.add(news)
                told.append(f"{self.name(member.id)} is {state}")
        return f"tells {{to}}: {listed(told)}" if told else ""


class _Eavesdropper(Checkers):
    """Checkers that also show the narrator each journal, before the effects of a step."""

    def __init__(self, world: World, narrator: Narrator) -> None:
        super().__init__(world)
        self._narrator = narrator

    def audit(self, process: Process) -> None:
        super().audit(process)
        self._narrator.noted(process)


class _TappedNetwork(Network):
    """A network that shows the narrator each message."""

    def __init__(self, world: World, narrator: Narrator) -> None:
        super().__init__(world, Latency(), world.network.rng)
        self._narrator = narrator

    def send(self, process: Station, effect: Send) -> None:
        end = process.ends.get(effect.link)
        if end is not None:
            connection, side = end
            self._narrator.sent(process, connection.pipes[side].target, effect.message)
        super().send(process, effect)


# ---------------------------------------------------------------- words


def _gathered(said: m.Message) -> list[tuple[int, int, int]]:
    """Lease (0: none), lo and hi of results that flow; empty: the message is worth a line of its own."""
    match said:
        case m.Report() if not any(part.failed for part in said.parts):
            return [(part.lid, part.lo, part.hi) for part in said.parts]
        case m.Keep() | m.Fetched():
            return [(0, kept.lo, kept.hi) for kept in said.results]
    return []


def items(lo: int, hi: int) -> str:
    """The half-open interval [lo, hi) for people."""
    return f"item {lo}" if hi - lo == 1 else f"items {lo} to {hi - 1}"


def ranges(intervals: Iterable[tuple[int, int]]) -> str:
    return listed([items(lo, hi) for lo, hi in IntervalSet(intervals)]) or "no items"


def listed(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
