"""Everything that peers say to each other, on one page.

The grammar (SPEC.md has it in full, conversation.py says what may follow what)::

    link     = HELLO (WELCOME / REFUSED) *talk [BYE]        ; one connection, both directions
    talk     = control / custody / 1*PIECE bulky            ; control may come between two PIECEs
    bulky    = control / custody                            ; its blobs came in the PIECEs before it
    control  = BEAT / ACK / VIEW / STEAL / SATED / NOTHING / FN_GET / STATUS_GET / STATUS   ; may be lost
              / SEEK / HERE / FETCH / FETCHED
              / VOTE / DIGESTS / AROUND / PROMOTE / WHO_IS / TAKEN
              / VALUE_SEEK / VALUE_AT / VALUE_GET / LOOK_AT / CALL_OFF / SEEN / PRINTED / PRINTED_GET
              / JOURNAL_GET / JOURNAL_PAGE / HIRE / INPUT_GET / INPUT_PUT
    custody  = GRANT / SPLIT / REPORT / COMMIT / RETURNED / DECLINED / REVOKED / WITHDRAW / CLOSED / FN_PUT
              / LAUNCH / SUPPLY / ACCEPTED / ABOLISH / KEEP / KEPT_UPTO / OFFER / PULL / FORGET
              / SETTLED / CLAIM / VALUE_PUT / VALUE_HELD / VALUE_DROP / BARRED / HIRED / HIRE_OVER / DISMISS

A custody message carries responsibility for work. It is numbered, kept by its sender until
the receiver's cumulative acknowledgement covers it, and sent again on the next connection
to the same process life; the receiver drops numbers that it has already acted on. A control
message has the number 0 and may vanish with its connection.

Shape of the work: the owner's ledger GRANTs leases; a thief STEALs;
the victim first lowers its own end and then asks the ledger to SPLIT, and the ledger GRANTs
the part to the thief under a new lease id. So a steal is written down before anyone can act
on it, and the deaths of victim and thief are one case: a lease that has lost its holder.

Shape of a durable job: a client LAUNCHes it at a node, which becomes its primary
replica, with a ledger of its own. All that matters is joined into the copies of two more replicas
(KEEP, KEPT_UPTO) before anybody is told that it holds (ACCEPTED to the client, SETTLED to the holder,
who keeps results until then). A peer that has lost the primary asks for it (SEEK, HERE); a new primary
collects what other replicas (OFFER, PULL) and the holders (CLAIM) have. Results are FETCHED.

Shape of a value that lives on the mesh: `value_messages.py` says it; of a look at jobs: `look_messages.py`; of what
tasks print: `output_messages.py`; of a node's journal: `journal_messages.py`; of revoked tokens: `token_messages.py`;
of hired workers: `hire_messages.py`; of results that go from node to node: `follow_messages.py`.
What messages are made of is in `parts.py`.

Numbers are forever: a tag is never given to another message (tests pin them). New fields go
at the end of a class and have defaults; a reader ignores trailing fields that it does not know.

Ideas: one small class per message after ZRE and tako; array-like msgpack after msgspec.
"""

from __future__ import annotations

from typing import ClassVar

