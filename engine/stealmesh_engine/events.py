"""What a node can be told. Every event enters through ``NodeCore.step(now, event)``.

An event states a fact about the world; it never asks for a particular reaction. Four
sources: time, the links, the workers, and the program that embeds the node. Times are
seconds of the host's monotonic clock; blobs are opaque bytes that the engine never opens.
"""

from __future__ import annotations

import msgspec

from stealmesh_protocol.ids import Digest, JobId, LeaseId, PeerId, ValueId
from stealmesh_protocol.messages import Block, JobSpec, Keep, Message, Part, Topic
from stealmesh_protocol.passes import KeyRole
from stealmesh_protocol.stacks import WorkerStacks

LinkId = int
"""One connection, as the host numbers it; never used again."""


# ---------------------------------------------------------------- time and life


class Tick(msgspec.Struct):
    """The moment that ``next_deadline()`` named has come (or passed)."""


class Join(msgspec.Struct):
    """Dial these addresses until one answers; with none, be the first node of a mesh."""

    seeds: list[str]
    remembered: list[str] = msgspec.field(default_factory=list)
    """Where an earlier life of ours knew peers: tried first, a few at a time, and given up once joined."""


class Drain(msgspec.Struct):
    """Leave in order: return what is untouched, finish what runs, then say goodbye."""


# ---------------------------------------------------------------- links


class LinkUp(msgspec.Struct):
    """A connection that we dialled is open and encrypted; nothing has been said on it yet."""

    link: LinkId


class LinkDown(msgspec.Struct):
    """A connection, dialled or accepted, is gone or never came to be."""

    link: LinkId
    reason: str = ""


class Heard(msgspec.Struct):
    """A message came in. An unknown `link` is a new accepted connection: its first must be HELLO."""

    link: LinkId
    message: Message
    seq: int = 0
    ack: int = 0
    octets: int = 0
    """Size on the wire, for budgets; 0 where the host does not know."""


class CannotSay(msgspec.Struct):
    """A Send effect could not be carried out, ever; under its number `instead` was said."""

    link: LinkId
    message: Message
    seq: int
    instead: Message
    why: str


class Garbled(msgspec.Struct):
    """Bytes came in on `link` that are no message; `reason` says why, for the counters."""

    link: LinkId
    reason: str


class Probed(msgspec.Struct):
    """The outcome of a Probe effect: does anything listen at that endpoint?"""

    endpoint: str
    listening: bool | None
    """False is a proof of absence (connection refused); None says nothing (no answer in time)."""


class CameBy(msgspec.Struct):
    """An accepted link was made with another key than the mesh key of today. Comes before its first Heard."""

    link: LinkId
    role: KeyRole
    until: float = 0.0
    """The key counts until then, in seconds since 1970; 0: its pass says it."""


class BarTokens(msgspec.Struct):
    """Tokens of these names count no more: our disk or our program says so."""

    names: list[str]


# ---------------------------------------------------------------- workers


class WorkerReady(msgspec.Struct, repr_omit_defaults=True):
    """A worker process can take work (at the start, or in place of one that was lost)."""

    worker: int
    relief: bool = False
    """It was started by a Relieve effect."""


class ChunkDone(msgspec.Struct):
    """A worker is through with a chunk of an indexed job: the blob covers exactly its items up to
    `upto`, from where the ChunkPart before it ended. What is behind that was not begun."""

    worker: int
    chunk: int
    codec: int
    blob: bytes
    seconds: float
    failed: int = 0
    upto: int | None = None
    """None: to the end of what it was left with."""
    stays: tuple[tuple[int, int], ...] = ()
    """Items whose results the host keeps, with their octets, until a KeepMade says what becomes of each."""


class ChunkPart(msgspec.Struct):
    """A worker was asked and goes on: the blob covers exactly its chunk's items up to `upto` (none of them
    if nothing is new), and those from `kept` on were not begun and are ours again."""

    worker: int
    chunk: int
    codec: int
    blob: bytes
    seconds: float
    failed: int
    upto: int
    kept: int
    stays: tuple[tuple[int, int], ...] = ()


class BagStep(msgspec.Struct):
    """A worker took stock of an explore bag between two visits (and goes on, unless `remaining` is 0).

    `spares` are parts of the bag that it gave up so that others can have them: (items, blob).
    """

    worker: int
    chunk: int
    partial: bytes
    rest: bytes
    remaining: int
    items: int
    seconds: float
    spares: list[tuple[int, bytes]] = msgspec.field(default_factory=list)
    failed: int = 0


class WorkerLost(msgspec.Struct):
    """A worker process ended; the chunks queued behind its running one come back untouched.

    `running` is the chunk that it was busy with, None if it was idle. `blame` is true when
    that chunk must be suspected of the death, false when we ordered it (a cancelled item).
    """

    worker: int
    running: int | None
    reason: str
    blame: bool = True
    retired: bool = False
    """It ended itself after the number of tasks that it was meant to do."""
    output: str = ""
    """What the item that ran printed last."""


