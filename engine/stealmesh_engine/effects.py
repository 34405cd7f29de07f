"""What a node answers. A host performs effects in list order; each says what it owes.

Performing an effect never re-enters the core: its outcome comes back as a later event.
"""

from __future__ import annotations

import msgspec

from stealmesh_engine.events import LinkId
from stealmesh_protocol.accounts import NO_WORD, Viewstamp
from stealmesh_protocol.ids import JobId, PeerId, ValueId
from stealmesh_protocol.journal_messages import JournalEntry, JournalPage
from stealmesh_protocol.messages import Block, JobLine, JobSpec, Keep, Kept, Lease, Message, Part

# ---------------------------------------------------------------- links


class Dial(msgspec.Struct):
    """Connect to `endpoint` as `link`. Owes LinkUp or LinkDown."""

    link: LinkId
    endpoint: str


class Hangup(msgspec.Struct):
    """Close `link` after what was sent on it has gone out. Owes nothing; its messages are ignored."""

    link: LinkId


class Send(msgspec.Struct):
    """Put a message on `link`, behind those before it. Owes nothing: it may be lost with the link.

    seq 0 marks a control message, which may overtake custody messages that wait for the wire.
    """

    link: LinkId
    message: Message
    seq: int = 0
    ack: int = 0


class Probe(msgspec.Struct):
    """Find out whether anything listens at `endpoint`. Owes Probed."""

    endpoint: str


class KeepBarred(msgspec.Struct):
    """Remember the names of all revoked tokens for the next life. Owes nothing."""

    names: list[str]


# ---------------------------------------------------------------- workers


class RunChunk(msgspec.Struct):
    """Queue a chunk for a worker. Owes ChunkDone, perhaps after some ChunkParts (explore: BagSteps, the
    last with remaining 0), or WorkerLost.

    Items come from the job's range, or from `blocks` (each with its blob); of these the worker
    takes those in [lo, hi); for an explore job `blocks` has the bag's one blob.
    """

    worker: int
    chunk: int
    spec: JobSpec
    lo: int
    hi: int
    blocks: list[tuple[Block, bytes]]
    function: bytes
    """The shipped bytes behind spec.function; a host sends them to each worker once."""
    combine: bytes = b""
    """Likewise behind spec.combine; empty when the spec names none."""
    code: bytes = b""
    """Likewise behind spec.code. A worker that has imported from another bundle must not run this."""
    side: bool = False
    """It begins at once, beside others, in a process of the worker's for such chunks. Its death owes
    SideLost."""


class Retract(msgspec.Struct):
    """Take the chunk that waits behind the worker's running one back. Owes Retracted."""

    worker: int


class RetractSide(msgspec.Struct):
    """Take back all chunks that have not begun in the worker's process for those that run side by side: it
    is not up, or its loop is blocked. Owes SideRetracted, if there are any."""

    worker: int


class Divide(msgspec.Struct):
    """Ask a busy worker what is finished of its chunk, and, if it is to `give`, for all that it has
    not begun. Owes nothing: it may have nothing to say, or have ended; else ChunkPart."""

    worker: int
    chunk: int
    give: bool


class Share(msgspec.Struct):
    """Raise or lower the worker's flag that asks it to give up part of its explore bag. Owes nothing."""

    worker: int
    wanted: bool


class HireOut(msgspec.Struct):
    """Let a program of this host talk to a worker that has nothing to do. Owes HireEnded, at once if that cannot
    be."""

    worker: int
    chunk: int
    """Number of the hire, among those of chunks."""
    spec: JobSpec
    function: bytes
    code: bytes
    owner: PeerId
    hire: int


class EndHire(msgspec.Struct):
    """Have the worker back. Owes nothing more: the item that it is at goes on."""

    worker: int
    chunk: int


class FetchHired(msgspec.Struct):
    """Find the worker that this node of our host has hired out to us. Owes HireCame."""

    hire: int
    job: JobId
    node: PeerId


class OrderHired(msgspec.Struct):
    """Hand an item to a hired worker. Owes HiredAnswer, unless the hire ends."""

    hire: int
    job: JobId
    lease: Lease
    block: Block
    blob: bytes


class DropHired(msgspec.Struct):
    """Tell all that the hired worker has said by now, and let it go. Owes HireReadOut."""

    hire: int
    job: JobId


class Export(msgspec.Struct):
    """Ask a busy worker to submit one child of its task to the mesh. Owes nothing: it may have none."""

    worker: int
    chunk: int


class Relieve(msgspec.Struct):
    """Start one more worker, with this number. Owes WorkerReady, or WorkerLost and no successor. Not `wanted`:
    end it, as it has nothing to do; that owes nothing."""

    worker: int
    wanted: bool