from stealmesh_protocol.accounts import BagAccount
from stealmesh_protocol.follow_messages import InputGet as InputGet
from stealmesh_protocol.follow_messages import InputPut as InputPut
from stealmesh_protocol.hire_messages import Dismiss as Dismiss
from stealmesh_protocol.hire_messages import Hire as Hire
from stealmesh_protocol.hire_messages import Hired as Hired
from stealmesh_protocol.hire_messages import HireOver as HireOver
from stealmesh_protocol.ids import Digest, JobId, LeaseId, PeerId
from stealmesh_protocol.journal_messages import JournalGet as JournalGet
from stealmesh_protocol.journal_messages import JournalPage as JournalPage
from stealmesh_protocol.look_messages import CallOff as CallOff
from stealmesh_protocol.look_messages import LookAt as LookAt
from stealmesh_protocol.look_messages import Seen as Seen
from stealmesh_protocol.look_messages import Topic as Topic
from stealmesh_protocol.message import Inputs as Inputs
from stealmesh_protocol.message import Message as Message
from stealmesh_protocol.message import Needs as Needs
from stealmesh_protocol.output_messages import Output as Output
from stealmesh_protocol.output_messages import Printed as Printed
from stealmesh_protocol.output_messages import PrintedGet as PrintedGet
from stealmesh_protocol.output_messages import Text as Text
from stealmesh_protocol.parts import Block as Block
from stealmesh_protocol.parts import Finding as Finding
from stealmesh_protocol.parts import JobKind as JobKind
from stealmesh_protocol.parts import JobLine as JobLine
from stealmesh_protocol.parts import JobLoad as JobLoad
from stealmesh_protocol.parts import JobSpec as JobSpec
from stealmesh_protocol.parts import Kept as Kept
from stealmesh_protocol.parts import Lease as Lease
from stealmesh_protocol.parts import Member as Member
from stealmesh_protocol.parts import Part as Part
from stealmesh_protocol.parts import PeerState as PeerState
from stealmesh_protocol.parts import Reign as Reign
from stealmesh_protocol.parts import Resources as Resources
from stealmesh_protocol.parts import Role as Role
from stealmesh_protocol.parts import Standing as Standing
from stealmesh_protocol.token_messages import Barred as Barred
from stealmesh_protocol.value_messages import ValueAt as ValueAt
from stealmesh_protocol.value_messages import ValueDrop as ValueDrop
from stealmesh_protocol.value_messages import ValueGet as ValueGet
from stealmesh_protocol.value_messages import ValueHeld as ValueHeld
from stealmesh_protocol.value_messages import ValuePut as ValuePut
from stealmesh_protocol.value_messages import ValueSeek as ValueSeek

# ---------------------------------------------------------------- link


class Hello(Message):
    """The connector introduces itself and names the peer that it wants to talk to."""

    TAG: ClassVar[int] = 1
    versions: tuple[int, int]
    mesh: bytes
    """Public fingerprint of the mesh key: a splice onto another mesh is noticed here."""
    sender: Member
    to: PeerId
    """Empty: any peer that listens there (a seed's address is all that is known)."""
    runtime: str = ""
    epoch: int = 0
    """Number of the sender's memory of its traffic with the receiver; a new one means that it has forgotten."""
    proof: bytes = b""
    """That the sender's id is its own (passes.py). From the holder of a token: its pass, sealed. From one of the mesh
    key: the secret that its id follows from."""


class Welcome(Message):
    """The acceptor agrees, introduces itself and names other members."""

    TAG: ClassVar[int] = 2
    version: int
    sender: Member
    to: PeerId
    members: list[Member] = []
    runtime: str = ""
    epoch: int = 0


class Refused(Message):
    """This link will not be; the code is for programs, the text for people."""

    TAG: ClassVar[int] = 3
    code: str
    text: str
    retry_after: float = 0.0


class Bye(Message):
    """An orderly end: what I held I have returned, do not look for me."""

    TAG: ClassVar[int] = 4
    reason: str = ""


# ---------------------------------------------------------------- life


class Beat(Message):
    """I live, I hold this, I know that much of the mesh."""

    TAG: ClassVar[int] = 8
    incarnation: int
    view: int
    """Who knows everybody: the digest of its view, a different one is answered with DIGESTS. A leaf
    to its observer: the digest of the last AROUND. 0: the view is not what this is about."""
    queued_seconds: float = 0.0
    loads: list[JobLoad] = []
    """Only jobs owned by the receiver."""
    jobs: list[JobLine] = []
    """Only from an owner: what its open jobs look like."""
    told: list[tuple[JobId, LeaseId, int, float, float]] = []
    """How far running items of the receiver's jobs say they are: job, lease, item, done, total (-1: the
    task does not know)."""


class Ack(Message):
    """Nothing to say but the acknowledgement in the header: the answer to a BEAT, among others."""

    TAG: ClassVar[int] = 9


class View(Message):
    """What I know about the members; the receiver joins it with its own."""

    TAG: ClassVar[int] = 10
    members: list[Member]


class Vote(Message):
    """One observer of a peer tells the others what it has found."""

    TAG: ClassVar[int] = 11
    subject: PeerId
    incarnation: int
    finding: Finding


