"""Every setting, its default, and the cost of changing it.

Decides nothing by itself. All times are seconds, all sizes octets. The defaults are for
machines in one room; `Config.wan()` is for links with tens of milliseconds between them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

MIB = 1 << 20
BEATS_TO_AN_OWNER_A_SECOND = 4000


@dataclass(frozen=True, slots=True)
class Config:
    """Knobs of one peer. Peers of one mesh need not agree on any of them.

    Raises ValueError when a value is out of its range (the message names field and range).
    """

    beat_seconds: float = 0.5
    """Between two heartbeats on a link. Shorter: deaths are noticed sooner; more messages (2 a beat and link)."""
    silence_seconds: float = 1.5
    """Without a sign of life a peer becomes suspect. At least 3 beats, or one lost beat is an alarm."""
    refute_seconds: float = 0.5
    """A suspect has this long to answer before it is taken for dead. Detection takes silence + refute."""
    stalled_lease_seconds: float = 2.5
    """How long a node that stands still while its connection holds keeps its leases after that was
    found out. Shorter: less waiting; more work done twice after a short pause."""
    stalled_seconds: float = 60.0
    """After this time it is taken for dead all the same."""
    doubt_seconds: float = 5.0
    """A supernode that suddenly hears nobody asks itself for so long before it believes that all the
    others are dead. Longer: one that was cut off alone passes fewer false verdicts; 0: it never doubts."""
    unobserved_seconds: float = 2.0
    """Leaves that hear no supernode serve as supernodes themselves after this long, one, then two, then four
    of them … each second; at once if all supernodes are known to be dead."""
    attach_a_second: float = 200.0
    """Leaves that a supernode lets in each second (and as many at once). More: a herd is in sooner; a
    supernode spends more of its time on introductions."""
    surplus_seconds: float = 600.0
    """How long there must be half again too many supernodes before one of them stops."""
    owner_patience_seconds: float = 60.0
    """How long a silent but connected client is waited for: its program may hold the interpreter lock."""
    owner_gone_seconds: float = 1.5
    """How long after its connection broke a client may come back before it becomes suspect; its jobs
    are dropped `refute_seconds` later. A living one redials within tenths of a second. Longer: the work
    of a killed program is in the way of others' for as much longer; shorter: one whose network
    falters has its work done again."""
    lease_seconds: float = 15.0
    """A lease that its holder does not name in its beats for this long is given to someone else.
    The backstop behind death detection: shorter means less waiting after an unforeseen fault,
    and more work done twice when a link is slow."""

    chunk_seconds_min: float = 0.001
    """The least a worker is handed at once. Shorter chunks share out more evenly and cost more messages."""
    chunk_seconds_max: float = 0.020
    """The most. Longer chunks cost fewer messages; a dying node loses up to this much work a worker."""
    fold_seconds_max: float = 0.100
    """The most of a reduction, whose partials nobody reads before the end: five times fewer
    messages while there is plenty to do; smaller towards the end like any other."""
    chunk_octets_max: int = 192 * 1024
    """A chunk whose results would be larger than this is cut shorter, so that a beat never waits long."""
    prefetch_seconds_max: float = 0.020
    """Chunks expected to be shorter than this are queued behind the running one, so that a worker
    never waits for its node. 0 switches prefetching off."""
    steal_seconds_min: float = 0.002
    """Work shorter than this is not worth moving to another node."""
    ask_tries: int = 2
    """Random victims asked before a thief leaves its name with its lifelines and falls silent."""
    ask_patience_seconds: float = 0.1
    """How long a thief waits for an answer before it asks someone else."""
    lifelines_max: int = 6
    """Fixed neighbours that remember a hungry node. More: faster spread, more leases outstanding."""

    hire_after_calls: int = 4
    """A program that has waited for this number of calls one by one hires a worker of its own host for the next.
    Fewer: programs that call twice hire for nothing, which costs a node a millisecond. 0: never, and such calls take
    five times as long."""

    partition: str = "progress"
    """What the lesser side of a cut does with its jobs. `progress`: everything that it can; after the
    healing results count once, but work may have been done on both sides. `majority`: those with
    fewer than half of the nodes that were there before lease nothing until the others are back, so
    next to nothing is done twice; but if more than half really die, everything waits for them."""
    replicas: int = 3
    """Copies of a durable job, its primary's included. Results count once two are held, so 3 survive
    any two deaths that are some seconds apart; more copies cost traffic, fewer safety."""
    slice_items: int = 1 << 20
    """A durable job of more items than this is cut into slices of this size (or the next power of two; a
    range into at most 17), each with a primary of its own. Smaller: the results of one job are spread over
    more supernodes; more primaries that each holder speaks with."""
    keep_octets_max: int = 1024 * MIB
    """Inputs and results of durable jobs that one node keeps (memory, and as much on disk, three
    times that for moments). Beyond it collected results go first, then work waits for room and new
    jobs are refused."""
    keep_seconds: float = 86400.0
    """How long results of an ended durable job wait to be collected. Longer: more of them at a time."""
    custody_seconds: float = 1.0
    """How long a new primary waits for holders to say what they have, before it leases out what
    nobody claims. Shorter: sooner under way again; more done twice when a holder is slow to answer."""
    lone_replica_seconds: float = 10.0
    """How long a replica waits for others that must have been there, before it goes on with the
    copy it has. Longer: a mesh that starts slowly after a full stop repeats less; a real loss of
    two replicas at once is a longer standstill."""
    rebuild_seconds: float = 20.0
    """How long no replica of a durable job may be heard before another node becomes its primary, with
    what holders and submitters have of it (at most half of primary_patience_seconds). Shorter: less of a
    standstill; after a full stop more is done twice when their machines come back late."""
    spare_octets_max: int = 64 * MIB
    """Results of durable jobs that a node keeps although others hold them safely, and inputs that a
    client keeps: what a lost job is rebuilt from. Beyond it the oldest go."""
    primary_patience_seconds: float = 60.0
    """How long a durable job without a primary is looked for, by its holders and its clients, before
    it is taken for lost."""

    store_memory_octets: int = 0
    """Values that this process keeps in memory (0: 30 % of its host's memory). Beyond it copies go that
    nothing here needs, then values go to disk. Less: more of them come twice, or from disk."""
    inline_octets: int = 64 * 1024
    """Of a program: results of `submit` with more octets stay on the node that made them until they are asked for.
    Less: small results, too, take one more round trip when they are asked for; more: larger ones travel to
    the program although the next task may need them elsewhere, or nobody."""
    pending_calls_max: int = 1_000_000
    """Of a program: calls of `submit` that are not over. Beyond it `submit` waits until some are. More: a larger graph
    at once, for about 720 octets a call beside its arguments; less: a program that submits sooner waits sooner."""
    store_disk_octets: int = 0
    """Values that it keeps on disk (0: half of what is free there when it begins; 1: none). Beyond it
    `scatter` is refused, and a node waits until work that has values ends."""

    links_max: int = 1024
    """Connections that this peer opens itself; the least recently used idle one goes first, never one with a node that
    holds work of ours."""
    dial_backoff_seconds_max: float = 5.0
    """Redialling waits a random time up to 50 ms, 100 ms, 200 ms … this much (full jitter)."""
    unacked_octets_max: int = 32 * MIB
    """Results that an owner has not acknowledged. Beyond it a node starts no more work for that owner."""
    functions_octets_max: int = 4 * MIB
    """Shipped functions that a node keeps although no job needs them; the least recently used goes
    first. More: a large one that comes again soon need not travel again."""
    story_lines_max: int = 4096
    """How much of its own history a node can tell."""
    journal_chunks_max: int = 8192
    """Chunks that a node remembers for `stealmesh events` and `trace`. More: a longer past, for 300 octets
    each (8,192 are half a minute of eight busy workers); 0: none, and nothing is written."""
    journal_entries_max: int = 512
    """The same for steals, values, deaths, verdicts, members, refusals and leases, each; 0: none, and the node
    does not say on its terminal who came and went."""

    def owner_beat_seconds(self, nodes: int) -> float:
        """Between two beats of a holder to the owner of its work. Whether a node lives is for its
        observers to say; an owner only wants to hear what it holds, and there may be ten thousand."""
        most = max(self.beat_seconds, self.lease_seconds / 4)
        return min(max(self.beat_seconds, nodes / BEATS_TO_AN_OWNER_A_SECOND), most)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _CHOICES:
                if value not in _CHOICES[field.name]:
                    choices = " or ".join(_CHOICES[field.name])
                    raise ValueError(f"{field.name} must be {choices}, not {value!r}")
                continue
            may_be_0 = field.name in _MAY_BE_ZERO
            number = not isinstance(value, bool) and isinstance(value, int | float)
            # Asked this way round it refuses nan, too, which is not below anything.
            if not number or not value >= (0 if may_be_0 else 1e-9):
                wanted = "of 0 or more" if may_be_0 else "above 0"
                raise ValueError(f"{field.name} must be a number {wanted}, not {value!r}")
        if self.silence_seconds < 2 * self.beat_seconds:
            raise ValueError("silence_seconds must be at least 2 * beat_seconds")
        if self.chunk_seconds_max < self.chunk_seconds_min:
            raise ValueError("chunk_seconds_max must not be below chunk_seconds_min")

    @property
    def orphan_seconds(self) -> float:
        """Within this time a leaf that has lost an observer comes to a new one, or it becomes suspect. Longer: after a
        catastrophe the dead are found later; shorter: on busy machines the living are accused."""
        return 2 * self.beat_seconds

    @property
    def rebuild_after_seconds(self) -> float:
        return min(self.rebuild_seconds, self.primary_patience_seconds / 2)

    @classmethod
    def lan(cls) -> Config:
        return cls()

    @classmethod
    def wan(cls) -> Config:
        """For tens of milliseconds of latency: slower verdicts, larger pieces."""
        return replace(
            cls(),
            beat_seconds=1.0,
            silence_seconds=4.0,
            refute_seconds=2.0,
            steal_seconds_min=0.1,
            ask_patience_seconds=1.0,
        )


_CHOICES = {"partition": ("progress", "majority")}
_MAY_BE_ZERO = frozenset(
    {
        "doubt_seconds",
        "stalled_lease_seconds",
        "prefetch_seconds_max",
        "steal_seconds_min",
        "store_memory_octets",
        "store_disk_octets",
        "inline_octets",
        "journal_chunks_max",
        "journal_entries_max",
        "hire_after_calls",
    }
)