class StopWorker(msgspec.Struct):
    """Kill the worker process. Owes WorkerLost (with this reason and blame), later WorkerReady."""

    worker: int
    reason: str
    blame: bool
    side: bool = False
    """The process for chunks that run side by side. Owes SideLost, and no WorkerReady."""


class StopItem(msgspec.Struct):
    """Raise TaskStopped in the task that the worker runs, if that is one of the items [lo, hi) of this chunk.
    Owes nothing: the task may take it, ignore it, or hold the interpreter."""

    worker: int
    chunk: int
    lo: int
    hi: int
    side: bool = False
    """It is in the process for chunks that run side by side."""


class TakeStacks(msgspec.Struct):
    """Find out what these workers are at. Owes StacksTaken, soon, also if some do not answer."""

    ticket: int
    workers: list[int]


class ForgetJob(msgspec.Struct):
    """No chunk of this job will run any more: blocks and functions that workers keep for it may go. Owes nothing."""

    job: JobId


# ---------------------------------------------------------------- the log of a replica


class Write(msgspec.Struct):
    """Append a record to the log on the disk, behind those before it. Owes Written once it is sure
    to be there after a crash; several may be made sure of together."""

    ticket: int
    record: Keep


class Rewrite(msgspec.Struct):
    """Replace the log, whole or not at all, by these records. Owes Written like a Write."""

    ticket: int
    records: list[Keep]


# ---------------------------------------------------------------- values that live on the mesh


class KeepRoom(msgspec.Struct):
    """A value of this size is going to come, piece by piece. Owes nothing, or NoRoom."""

    value: ValueId
    octets: int


class WritePiece(msgspec.Struct):
    """These octets of a value have come, from `at` on. Owes nothing. The value is whole when the core
    hands out a chunk that needs it."""

    value: ValueId
    at: int
    blob: bytes | memoryview


class Adopt(msgspec.Struct):
    """A neighbour, a process of the same host, has all of this value: take it over without copying it,
    if that can be. Owes Adopted."""

    value: ValueId
    octets: int
    peer: PeerId


class ReadPiece(msgspec.Struct):
    """A peer wants these octets of a value that is whole here. Owes PieceRead."""

    value: ValueId
    at: int
    octets: int
    peer: PeerId


class ForgetValue(msgspec.Struct):
    """No chunk and no peer will ask for this value any more, whole or not. Owes nothing."""

    value: ValueId


class KeepMade(msgspec.Struct):
    """What this item of a chunk returned, which a worker has handed over beside its answer, is this value from now
    on. Without a value it goes. Owes nothing."""

    chunk: int
    item: int
    value: ValueId = b""


# ---------------------------------------------------------------- the embedding program


class ValueCame(msgspec.Struct):
    """The program has wanted this value (WantValue): it is here. With a `why` it never will be. Owes nothing."""

    value: ValueId
    why: str = ""


class Accepted(msgspec.Struct):
    """A durable job is held safely by its replicas, with its items up to here. Owes nothing.

    With a `refusal` nobody holds it, and nobody will."""

    job: JobId
    upto: int
    closed: bool
    refusal: str


class Results(msgspec.Struct):
    """How a durable job stands, and the results that follow `lo` without gaps. Owes nothing."""

    job: JobId
    lo: int
    line: JobLine
    results: list[Kept]
    blobs: list[bytes]
    closed: bool
    """The total is final."""
    missing: list[tuple[int, int]]
    """Items whose results will never come."""
    account: Viewstamp = NO_WORD
    """Explore jobs: results under two of these do not belong together."""


class JobGone(msgspec.Struct):
    """Nothing is left of this durable job, or nobody knows it. Owes nothing."""

    job: JobId
    why: str


class Deliver(msgspec.Struct):
    """The items [lo, hi) were credited, for the first and only time. Owes nothing.

    The blob covers all of [part.lo, part.hi); these items are a part of it (usually all).
    For an explore job the blob is one step's partial, and [lo, hi) the step's number.
    """

    job: JobId
    part: Part
    blob: bytes
    lo: int
    hi: int
    into: tuple[tuple[int, JobId, int], ...] = ()
    """Which of these items, whose results stay, go into which others (job, index) that are not over."""


class InputFailed(msgspec.Struct):
    """These items will not run, as one that goes into them failed: the item `item` of the job `cause`. The
    blob covers all of `part`, as in the Deliver of that item. Owes nothing."""

    job: JobId
    intervals: list[tuple[int, int]]
    cause: JobId
    item: int
    part: Part
    blob: bytes