class HireEnded(msgspec.Struct):
    """A hired worker is its node's again. It comes before the word of its death, if that is how it ended."""

    worker: int
    chunk: int
    """The number that the hire had here; the item has it from now on."""
    lid: LeaseId = 0
    item: int = -1
    """What the worker has begun and not answered: it answers to its node. -1: nothing."""


class ItemTold(msgspec.Struct):
    """A task says how far it is with an item of the chunk (`total` -1: of how much it does not know).

    A hint: it may be about an item that is over."""

    worker: int
    chunk: int
    item: int
    done: float
    total: float


class ItemsPrinted(msgspec.Struct):
    """Lines that the items [lo, hi) of the chunk have printed, one of them or several; `dropped` more are missing
    behind them. Chunk 0: it is not known which did, or something does that an item has left running."""

    worker: int
    chunk: int
    lo: int
    hi: int
    text: bytes
    dropped: int = 0


class SideReady(msgspec.Struct):
    """The process in which a worker runs chunks side by side is up, with what was ordered before. It starts
    with the first order, and with the first after a SideLost."""

    worker: int


class SideLost(msgspec.Struct):
    """The process ended in which a worker runs chunks side by side. It was busy with those in `running`; what
    else was ordered to run there comes back untouched. The worker itself goes on, with another process.

    `blame` is true when these chunks must be suspected of the death.
    """

    worker: int
    running: list[int]
    reason: str
    blame: bool = True
    retired: bool = False
    output: str = ""
    """What the item that ran printed last, if it was alone."""


class SideRetracted(msgspec.Struct):
    """The answer to a RetractSide effect: these had not begun and are ours again."""

    worker: int
    chunks: list[int]


class TaskNests(msgspec.Struct):
    """A task of this chunk has a mesh of its own: it may have children that others could run."""

    worker: int
    chunk: int


class TaskWaits(msgspec.Struct):
    """The chunk's task waits for children that other workers run, and needs no core; or it goes on."""

    worker: int
    chunk: int
    waits: bool


class Retracted(msgspec.Struct):
    """The answer to a Retract effect: this chunk was still unread and is ours again (None: too late)."""

    worker: int
    chunk: int | None


# ---------------------------------------------------------------- the log of a replica


class Recall(msgspec.Struct):
    """There is a log, under this name; it has these records. Comes before Join, if at all.

    `lost`: the number of places where it is damaged, and had records that others count on. Its name is a new
    one then, which is in nobody's list of seats."""

    seat: bytes
    records: list[Keep] = msgspec.field(default_factory=list)
    lost: int = 0


class Written(msgspec.Struct):
    """Everything that was to be written up to this ticket is on the disk."""

    ticket: int


# ---------------------------------------------------------------- values that live on the mesh


class PieceRead(msgspec.Struct):
    """The answer to a ReadPiece; the blob is empty if the value is not there."""

    value: ValueId
    at: int
    blob: bytes | memoryview
    peer: PeerId


class Adopted(msgspec.Struct):
    """The answer to an Adopt: is all of the value here now?"""

    value: ValueId
    peer: PeerId
    whole: bool


class NoRoom(msgspec.Struct):
    """A value cannot be held here: `why` is for people."""

    value: ValueId
    why: str


# ---------------------------------------------------------------- the embedding program


class KeepValue(msgspec.Struct):
    """The program puts a value on the mesh; its octets are with the host, and stay there until a
    ForgetValue."""

    value: ValueId
    octets: int


class ReleaseValue(msgspec.Struct):
    """Nothing of the program's needs this value any more."""

    value: ValueId


class ForgetRecipe(msgspec.Struct):
    """Nothing is made of this result that may have to be made again, and nothing of the program needs it, or the
    program has it itself by now."""

    value: ValueId


class WantValue(msgspec.Struct):
    """The program wants this value to be here. A ValueCame answers."""

    value: ValueId


class OpenJob(msgspec.Struct):
    """The program starts a job; this node owns it and keeps its ledger.

    `total` items are known at once for a range; block-fed jobs start at 0 and grow by Feed.
    `released` is how far a range may be leased for now (back-pressure); Release moves it.
    """

    spec: JobSpec
    total: int = 0
    released: int = 0
    open_ended: bool = False
    """More may come: the job cannot be complete before CloseInput."""
    functions: dict[Digest, bytes] = msgspec.field(default_factory=dict)
    """The bytes behind the digests in the spec."""
    speculate: bool = False
    """The last stragglers of a map, or of calls, are lent to a second node."""


class Feed(msgspec.Struct):
    """The next items of a block-fed job: [block.lo, block.hi) directly follows what came before."""

    job: JobId
    block: Block
    blob: bytes
    inputs: tuple[tuple[JobId, int], ...] = ()
    """Items (job, index) of this program's jobs that were fed before: their results go into this one (`given.py`)."""


class Release(msgspec.Struct):
    """Items below `upto` may be leased out now."""

    job: JobId
    upto: int


