"""One run: one peer, one job, one fault at 30 % of the results. A process of its own.

Says nothing on standard output; what happened goes into files, so that it is known even when
the peer takes this process with it: `executions` (one line each time a task begins), `results`
(one line for each right result, with its time; there is none before the job is submitted), `job.json` and, in the end, `said.json` (the rest).
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from stealmesh_bench.chaos_peers import PEERS, ChaosPeer, pick
from stealmesh_bench.workloads.logged import logged_square

STRIKE_AT = 0.3
PAUSE_SECONDS = 5.0
AFTER_TASKS = 8
AFTER_SECONDS_MAX = 20.0


@dataclass(frozen=True)
class PeerFault:
    """Which processes are hit, and with what."""

    part: str
    count: int
    pause: bool = False


FAULTS: dict[str, PeerFault | None] = {
    "nothing": None,
    "1 worker killed": PeerFault("worker", 1),
    "2 of 4 workers killed": PeerFault("worker", 2),
    "2 of 4 paused for 5 s": PeerFault("node", 2, pause=True),
    "1 supervisor killed": PeerFault("supervisor", 1),
    "2 of 4 nodes killed": PeerFault("node", 2),
    "centre killed": PeerFault("centre", 1),
}
"""A supervisor commands the workers of one machine (our node, dask's nanny, Ray's raylet); a node is
a supervisor and its worker; the centre is what everybody was told to ask (our entry node, dask's
scheduler, Ray's GCS). Where a peer has no such thing as a node, its workers are paused."""


@dataclass
class Said:
    """What the caller saw."""

    errors: dict[str, int] = field(default_factory=dict)
    unresolved: int = 0
    wrong: int = 0
    repeated: int = 0
    after: str = ""
    """Does a new task get an answer afterwards? "yes", or what came instead."""
    applies: bool = True


def run(peer_name: str, fault_name: str, directory: Path, plan: dict[str, float]) -> Said:
    said = Said()
    with PEERS[peer_name](directory) as peer:
        warm_up(peer)
        fault = FAULTS[fault_name]
        victims: list[int] = []
        if fault is not None:
            parts = peer.parts()
            part = "worker" if fault.pause and fault.part not in parts else fault.part
            if part not in parts or len(parts[part]) < fault.count:
                said.applies = False
                return said
            victims = pick(parts[part], fault.count, int(plan["seed"]))
        pause = fault is not None and fault.pause
        with (directory / "results").open("w") as results:
            hit = functools.partial(strike, victims, pause)
            work(peer, directory, results, plan, said, hit)
        _save(directory, said, "job.json")  # now, for what follows may take us down
        said.after = still_works(peer)
        _save(directory, said)
    return said


def warm_up(peer: ChaosPeer) -> None:
    """Functions travel, processes start, costs are learned before the clock runs."""
    _collect(peer, functools.partial(logged_square, os.devnull, 0.02), range(40), 60.0)


def work(
    peer: ChaosPeer,
    directory: Path,
    results: TextIO,
    plan: dict[str, float],
    said: Said,
    hit: functools.partial[None],
) -> None:
    items, errors, seen = int(plan["items"]), Counter[str](), set[int]()
    task = functools.partial(logged_square, str(directory / "executions"), plan["seconds"])
    begin = time.monotonic()
    until = begin + plan["limit"]
    peer.start(task, range(items))
    left, due = items, True
    while left and time.monotonic() < until:
        for index, outcome in peer.finished():
            left -= 1
            if isinstance(outcome, BaseException):
                errors[type(outcome).__name__] += 1
            elif outcome != index * index + 1:
                said.wrong += 1
            else:
                said.repeated += index in seen
                seen.add(index)
                results.write(f"{index} {time.monotonic() - begin:.3f}\n")
        results.flush()
        if due and items - left >= STRIKE_AT * items:
            due = False
            hit()
    said.errors, said.unresolved = dict(errors), left


def strike(victims: list[int], pause: bool) -> None:
    for pid in victims:
        os.kill(pid, signal.SIGSTOP if pause else signal.SIGKILL)
    if pause:
        waker = threading.Timer(PAUSE_SECONDS, wake, [victims])
        waker.daemon = True
        waker.start()


def wake(victims: list[int]) -> None:
    for pid in victims:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # its own people have ended it meanwhile


def still_works(peer: ChaosPeer) -> str:
    """A few new tasks."""
    try:
        outcomes = _collect(
            peer,
            functools.partial(logged_square, os.devnull, 0.0),
            range(AFTER_TASKS),
            AFTER_SECONDS_MAX,
        )
    except Exception as error:  # noqa: BLE001  # any exception is the answer
        return type(error).__name__
    failures = {type(each).__name__ for each in outcomes if isinstance(each, BaseException)}
    if failures:
        return ", ".join(sorted(failures))
    return "yes" if len(outcomes) == AFTER_TASKS else f"no answer in {AFTER_SECONDS_MAX:.0f} s"


def _collect(
    peer: ChaosPeer, task: functools.partial[int], items: range, seconds: float
) -> list[object]:
    outcomes: list[object] = []
    until = time.monotonic() + seconds
    wanted = {-1 - item for item in items}  # not to be taken for those of the job
    peer.start(task, sorted(wanted))
    while len(outcomes) < len(items) and time.monotonic() < until:
        outcomes += [outcome for item, outcome in peer.finished() if item in wanted]
    return outcomes


def _save(directory: Path, said: Said, name: str = "said.json") -> None:
    draft = directory / "draft"
    draft.write_text(json.dumps(asdict(said)))
    draft.rename(directory / name)


def main() -> None:
    peer, fault, directory, plan = sys.argv[1:]
    _save(Path(directory), run(peer, fault, Path(directory), json.loads(plan)))


if __name__ == "__main__":
    main()
