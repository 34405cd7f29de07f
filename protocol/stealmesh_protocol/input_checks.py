"""What the inputs of a block must be: a holder looks each of them up.

Decides whether they make sense by themselves. Refuses to know whether they are at the holder.
"""

from __future__ import annotations

from stealmesh_protocol import limits
from stealmesh_protocol.ids import JOB_ID_OCTETS, PEER_ID_OCTETS, JobId, owner_of
from stealmesh_protocol.messages import Block, JobKind, JobSpec

ITEMS = 5
"""The codec of values that are packed one by one (`values.py`)."""


def fault_of_calls(block: Block, job: JobId) -> str:
    """What is wrong with the durable calls that go into this block of a durable job; empty: nothing."""
    if block.hi - block.lo != 1 or block.codec != ITEMS:
        return "only a block of one item, packed alone, can wait for others"
    if len(block.inputs) > limits.CALLS_INTO_MAX:
        return "an item waits for too many others"
    calls = {call for call, _, _ in block.inputs}
    if len(calls) < len(block.inputs) or job in calls:
        return "an item waits for one call twice, or for itself"
    for call, index, lid in block.inputs:
        if len(call) != JOB_ID_OCTETS or index or lid:
            return "an item of a durable job waits for calls alone"
    if block.makers:
        return "durable calls are not made for one node"
    return ""


def fault_of_inputs(block: Block, spec: JobSpec | None) -> str:
    """What is wrong with the inputs of this block; empty: nothing. `spec`: of its job, if its items may wait."""
    if spec is None or spec.kind is not JobKind.SUBMIT or spec.term or spec.life:
        return "only calls of a program that is there wait for others at a node"
    if block.hi - block.lo != 1 or block.codec != ITEMS:
        return "only a block of one item, packed alone, can wait for others"
    if len(block.inputs) > limits.INPUTS_MAX:
        return "an item waits for too many others"
    for job, index, lid in block.inputs:
        if len(job) != JOB_ID_OCTETS or owner_of(job) != spec.owner:
            return "an item waits for none of another owner"
        if not 0 <= index <= limits.INDEX_MAX or lid < 0 or (job, index) == (spec.job, block.lo):
            return "an item waits for itself, or for nothing"
    if block.makers and len(block.makers) != len(block.inputs):
        return "each input has one maker"
    if any(len(maker) not in (0, PEER_ID_OCTETS) for maker in block.makers):
        return "an input is made by no peer"
    return ""
