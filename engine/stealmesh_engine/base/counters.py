"""What a node counts: each name once, with its meaning.

`status` prints the names and `docs/counters.md` is made from them. Decides that no counter exists
without a meaning here. Refuses to know who counts.
"""

from __future__ import annotations

MEANINGS = {
    "accusations-not-believed": "peers that others call dead or stalled, and that this node hears itself",
    "acquitted": "peers that were suspected and answered in time",
    "answers-garbled": "what hired workers said that is no answer: a task wrote into descriptors of its worker",
    "answers-unasked": "answers on durable jobs from peers that this program never asked",
    "bags-passed-over": "explore bags that a node could not run and that went elsewhere",
    "beats-on-the-lesser-side": "heartbeats during which this owner leased nothing, being on the lesser side of a cut",
    "copies-unasked": "copies of values of ours, from nodes that were not sent to one",
    "custody-gaps": "links that ended because a message was missing between two others",
    "doubts": "times at which this node doubted itself rather than the many that were silent",
    "follow-ons": "items that were leased to where their inputs are, before these had results",
    "follow-ons-handed-on": "items that a worker ran behind the one that goes into them, without a word of its node in between",
    "follow-ons-returned": "items that came to this node without their inputs being here",
    "follow-ons-run": "items that this node ran as soon as their inputs were made",
    "follow-ons-withdrawn": "items that were withheld again, as an input of theirs had moved or was lost",
    "ends-not-believed": "words that a durable job is gone, from peers that do not keep it",
    "functions-forged": "functions whose bytes do not have the digest under which they came",
    "functions-unasked": "functions that came without having been asked for",
    "grants-refused": "leases that came and were not taken: empty, here already, or of a job that is over",
    "heard-too-late": "messages that came over a link that was over",
    "guests-jobs-refused": "times at which a token holder wanted to collect or cancel a job of others",
    "guests-records-dropped": "records of others in what token holders say of the members",
    "holders-out-of-reach": "peers that are alive, hold leases of ours and cannot be reached",
    "hired-items": "items that this program handed to workers which it had hired, past their node",
    "primaries-followed": "times at which this replica followed a new primary",
    "primaries-stepped-down": "times at which this node stepped down as a job's primary",
    "introductions-too-late": "introductions that came after their link was given up",
    "items-lent-twice": "items that were late and that another node got as well (`speculate=True`)",
    "items-passed-over": "items that a node could not run and that went elsewhere",
    "items-run-for-nothing": "items that ran here although their result was not needed any more",
    "jobs-orphaned": "jobs that were dropped because their owner is gone or out of reach",
    "jobs-rebuilt": "durable jobs that lost all replicas and were put together again",
    "job-lines-not-theirs": "words of programs about jobs of others",
    "launches-refused": "durable jobs that were not taken because there is no room",
    "journals-unasked": "pages of journals that came late, or that nobody here had asked for",
    "leases-declined": "parts of leases that their holder could not run",
    "leases-expired": "leases that their holder had not named for too long",
    "log-damage": "1 if the write-ahead log had lost something when it was opened",
    "looks-dropped": "questions about jobs and workers that got no answer, as too many were open",
    "looks-unreadable": "answers about jobs and workers that could not be read",
    "makings-of-others": "what nodes said of a making of a value of ours that does not count",
    "members-beyond-bound": "records of unknown nodes that were not taken, because the view is full",
    "not-for-programs": "messages that were not sent, as their receiver is a program, which has no use for them: a peer has lied",
    "output-dropped": "lines that tasks printed and that were too much for this node or its owner, or had no way to go",
    "output-of-nothing": "lines printed here by what no job wants to hear of: what an ended task has left running",
    "output-too-late": "lines that came for jobs that were over, or from peers that hold nothing of them",
    "page-connections-refused": "visitors of a page that found all its connections or streams taken",
    "page-looks-refused": "questions of a page's visitors that found too many others open",
    "page-readers-dropped": "visitors of a page that did not take what they had asked for",
    "page-requests-refused": "requests to a page that were none, were not allowed, or wanted what is not there",
    "peers-declared-dead": "verdicts of death that this node has spoken or accepted",
    "peers-found-stalled": "peers that answer and whose work does not get on",
    "progress-dropped": "words of tasks about items that were over, or had another holder by then",
    "promotions-declined": "times at which this node was asked to be a supernode and was not",
    "repeats-dropped": "messages that had come before",
    "inputs-unasked": "parts with results from other nodes that nothing here waits for, or not any more",
    "results-early": "results of items that came before those of their inputs, from other nodes, and waited for them",
    "results-premature": "results of items that could not have run, as their inputs were not all there",
    "inputs-forgotten": "results that other nodes wait for, and that were not made here in time: too many of them",
    "inputs-from-others": "results that items here waited for and other nodes made",
    "inputs-sent-again": "items that waited for results of other nodes, and got them from the owner after a moment",
    "results-dropped": "results that came a second time, or under a lease that is over",
    "results-unasked": "answers of workers about a chunk that is over",
    "revocations-beyond-bound": "names of revoked tokens for which there was no room: make a new mesh key",
    "sent-to-unknown": "messages to peers that are not known",
    "spares-dropped": "retained results and inputs that made room for newer ones",
    "unsayable": "messages that could not be put on the wire and were replaced by an error",
    "unsent-to-the-dead": "messages that were never sent because their peer was found dead",
    "pieces-unasked": "pieces of values that came a second time, or were not needed any more",
    "values-dropped": "copies of values that went to make room; their owners have them",
    "values-fetched": "values that this node took a copy of",
    "values-gone-before-their-order": "values that went while an order waited for a process; nothing needs its results",
    "values-lost": "values that were needed here and are gone for good",
    "values-made-again": "results that were lost with their nodes and are computed again",
    "values-not-made-again": "results that were lost and could not be computed again",
    "values-not-theirs": "orders to drop a value that came from a peer that does not own it",
    "values-without-room": "times at which a value that is needed here had to wait for memory or disk",
    "workers-lost": "worker processes that ended before they were told to",
}
FAMILIES = {
    "garbled": "messages that could not be read, by reason",
    "other-version": "packages that are here in another version than a program has",
    "restarted": "threads that had ended and were started again",
    "roused": "processes that were stopped and made to go on",
    "dropped": "frames that the transport or the pool dropped, by reason",
    "refused": "connections that were refused, by reason",
    "rude": "messages that were against the protocol, by reason",
}
"""Prefix → meaning: the reason follows behind a dash, or a colon where the host counts."""


COUNT_MAX = (1 << 63) - 1
"""More is not counted: what peers claim must not make a number that cannot be said."""


class Counters(dict[str, int]):
    """Name → how often; absent is zero."""

    def count(self, name: str, by: int = 1) -> None:
        assert name in MEANINGS or name.partition("-")[0] in FAMILIES, f"no meaning for {name}"
        self[name] = min(self.get(name, 0) + by, COUNT_MAX)


def page() -> str:
    """The list for people, as `docs/counters.md` has it."""
    lines = ["# Counters", "", "What `stealmesh status` counts. Absent is zero.", ""]
    lines += ["| Counter | Meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in sorted(MEANINGS.items())]
    lines += [f"| `{name}-…`, `{name}:…` | {meaning} |" for name, meaning in FAMILIES.items()]
    return "\n".join(lines) + "\n"