class Digests(Message):
    """My view, as digests of records by the first octet of their ids: where do we differ?

    The receiver sends what it has there, and its own digests unless these are an `answer`.
    """

    TAG: ClassVar[int] = 12
    buckets: list[int]
    answer: bool = False


class Around(Message):
    """An observer tells a leaf who is around it."""

    TAG: ClassVar[int] = 13
    digest: int
    """To be repeated in the next BEATs, so that the observer knows what the leaf knows."""
    nodes: int
    """How many there are in the whole mesh."""
    homes: list[PeerId]
    lifelines: list[PeerId]
    members: list[Member]


class Promote(Message):
    """The mesh lacks supernodes: serve as one, if you can."""

    TAG: ClassVar[int] = 14


class WhoIs(Message):
    """A leaf has something to say to peers that it does not know: an observer tells it of them, in a VIEW."""

    TAG: ClassVar[int] = 15
    peers: list[PeerId]


# ---------------------------------------------------------------- stealing


class Steal(Message):
    """A thief asks for work; `standing` asks to be remembered until work comes by (a lifeline)."""

    TAG: ClassVar[int] = 16
    nonce: int
    room: int
    """Workers that are idle or about to be."""
    standing: bool = False
    taken: list[str] = []
    """Resources of the thief that are all in use: it can begin nothing that needs them."""


class Nothing(Message):
    """A victim has nothing to give: `soon` when it has asked its workers to share."""

    TAG: ClassVar[int] = 17
    nonce: int
    soon: bool = False


class Sated(Message):
    """A thief takes its name off the receiver's list."""

    TAG: ClassVar[int] = 18


# ---------------------------------------------------------------- custody


CAME_BACK, BEGINS = (1 << 63) - 1, (1 << 63) - 2
"""A GRANT's nonce: its receiver had given this away in a SPLIT, and the thief cannot run it; or a life of an
actor begins with it."""


class Grant(Message):
    """The ledger leases parts of a job to the receiver. Blobs: one a block, or one a lease (explore)."""

    TAG: ClassVar[int] = 32
    CUSTODY: ClassVar[bool] = True
    spec: JobSpec
    leases: list[Lease]
    blocks: list[Block] = []
    nonce: int = 0
    """Of the STEAL that it answers; 0 when it answers none."""
    blobs: list[bytes] = []


class Split(Message):
    """A victim gives the named parts of its leases away: the ledger is to grant them to `thief`."""

    TAG: ClassVar[int] = 33
    CUSTODY: ClassVar[bool] = True
    job: JobId
    parts: list[Lease]
    thief: PeerId
    nonce: int = 0


class Report(Message):
    """Finished items: one blob a part."""

    TAG: ClassVar[int] = 34
    CUSTODY: ClassVar[bool] = True
    job: JobId
    parts: list[Part]
    blobs: list[bytes] = []


class Commit(Message):
    """One atomic step of an explore bag: what was gained, what remains, what was split off.

    Blobs: the partial (empty: nothing gained), the remaining items (empty: the bag is
    finished), then one blob of items for each child.
    """

    TAG: ClassVar[int] = 35
    CUSTODY: ClassVar[bool] = True
    job: JobId
    lid: LeaseId
    seq: int
    """1, 2, 3 … within the lease: repeats and gaps are recognised."""
    remaining: int
    children: list[Lease] = []
    seconds: float = 0.0
    items: int = 0
    failed: int = 0
    blobs: list[bytes] = []


class Returned(Message):
    """A holder hands back what it has not touched (it is leaving, or was told to)."""

    TAG: ClassVar[int] = 36
    CUSTODY: ClassVar[bool] = True
    job: JobId
    parts: list[Lease]


class Declined(Message):
    """A holder cannot run these parts of its leases, although others may: it lacks a module, or has
    another Python. The ledger grants them to somebody else."""

    TAG: ClassVar[int] = 40
    CUSTODY: ClassVar[bool] = True
    job: JobId
    parts: list[Lease]
    reason: str
    """For the person who submitted the job, should everybody decline."""
    life: int = 0
    """Of an actor: this life is over. None of the parts has begun, but those in `begun` have, or may have."""
    begun: list[Lease] = []


class Revoked(Message):
    """The ledger tells a holder that these leases are not (or no longer) its own."""

    TAG: ClassVar[int] = 37
    CUSTODY: ClassVar[bool] = True
    job: JobId
    lids: list[LeaseId]


