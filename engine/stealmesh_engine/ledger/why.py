"""Why an item waits: every reason that there is in this engine, and in which words people hear it.

One enumeration for all layers: the ledger (`why_owned.py`), the node that has the item (`holding/why_here.py`)
and the replicas of a durable job (`durable/why_kept.py`) find the facts, each as a pure function of what it
knows. Decides nothing about work. A new way to wait gets a line here; a test walks the whole list and has a
world for each.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from stealmesh_protocol.parts import JobLine

TEXT_CHARS_MAX = 1000
NAMED_MAX = 8
"""Nodes, values and inputs that one answer names."""


class Why(StrEnum):
    """What has become of an item, or of a job, and what it waits for."""

    # -- over
    DONE = "done"
    FAILED = "failed"
    ENDED = "ended"
    CANCELLED = "cancelled"
    JOB_OVER = "job-over"
    OWNER_GONE = "owner-gone"
    # -- not in the ledger's hands yet
    NO_SUCH_ITEM = "no-such-item"
    NOT_SUBMITTED = "not-submitted"
    READER_BEHIND = "reader-behind"
    NOT_ACCEPTED = "not-accepted"
    # -- in no lease, and not free
    DEPENDENCY = "dependency"
    RETRY = "retry"
    DEFERRED = "deferred"
    # -- free
    FREE = "free"
    MADE_AGAIN = "made-again"
    MAX_PARALLEL = "max-parallel"
    URGENT_ROUND = "urgent-round"
    ACTOR_TURN = "actor-turn"
    ACTOR_DEAD = "actor-dead"
    ACTOR_HOME_AWAY = "actor-home-away"
    COPIES_NOT_SAFE = "copies-not-safe"
    NO_ROOM_FOR_RESULTS = "no-room-for-results"
    LESSER_SIDE = "lesser-side"
    NO_NODES = "no-nodes"
    NODES_AWAY = "nodes-away"
    NO_PYTHON = "no-python"
    NO_RESOURCES = "no-resources"
    DECLINED = "declined"
    # -- leased to a node, as the ledger knows it
    LEASED = "leased"
    # -- at a node
    RUNNING = "running"
    IN_CHUNK = "in-chunk"
    STARTING = "starting"
    STOPPING = "stopping"
    CHILDREN = "children"
    NEXT_AT_WORKER = "next-at-worker"
    QUEUED = "queued"
    LANE_BUSY = "lane-busy"
    CALL_BEFORE = "call-before"
    FUNCTION_COMES = "function-comes"
    FOLLOWS = "follows"
    VALUE_COMES = "value-comes"
    VALUE_MADE_AGAIN = "value-made-again"
    VALUE_HAS_NO_ROOM = "value-has-no-room"
    RESOURCES_TAKEN = "resources-taken"
    RESULTS_UNHEARD = "results-unheard"
    KEPT_APART = "kept-apart"
    NO_WORKER = "no-worker"
    NODE_LEAVES = "node-leaves"
    REPORT_UNDER_WAY = "report-under-way"
    # -- a durable job
    NO_PRIMARY = "no-primary"
    GATHERING = "gathering"
    RESULT_NOT_SAFE = "result-not-safe"


WORDS: dict[Why, str] = {
    Why.DONE: "it is done",
    Why.FAILED: "it failed: {text}",
    Why.ENDED: "it is over: {count} items of its job failed, and how the older ones ended is forgotten",
    Why.CANCELLED: "the program has cancelled it",
    Why.JOB_OVER: "its job is over: {text}",
    Why.OWNER_GONE: "its program is gone, and the job ended with it",
    Why.NO_SUCH_ITEM: "the job has {count} items: there is no such one",
    Why.NOT_SUBMITTED: "its program has not submitted it yet",
    Why.READER_BEHIND: "it waits for the reader: the program has not released it yet (buffersize)",
    Why.NOT_ACCEPTED: "no node holds the job safely yet: it is being launched",
    Why.DEPENDENCY: "it waits for the results of {text}",
    Why.RETRY: "it failed and is tried again in {seconds:.1f} s, after {count} attempts: {text}",
    Why.DEFERRED: "it has put itself off (Defer) for another {seconds:.1f} s",
    Why.FREE: "it is free: the next node that is asked gets it",
    Why.MADE_AGAIN: "its result is lost with its node and is made again",
    Why.MAX_PARALLEL: "max_parallel: {count} may run at once, and as many are leased out",
    Why.URGENT_ROUND: "its job is leased out in rounds, as it is urgent: every node has its share for now",
    Why.ACTOR_TURN: "calls of an actor run one after the other: {count} are before it",
    Why.ACTOR_DEAD: "its actor is dead and is not made again: {text}",
    Why.ACTOR_HOME_AWAY: "the node where its actor lives gets nothing now: {text}",
    Why.COPIES_NOT_SAFE: "nothing is leased before the copies of the job are safe on other nodes",
    Why.NO_ROOM_FOR_RESULTS: "the replicas have no room for more results: collect some",
    Why.LESSER_SIDE: "the mesh is cut, and this may be the smaller side, which leases nothing",
    Why.NO_NODES: "no node with workers can be reached",
    Why.NODES_AWAY: "no node that could run it gets anything now: {text}",
    Why.NO_PYTHON: "no node runs the program's Python: {text}",
    Why.NO_RESOURCES: "no node has the resources: {text}",
    Why.DECLINED: "every node has declined it: {text}",
    Why.LEASED: "it is leased to {text}, for {seconds:.1f} s so far",
    Why.RUNNING: "it runs on worker {worker}, for {seconds:.1f} s so far",
    Why.IN_CHUNK: "worker {worker} has had it for {seconds:.1f} s, with {count} items that run one after the other",
    Why.STARTING: "worker {worker} has had it for {seconds:.1f} s, and its process starts",
    Why.STOPPING: "it is being stopped on worker {worker}, where it has run for {seconds:.1f} s",
    Why.CHILDREN: "its task on worker {worker} waits for tasks of its own since it began {seconds:.1f} s ago",
    Why.NEXT_AT_WORKER: "it is next at worker {worker}, behind a chunk that has run for {seconds:.1f} s",
    Why.QUEUED: "it is queued behind {count} items, and all workers are busy",
    Why.LANE_BUSY: "another item of its lane runs (max_parallel)",
    Why.CALL_BEFORE: "calls of an actor run one after the other: {count} are before it",
    Why.FUNCTION_COMES: "the node has yet to get its function, or the program's modules",
    Why.FOLLOWS: "it is at the node already, and begins there when these are done: {text}",
    Why.VALUE_COMES: "the node fetches what it needs: {text}",
    Why.VALUE_MADE_AGAIN: "what it needs is lost and is made again: {text}",
    Why.VALUE_HAS_NO_ROOM: "what it needs waits for room in the node's memory: {text}",
    Why.RESOURCES_TAKEN: "the node's resources are in use: {text}",
    Why.RESULTS_UNHEARD: "its owner must take results of the node before more of the job begins",
    Why.KEPT_APART: "it may not run beside what runs there now",
    Why.NO_WORKER: "the node has no worker that is up",
    Why.NODE_LEAVES: "the node is leaving, and begins nothing",
    Why.REPORT_UNDER_WAY: "it has run, and its result is on its way to the owner",
    Why.NO_PRIMARY: "the job has lost its primary, and its replicas agree on another one",
    Why.GATHERING: "the job's new primary gathers what the other replicas have",
    Why.RESULT_NOT_SAFE: "it has run, and its result is not on enough disks yet",
}
"""Reason → words, with the facts in their places."""

assert WORDS.keys() == set(Why), "a reason without words"

OVER = frozenset({Why.DONE, Why.FAILED, Why.ENDED, Why.CANCELLED, Why.JOB_OVER, Why.OWNER_GONE})
"""Nothing more happens."""


class Fact(msgspec.Struct):
    """One reason, with what is known of it. Travels as msgpack, so all of it is plain."""

    why: Why
    node: str = ""
    """The peer that says it, or the node that has the item (hex of the id)."""
    items: tuple[int, int] = (-1, -1)
    """Which items it is about, if they are neighbours."""
    many: int = 0
    """How many they are, if it is about a job."""
    count: int = 0
    """What the reason counts."""
    seconds: float = 0.0
    worker: int = -1
    text: str = ""
    before: list[str] = []
    """Where and how it has been tried before."""

    @property
    def told(self) -> str:
        """In words, for people."""
        return WORDS[self.why].format(
            count=self.count, seconds=self.seconds, worker=self.worker, text=self.text
        )


def short_text(text: str) -> str:
    return text[:TEXT_CHARS_MAX]


def how_it_ended(line: JobLine) -> str:
    """Of a job that is over; with its last error, if items failed: the one that is asked for may be among them."""
    if not line.failed:
        return line.state
    return short_text(f"{line.state}, {line.failed} failed, the last: {line.error}")


def how_it_failed(line: JobLine, item: int) -> str:
    """How this item of a job that is over failed; empty: it did not, or the line does not say it."""
    of, _, how = line.error.partition(": ")
    if item < 0 or not line.failed:
        return ""
    if of == f"item {item}":
        return short_text(how)
    if line.failed < line.done:
        return ""
    return short_text(f"as all of the job did, the last: {line.error}")


def some(names: list[str]) -> str:
    """A list in words, no longer than people read."""
    shown = ", ".join(names[:NAMED_MAX])
    return short_text(
        shown if len(names) <= NAMED_MAX else f"{shown} and {len(names) - NAMED_MAX} more"
    )


def plain(fact: Fact) -> dict[str, Any]:
    """For JSON: with the words."""
    return {**msgspec.to_builtins(fact), "told": fact.told}
