"""What messages are made of: nodes and jobs as others see them, leases and what comes of them, and their states.

Decides nothing. `messages.py` has the messages, on one page. New fields go at the end of a class and have
defaults; a reader ignores trailing fields that it does not know.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from stealmesh_protocol.ids import Digest, JobId, LeaseId, PeerId
from stealmesh_protocol.message import Inputs, Needs
from stealmesh_protocol.output_messages import Output


class Role(IntEnum):
    PLAIN = 0
    SUPER = 1
    CLIENT = 2
    """A peer in a user's program: owns jobs, has no workers, no port, is never a victim."""


class PeerState(IntEnum):
    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Finding(IntEnum):
    """What an observer has to say about a peer that another one does not hear."""

    HEARD = 0
    SILENT = 1
    STALLED = 2
    """Silent, but its connection holds and its address answers: it stands still."""


class JobKind(IntEnum):
    SUBMIT = 0
    MAP = 1
    REDUCE = 2
    EXPLORE = 3


class Standing(IntEnum):
    """What somebody is to a durable job."""

    LEADS = 0
    """Its primary."""
    KEEPS = 1
    """Has a copy, and may know the primary or look for it."""
    GONE = 2
    """Knows that it is over and that nothing is left of it."""


Resources = tuple[tuple[str, int], ...]
"""Names with counts, in the order of their names: what a node has, or what an item takes up."""


class Member(msgspec.Struct, array_like=True, frozen=True):
    """What is known about one peer. Of two records of one id the higher (incarnation, state, role) holds."""

    id: PeerId
    name: str
    host: str
    role: Role
    endpoints: list[str]
    """In the order in which to try them; empty for a peer that cannot be dialled."""
    incarnation: int
    """Raised only by the member itself, to refute a verdict on its life."""
    state: PeerState = PeerState.ALIVE
    workers: int = 0
    pid: int = 0
    build: str = ""
    eligible: bool = True
    """It may be asked to serve as a supernode, and to stop; false for one whose role was given to it."""
    runtime: str = ""
    """The Python that runs its workers ("cpython-3.11"); empty: not known."""
    resources: Resources = ()
    """What it declares beside its workers: GPUs, licences. Each counts for itself alone."""


class JobSpec(msgspec.Struct, array_like=True, frozen=True):
    """A job, whole: it never changes and travels with every grant."""

    job: JobId
    kind: JobKind
    owner: PeerId
    name: str
    function: Digest
    combine: Digest = b""
    start: int = 0
    """Indexed jobs over a range: item i is start + i * step; step 0 means that the items come as blocks."""
    step: int = 0
    vectorized: bool = False
    priority: int = 0
    retries: int = 0
    timeout: float = 0.0
    """Seconds one item may run before its worker is stopped; 0 means for ever."""
    attempts_max: int = 3
    """How many workers one item may kill before it fails for good."""
    term: int = 0
    """Durable jobs: the owner's reign; a higher one replaces it. 0: the owner's program is the job's life."""
    count: int = 0
    """Durable jobs: how many items there are, once that is known for good; so that holders know it, too."""
    runtime: str = ""
    """The Python whose byte code the function is made of; only such nodes may run it. Empty: any."""
    code: Digest = b""
    """The program's own modules, as one bundle that workers import from; empty: it has none."""
    chunk_items: int = 0
    """How many items a worker is handed at once; 0: the node decides from what they cost."""
    submitter: str = ""
    """Durable jobs: who gave it to the mesh, for people: user@host and the process."""
    submitted: float = 0.0
    """When, in seconds since 1970 by the submitter's clock; 0: not said. Nothing is decided by it."""
    max_parallel: int = 0
    """How many of its items may run at once in the whole mesh; 0: any number."""
    resources: Resources = ()
    """What an item takes up of its node's resources while it runs."""
    together: int = 0
    """How many items one worker runs side by side, because they mostly wait (`async def`); 0: they do not,
    and run in as many threads as the node's workers have."""
    needs: Needs = ()
    """Values that its functions (explore: or its roots) are made from."""
    life: int = 0
    """Of an actor: which of its lives this is, from 1; 0: the job is none."""
    restarts: int = 0
    """How many lives may follow an actor's first."""
    stays_from: int = 0
    """Results of this many octets and more stay on the node that made them; 0: all travel."""
    output: Output = Output.NODE
    """Where what its tasks print goes."""
    guest: str = ""
    """Durable jobs: the name of the submit token that launched it. Its holder alone may collect or cancel it, and
    holders of the mesh key. Empty: one of these launched it."""


class Lease(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Custody of [lo, hi) of an indexed job; of an explore job's bag, hi is its number of items."""

    lid: LeaseId
    lo: int
    hi: int


class Block(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where the items [lo, hi) of an indexed job are to be found: in the blob at the same place."""

    lo: int
    hi: int
    codec: int
    needs: Needs = ()
    """Values that its items are made from."""
    inputs: Inputs = ()
    """What its only item waits for."""
    makers: tuple[PeerId, ...] = ()
    """The peer that makes each of them; an empty id: the receiver. Empty: the receiver makes all."""


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the blob at the same place covers: exactly the items [lo, hi), once."""

    lid: LeaseId
    lo: int
    hi: int
    codec: int
    seconds: float
    """How long a worker was busy with it."""
    failed: int = 0
    """How many of the items ended in an error (the blob says which and how)."""
    stays: tuple[tuple[int, int], ...] = ()
    """Items whose results stay on the holder, with their octets; the blob has only their names."""


class JobLoad(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Leases of one job that the sender holds, named so that the ledger can renew or revoke each."""

    job: JobId
    lids: list[LeaseId]
    running: list[tuple[int, int]] = []
    """Intervals that workers have been busy with for a while: these can no longer be cancelled."""


class JobLine(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One job's account in figures, as its owner tells the nodes around it (for `status`)."""

    job: JobId
    kind: JobKind
    name: str
    state: str
    total: int
    done: int
    failed: int
    leased: int
    free: int
    rerun: int
    duplicates_dropped: int
    durable: bool = False
    owner: str = ""
    """Who submitted it, for people."""
    started: float = 0.0
    """When it was submitted, in seconds since 1970; 0: not known."""
    ended: float = 0.0
    """When it ended, by the clock of the peer that says so; 0: it has not, or no peer saw it."""
    told: tuple[tuple[int, float, float], ...] = ()
    """How far some of its running items say they are: item, done, total (-1: not known)."""
    rate: float = 0.0
    """Items a second, lately; 0: not known."""
    error: str = ""
    """How the last of its items that failed did, for people."""


class Reign(msgspec.Struct, array_like=True, frozen=True):
    """Who leads a durable job and who keeps it. Of two reigns the higher (term, primary, version) holds."""

    term: int
    """With `primary` it is the fencing token of a primary: two that do not know of each other may have one."""
    version: int
    """Counts the changes of the seats within a term."""
    primary: PeerId
    seats: list[tuple[bytes, PeerId]]
    """Who has a whole copy: the name of the store (it outlives a process), and the process."""


class Kept(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The items [lo, hi) are credited; the blob at the same place covers part.lo to part.hi."""

    lo: int
    hi: int
    part: Part