class Withdraw(Message):
    """The owner no longer wants these items: those not yet started are not to be."""

    TAG: ClassVar[int] = 38
    CUSTODY: ClassVar[bool] = True
    job: JobId
    intervals: list[tuple[int, int]]
    stop: bool = False
    """Those that run are stopped as well."""


class Closed(Message):
    """The job is over: drop all that belongs to it."""

    TAG: ClassVar[int] = 39
    CUSTODY: ClassVar[bool] = True
    job: JobId
    stop: bool = False
    """What still runs of it is stopped."""


# ---------------------------------------------------------------- functions


class FnGet(Message):
    """Send me the function with this digest."""

    TAG: ClassVar[int] = 48
    digest: Digest


class FnPut(Message):
    """A function's bytes (one blob; no blob: the sender does not have it)."""

    TAG: ClassVar[int] = 49
    CUSTODY: ClassVar[bool] = True
    digest: Digest
    blobs: list[bytes] = []


# ---------------------------------------------------------------- looking


class StatusGet(Message):
    """What do you look like, and what do you know of the jobs around you?"""

    TAG: ClassVar[int] = 56
    nonce: int


class Status(Message):
    """A plain-data snapshot, msgpack of the shape that `stealmesh status --json` prints."""

    TAG: ClassVar[int] = 57
    nonce: int
    blobs: list[bytes] = []


# ---------------------------------------------------------------- durable jobs


class Launch(Message):
    """A client asks the receiver to be the primary of a job. Blobs: its function, then its combiner and
    its code, if any.

    With a term in the spec: the job has had primaries, and all are gone (a holder may say so, too).
    """

    TAG: ClassVar[int] = 64
    CUSTODY: ClassVar[bool] = True
    spec: JobSpec
    total: int = 0
    """Of a range; items that come as blocks are counted as they come."""
    blobs: list[bytes] = []


class Supply(Message):
    """The next items of a durable job (one blob a block), or the word that there are no more."""

    TAG: ClassVar[int] = 65
    CUSTODY: ClassVar[bool] = True
    job: JobId
    blocks: list[Block] = []
    closed: bool = False
    blobs: list[bytes] = []
    total: int = 0
    """With `closed`: how many items there are. A primary that has fewer has yet to get the rest."""


class Accepted(Message):
    """The primary holds the job safely, with its items up to here; or it will not have it, and says why."""

    TAG: ClassVar[int] = 66
    CUSTODY: ClassVar[bool] = True
    job: JobId
    upto: int
    closed: bool = False
    refusal: str = ""


class Abolish(Message):
    """A client does not want the job any more, nor its results."""

    TAG: ClassVar[int] = 67
    CUSTODY: ClassVar[bool] = True
    job: JobId
    stop: bool = False
    """What still runs of it is stopped."""


class Seek(Message):
    """Who knows this durable job?"""

    TAG: ClassVar[int] = 68
    job: JobId


class Here(Message):
    """I do, and this is what I am to it."""

    TAG: ClassVar[int] = 69
    job: JobId
    standing: Standing
    reign: Reign
    seat: bytes = b""
    """The store of the speaker's copy."""
    weight: int = 0
    """How much the speaker's copy has: items credited and items fed."""
    why: str = ""
    """GONE: what became of it. LEADS: `rebuilt` if all replicas were lost; tell me all that you have."""


class Keep(Message):
    """Join this into your copy and your log. Blobs: one a block, one a result, then the functions."""

    TAG: ClassVar[int] = 70
    CUSTODY: ClassVar[bool] = True
    spec: JobSpec
    reign: Reign
    number: int = 0
    """Of the primary's word: to be answered with KEPT_UPTO. 0: nothing to answer."""
    total: int = 0
    closed: bool = False
    state: str = ""
    """How it ended, if not by all results being there."""
    floor: int = 0
    """Results below were collected and given up to make room."""
    blocks: list[Block] = []
    results: list[Kept] = []
    blobs: list[bytes] = []
    account: BagAccount | None = None


class KeptUpto(Message):
    """All of your words up to this number are in my copy (and on my disk, if I have one)."""

    TAG: ClassVar[int] = 71
    CUSTODY: ClassVar[bool] = True
    job: JobId
    term: int
    number: int
    seat: bytes = b""