class CloseInput(msgspec.Struct):
    """Nothing will be fed to this job any more."""

    job: JobId


class HireCame(msgspec.Struct):
    """The host has found a hired worker, or not."""

    hire: int
    job: JobId
    here: bool


class HiredAnswer(msgspec.Struct):
    """A hired worker has done an item: a report of its node that came another way."""

    hire: int
    job: JobId
    node: PeerId
    part: Part
    blob: bytes


class HireReadOut(msgspec.Struct):
    """All that this hired worker has said has been told; no more will come."""

    hire: int
    job: JobId


class CancelItems(msgspec.Struct):
    """The program does not want these items any more; their results will be dropped and counted."""

    job: JobId
    intervals: list[tuple[int, int]]
    stop: bool = False
    """Those that run are stopped, and so are their workers if need be."""
    fail: bool = False
    """Their futures have failed with TaskStopped: so does what waits for them. Otherwise that is cancelled."""


class CancelJob(msgspec.Struct):
    """The program does not want this job any more."""

    job: JobId
    stop: bool = False
    """What still runs of it is stopped."""


class LaunchJob(msgspec.Struct):
    """The program starts a durable job; a node is to be its home."""

    spec: JobSpec
    total: int = 0
    functions: list[bytes] = msgspec.field(default_factory=list)
    """The bytes behind the function, the combiner and the code of the spec, in this order."""


class SupplyJob(msgspec.Struct):
    """The next items of a durable job; the last call has `closed` and may have no items."""

    job: JobId
    block: Block | None = None
    blob: bytes = b""
    closed: bool = False


class AttachJob(msgspec.Struct):
    """The program wants to hear of a durable job that was launched by somebody."""

    job: JobId


class FetchResults(msgspec.Struct):
    """The program has everything below `lo`; with `want` it waits for what follows."""

    job: JobId
    lo: int
    want: bool = True


class AskOutput(msgspec.Struct):
    """The program wants to read what this item of a durable job has printed; perhaps there is no answer."""

    job: JobId
    item: int


class AbolishJob(msgspec.Struct):
    """Nobody is to work on this durable job any more; its results are not wanted."""

    job: JobId
    stop: bool = False
    """What still runs of it is stopped."""


class LeaveJob(msgspec.Struct):
    """The program has the results of this durable job below `lo`, and follows it no longer."""

    job: JobId
    lo: int


class AskStatus(msgspec.Struct):
    """The program wants a snapshot of the mesh; a StatusReady effect answers with the same nonce."""

    nonce: int


class AskLook(msgspec.Struct):
    """The program wants to know what has become of a job or an item, or what workers are at; a LookReady effect
    answers with the same nonce."""

    nonce: int
    topic: Topic
    job: JobId = b""
    item: int = -1
    peer: PeerId = b""
    """Only this node is asked; empty: all."""


class AskCallOff(msgspec.Struct):
    """The program wants another program's job to end; a LookReady effect answers with the same nonce. If that program
    has done it, its own answer is there, and owns the job."""

    nonce: int
    job: JobId


class StacksTaken(msgspec.Struct):
    """What the host has of the stacks of our workers: the answer to TakeStacks, as far as they answered."""

    ticket: int
    workers: list[WorkerStacks]


class AskJournals(msgspec.Struct):
    """The program wants the next page of nodes' journals; a JournalsReady effect answers."""

    nonce: int
    since: dict[PeerId, int] = msgspec.field(default_factory=dict)
    """Where to go on at each node; other nodes begin with what they have."""
    kinds: int = 0
    """A set of bits, one a kind of entry; 0: all."""
    octets: int = 65536
    """Of each page."""
    only: list[PeerId] | None = None
    """These nodes; None: all of them."""
    named: str = ""
    """Only nodes with this name."""


class HostNoted(msgspec.Struct):
    """The host has seen something for the journal that the core cannot see: its fork server died, or it
    turned strangers away. `kind` is a RingKind."""

    kind: int
    what: str
    count: int = 1
    aloud: bool = True
    """A person at this node wants to know."""


Event = (
    Tick | Join | Drain
    | LinkUp | LinkDown | CameBy | Heard | CannotSay | Garbled | Probed | BarTokens
    | WorkerReady | ChunkDone | ChunkPart | BagStep | WorkerLost | SideReady | SideLost
    | SideRetracted | Retracted | ItemTold | ItemsPrinted | TaskNests | TaskWaits
    | HireEnded | HireCame | HiredAnswer | HireReadOut
    | Recall | Written
    | PieceRead | Adopted | NoRoom | KeepValue | ReleaseValue | ForgetRecipe | WantValue
    | LaunchJob | SupplyJob | AttachJob | FetchResults | AskOutput | AbolishJob | LeaveJob
    | OpenJob | Feed | Release | CloseInput | CancelItems | CancelJob | AskStatus
    | AskLook | AskCallOff | StacksTaken | AskJournals | HostNoted
)  # fmt: skip
