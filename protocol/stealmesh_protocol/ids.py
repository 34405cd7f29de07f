"""Names of things on the wire: who, which job, which lease, which function.

Everything here is an opaque value that is only ever compared. No code derives meaning from
an id's bytes except where the docstring of the constructor says so.
"""

from __future__ import annotations

import hashlib

PeerId = bytes
"""16 bytes, drawn once per process life. A restarted process is another peer. It follows from a secret of the process
(:func:`stealmesh_protocol.passes.own_id`), or from its token."""

JobId = bytes
"""The owner's PeerId followed by a 4-octet counter: unique without asking anybody. Large durable jobs
have slices, whose ids have 3 octets more: see :func:`slice_id`."""

LeaseId = int
"""Never used twice within a job: it is the fencing token. See :func:`child_lease`."""

ValueId = bytes
"""The owner's PeerId followed by 8 octets: a counter, or the item that the value is the result of. The name of
a value that lives on the mesh. See :func:`value_of_item`."""

Digest = bytes
"""BLAKE2b-128 of a shipped function's bytes: the name under which it is cached."""

PEER_ID_OCTETS = 16
VALUE_ID_OCTETS = PEER_ID_OCTETS + 8
JOB_ID_OCTETS = PEER_ID_OCTETS + 4
SLICE_ID_OCTETS = JOB_ID_OCTETS + 3
SLICE_DOUBLINGS_MAX = 62
SLICES_MAX = 1 << 16
LEASE_STRIDE_BITS = 32


def job_id(owner: PeerId, number: int) -> JobId:
    return owner + number.to_bytes(4, "big")


def slice_id(job: JobId, doublings: int, number: int) -> JobId:
    """The `number`-th slice (from 0) of a job whose slices have 2**doublings items each.

    The first slice's id is that of the whole job, too.
    """
    assert doublings <= SLICE_DOUBLINGS_MAX
    assert number < SLICES_MAX, "there are more slices than names: make them larger"
    return job[:JOB_ID_OCTETS] + bytes([doublings]) + number.to_bytes(2, "big")


def slice_of(job: JobId) -> tuple[int, int] | None:
    """How many items each slice of this job has, and which slice this is; None: it is not cut."""
    if len(job) != SLICE_ID_OCTETS:
        return None
    return 1 << job[JOB_ID_OCTETS], int.from_bytes(job[-2:], "big")


def whole_of(job: JobId) -> JobId:
    """The job that this is, or is a slice of."""
    return job if len(job) != SLICE_ID_OCTETS else job[:-2] + bytes(2)


def number_in_whole(job: JobId, item: int) -> int:
    """The number that this item of a job, or of a slice of one, has in the whole job."""
    cut = slice_of(job)
    return item if cut is None else cut[0] * cut[1] + item


def value_id(owner: PeerId, number: int) -> ValueId:
    return owner + number.to_bytes(8, "big")


def value_of_item(job: JobId, index: int) -> ValueId:
    """The name of this item's result, if it stays where it was made. Empty: it cannot have one, and travels.

    Behind the owner: a set bit, 31 bits of the job's number, 32 of the item's. Counters set no such bit.
    """
    number = int.from_bytes(job[PEER_ID_OCTETS:JOB_ID_OCTETS], "big")
    if len(job) != JOB_ID_OCTETS or number >> 31 or index >> 32:
        return b""
    return value_id(job[:PEER_ID_OCTETS], 1 << 63 | number << 32 | index)


def item_of(value: ValueId) -> tuple[JobId, int] | None:
    """The job and the item that this value is the result of; None: it was put on the mesh as it is."""
    number = int.from_bytes(value[PEER_ID_OCTETS:], "big")
    if not number >> 63:
        return None
    return job_id(value[:PEER_ID_OCTETS], number >> 32 & 0x7FFFFFFF), number & 0xFFFFFFFF


def owner_of(named: JobId | ValueId) -> PeerId:
    """The peer that a job or a value belongs to."""
    return named[:PEER_ID_OCTETS]


def digest_of(blob: bytes) -> Digest:
    return hashlib.blake2b(blob, digest_size=16).digest()


def granted_lease(number: int) -> LeaseId:
    """The lease id of a ledger's `number`-th grant (from 1).

    Grants are 2**32 apart. The numbers in between belong to the peer that received the grant: it
    names the bags that it splits off an explore bag with them, without asking first, and
    no other peer can ever choose the same name.
    """
    return number << LEASE_STRIDE_BITS


def child_lease(root: LeaseId, number: int) -> LeaseId:
    """The `number`-th bag (from 1) that the holder of the granted lease `root` split off."""
    assert 0 < number < 1 << LEASE_STRIDE_BITS
    return (root >> LEASE_STRIDE_BITS << LEASE_STRIDE_BITS) | number


def reign_lease(term: int, number: int) -> LeaseId:
    """The lease id of a durable job's `number`-th grant (from 1) under the primary of this term.

    No two terms have one in common. Two primaries may have one term: with its holder the id still names one
    lease (the engine's terms.py says why). Durable jobs have no bags that split off others, so the
    lower half of the number counts the grants and the upper half is the term.
    """
    assert 0 < number < 1 << LEASE_STRIDE_BITS
    return (term << LEASE_STRIDE_BITS) | number


def term_of(lease: LeaseId) -> int:
    """Under which term a lease of a durable job was granted."""
    return lease >> LEASE_STRIDE_BITS


def seat_of(life: int) -> LeaseId:
    """Under this lease id a holder names an actor's life in its beats. No grant has so low a number."""
    assert 0 < life < 1 << LEASE_STRIDE_BITS
    return life


def root_of(lease: LeaseId) -> LeaseId:
    return lease >> LEASE_STRIDE_BITS << LEASE_STRIDE_BITS


def short_form(job: JobId) -> str:
    """What commands show of a job, and what `attach` takes."""
    written = job.hex()
    return f"{written[:8]}..{written[-4:]}"


def short(identity: bytes) -> str:
    """Eight hex digits: enough to tell peers and jobs apart in a log line."""
    return identity[-4:].hex() if len(identity) > PEER_ID_OCTETS else identity[:4].hex()