class Offer(Message):
    """What my copy has, for a new primary: take what you lack. A long list has pages, the last is `whole`."""

    TAG: ClassVar[int] = 72
    CUSTODY: ClassVar[bool] = True
    job: JobId
    seat: bytes
    covered: list[tuple[int, int]] = []
    """Items credited."""
    fed: list[tuple[int, int]] = []
    """Items that it has the blocks of."""
    total: int = 0
    closed: bool = False
    state: str = ""
    floor: int = 0
    functions: int = 0
    """How many it has."""
    whole: bool = True
    account: BagAccount | None = None


class Pull(Message):
    """Send me these (as KEEP with number 0)."""

    TAG: ClassVar[int] = 73
    CUSTODY: ClassVar[bool] = True
    job: JobId
    results: list[tuple[int, int]] = []
    blocks: list[tuple[int, int]] = []
    functions: bool = False


class Forget(Message):
    """The job is kept elsewhere: your copy is not needed."""

    TAG: ClassVar[int] = 74
    CUSTODY: ClassVar[bool] = True
    job: JobId
    term: int


class Settled(Message):
    """The primary holds your results for these items safely. An empty one answers an empty CLAIM."""

    TAG: ClassVar[int] = 75
    CUSTODY: ClassVar[bool] = True
    job: JobId
    intervals: list[tuple[int, int]]
    count: int = 0
    """How many items the job has, once that is known for good."""


class Claim(Message):
    """A holder tells a new primary what it has: open parts of leases, and results (one blob a part)."""

    TAG: ClassVar[int] = 76
    CUSTODY: ClassVar[bool] = True
    job: JobId
    leases: list[Lease] = []
    parts: list[Part] = []
    blobs: list[bytes] = []


class Fetch(Message):
    """A client has everything below `lo`, and wants to know how things stand; `want`: and what follows."""

    TAG: ClassVar[int] = 77
    job: JobId
    lo: int
    want: bool = True
    into: bool = False
    """A primary says it: what it has, or wants, goes into a call that it leads, and is collected by nobody."""


class Fetched(Message):
    """How things stand, and results that follow each other without gaps from `lo` on (one blob each)."""

    TAG: ClassVar[int] = 78
    job: JobId
    lo: int
    line: JobLine
    results: list[Kept] = []
    closed: bool = False
    """All items are known: the total is final."""
    missing: list[tuple[int, int]] = []
    """Items that will never have a result."""
    blobs: list[bytes] = []
    account: BagAccount | None = None
    guest: str = ""
    """The token with which the job was launched: those of others have no business with it."""


# ---------------------------------------------------------------- pieces


class Taken(Message):
    """This many octets of your bulk have been taken off this link, in all: there is room for more.

    The two transports say it to each other, so that a beat never waits behind much of it.
    """

    TAG: ClassVar[int] = 62
    octets: int


class Piece(Message):
    """Part of the blobs of the message that follows: it has too many of them for one multipart."""

    TAG: ClassVar[int] = 63
    index: int
    """From 0, without gaps."""
    of: int
    blobs: list[bytes] = []
    """Exactly one, which is not empty."""


MESSAGES: dict[int, type[Message]] = {
    cls.TAG: cls
    for cls in (
        Hello, Welcome, Refused, Bye, Beat, Ack, View, Vote, Digests, Around, Promote, WhoIs,
        Steal, Nothing, Sated,
        Grant, Split, Report, Commit, Returned, Declined, Revoked, Withdraw, Closed,
        FnGet, FnPut, StatusGet, Status,
        Piece,
        Launch, Supply, Accepted, Abolish, Seek, Here, Keep, KeptUpto, Offer, Pull, Forget,
        Settled, Claim, Fetch, Fetched, Taken,
        ValueSeek, ValueAt, ValueGet, ValuePut, ValueHeld, ValueDrop,
        LookAt, CallOff, Seen,
        Printed, PrintedGet,
        JournalGet, JournalPage,
        Barred,
        Hire, Hired, HireOver, Dismiss,
        InputGet, InputPut,
    )
}  # fmt: skip
"""Kind octet → message class. Append only."""