class InputWithdrawn(msgspec.Struct):
    """These items will not run, as one that goes into them was cancelled. Owes nothing."""

    job: JobId
    intervals: list[tuple[int, int]]


class ItemsRunning(msgspec.Struct):
    """Workers have been busy with these items for a while. Owes nothing."""

    job: JobId
    intervals: list[tuple[int, int]]


class ItemsProgress(msgspec.Struct):
    """Running items of this job say how far they are: item, done, total (-1: not known). Owes nothing."""

    job: JobId
    words: list[tuple[int, float, float]]


class ItemPrinted(msgspec.Struct):
    """What this item of a durable job has printed, as far as its primary has it. Owes nothing."""

    job: JobId
    item: int
    text: bytes
    dropped: int


class JobPrinted(msgspec.Struct):
    """Tasks of this job have printed something on a node: items [lo, hi), lines, and how many more are missing
    behind them. Owes nothing."""

    job: JobId
    node: str
    texts: list[tuple[int, int, bytes, int]]


class ItemWaits(msgspec.Struct):
    """This item has run, and runs again later: no worker has it until then. Owes nothing."""

    job: JobId
    item: int


class JobDone(msgspec.Struct):
    """Every item of the job is accounted for, exactly once, or the program has cancelled it. A job that
    this peer gives up when it leaves has none. Owes nothing."""

    job: JobId


class LifeEnded(msgspec.Struct):
    """A life of an actor has ended: `why` is for people, `deaths` says how its last ones did. `dead`: there
    will be no other. Owes nothing."""

    job: JobId
    why: str
    deaths: list[str]
    dead: bool


class NobodyCan(msgspec.Struct):
    """There are nodes, and none that could run this job: `why` is for people. Owes nothing."""

    job: JobId
    why: str


class OtherRuntime(msgspec.Struct):
    """A peer runs another Python than we do: neither runs the other's functions. Once for each Python.
    Owes nothing."""

    name: str
    runtime: str


class WorthSaying(msgspec.Struct):
    """A person at this peer wants to know what happened. Owes nothing."""

    entry: JournalEntry


class JournalsReady(msgspec.Struct):
    """What AskJournals asked for: the pages that came, and the nodes that did not answer in time."""

    nonce: int
    pages: list[ToldPage]
    silent: list[tuple[PeerId, str]]


class ToldPage(msgspec.Struct):
    """A page of a node's journal, and between which moments of ours it was written."""

    peer: PeerId
    name: str
    asked_at: float
    came_at: float
    page: JournalPage


class StatusReady(msgspec.Struct):
    """What AskStatus asked for: our own snapshot and those of the nodes that answered (msgpack)."""

    nonce: int
    snapshots: list[bytes]


class CalledOff(msgspec.Struct):
    """A person wants this job of our program's to end: what has not begun is to be cancelled, what runs stopped."""

    job: JobId


class LookReady(msgspec.Struct):
    """What AskLook, or AskCallOff, asked for: the answers of those that gave one, ours first (msgpack of `looking.Answer`)."""

    nonce: int
    answers: list[bytes]


class Joined(msgspec.Struct):
    """The mesh is reached: at least one link is up and introduced. Emitted once."""


class JoinFailed(msgspec.Struct):
    """No seed could be reached or none would have us; the node keeps trying all the same."""

    code: str
    text: str


class WaitsForNodes(msgspec.Struct):
    """For so long there has been work of the program's and no node to talk to. Owes nothing but a word."""

    seconds: float
    items: int
    """Of its own jobs; 0: it follows durable ones."""
    endpoints: list[str]
    """Some of where nodes are looked for."""


class WorksAgain(msgspec.Struct):
    """A node is back, this many seconds after the last one went. Follows a WaitsForNodes."""

    seconds: float


class Left(msgspec.Struct):
    """The drain is complete: the host may end the process."""


Effect = (
    Dial | Hangup | Send | Probe | KeepBarred
    | RunChunk | Retract | RetractSide | Divide | Share | Export | Relieve | StopItem | StopWorker | TakeStacks | ForgetJob
    | HireOut | EndHire | FetchHired | OrderHired | DropHired
    | Write | Rewrite
    | KeepRoom | Adopt | WritePiece | ReadPiece | ForgetValue | KeepMade | ValueCame
    | Accepted | Results | JobGone
    | Deliver | InputFailed | InputWithdrawn | ItemsRunning | ItemsProgress | JobPrinted | ItemPrinted | ItemWaits | JobDone | LifeEnded
    | NobodyCan | OtherRuntime | StatusReady | LookReady | CalledOff | WorthSaying | JournalsReady
    | Joined | JoinFailed
    | WaitsForNodes | WorksAgain | Left
)  # fmt: skip
