"""Which grants a holder believes: what one claims, beside what the holder knows of the job.

Decides whether a grant can come from an honest peer. Refuses to know what the holder does with it.
"""

from __future__ import annotations

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.rude import is_near, is_one_job, owns, unless
from stealmesh_engine.holding.bags import Bags
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.holding.indexed_bags import IndexedBags
from stealmesh_protocol.given import is_same_item
from stealmesh_protocol.ids import PeerId, term_of
from stealmesh_protocol.messages import Grant, JobKind, JobSpec


def believable(grant: Grant, peer: PeerId, held: HeldJob | None) -> None:
    """Leases of a job that this peer owns or leads, and of the job that we know under this id."""
    spec = grant.spec
    if held is not None and spec == held.spec:  # as almost always: its owner was right then
        unless(spec.owner == peer, "not-its-owner")
    else:
        _is_a_job_of(peer, spec, held)
    # The grants of a durable explore job are numbered by their primary, without its term (bag_ledger.py).
    is_indexed = spec.kind is not JobKind.EXPLORE
    for lease in grant.leases if spec.term and is_indexed else ():
        unless(term_of(lease.lid) == spec.term, "term")
    if not spec.step and is_indexed:
        _has_inputs(grant, None if held is None else held.bags)


def _is_a_job_of(peer: PeerId, spec: JobSpec, held: HeldJob | None) -> None:
    unless(owns(peer, spec), "not-its-owner")
    if held is not None:
        unless(is_one_job(spec, held.spec), "another-job")
        unless(is_near(spec.term, held.spec.term), "term")


def _has_inputs(grant: Grant, bags: Bags | None) -> None:
    """Every item that is leased comes with its input, or came before; and no input is replaced.
    Results of others that go into an item may be: it comes again when it could not run with the first ones."""
    here = bags.inputs if isinstance(bags, IndexedBags) else Blocks()
    for block, blob in zip(grant.blocks, grant.blobs, strict=True):
        for known, octets in here.within(block.lo, block.hi):
            unless((known, octets) == (block, blob) or is_same_item(octets, blob), "blocks")
    if len(grant.leases) == len(grant.blocks) == 1:
        lease, block = grant.leases[0], grant.blocks[0]
        if block.lo <= lease.lo and lease.hi <= block.hi:
            return
    came = Blocks(zip(grant.blocks, grant.blobs, strict=True))
    for lease in grant.leases:
        at = lease.lo
        while at < lease.hi:
            found = came.at(at) or here.at(at)
            unless(found is not None, "blocks")
            assert found is not None
            at = found[0].hi
