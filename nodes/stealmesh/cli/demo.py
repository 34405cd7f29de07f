"""A local mesh runs a real job, loses a node halfway, and still gets it right.

Four node processes on this machine count the primes below ten million and then search the tree T1
of the Unbalanced Tree Search benchmark. The size of that tree is published, and no program can divide
it in advance. Halfway through, one of the nodes is killed with SIGKILL. Exit status 1 if any answer
differs from the published one.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stealmesh.cli.exits import DONE, FAILED, USAGE, CommandEnded
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from rich.console import Console

    from stealmesh.client.journals import Happening
    from stealmesh.futures import Future
    from stealmesh.mesh import Mesh

NODES = 4
PRIMES_BELOW = 10**7
TREE = "T1"
LOOK_SECONDS = 0.05
GATHER_SECONDS_MAX = 20.0
REPLACE_SECONDS_MAX = 10.0


@dataclass
class Loss:
    """The kill of a node and what followed, as far as status() tells."""

    node: dict[str, Any]
    at: float
    done: int
    """How many nodes of the tree were counted at that time."""
    declared_before: int
    noticed_seconds: float | None = None
    rerun: int = 0
    pids_then: set[int] = field(default_factory=set)
    """Process ids of the nodes that were there before the kill."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-kill", action="store_true", help="leave all nodes alive, for comparison"
    )
    parser.add_argument(
        "--picture", metavar="FILE.svg", default="", help="draw what ran where into this file"
    )


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from stealmesh.mesh import Mesh
    from stealmesh_protocol.errors import MeshError

    # A pipe has no width: sentences are then left whole.
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(f"[bold]Stealmesh demo[/]: {NODES} nodes on this machine, nothing in the middle.")
    began = time.monotonic()
    with Mesh(nodes=NODES, workers=1) as mesh:
        nodes = _gather(mesh, NODES)
        names = ", ".join(f"{node['name']} (pid {node['pid']})" for node in nodes)
        console.print(
            f"{len(nodes)} nodes found each other in {time.monotonic() - began:.1f} s: {names}"
        )
        try:
            primes = _count_primes(mesh, console)
            seen = _Seen(mesh, wanted=bool(arguments.picture))
            counts, loss = _search_tree(mesh, console, seen, kill=not arguments.no_kill)
        except MeshError as error:
            raise CommandEnded(FAILED, f"the demo's job failed: {error}") from error
        if loss is not None:
            _tell_loss(mesh, console, loss)
        elif not arguments.no_kill:
            console.print("The search was over before a node could be killed.")
        if arguments.picture:
            _draw(seen, arguments.picture)
    return _verdict(console, primes, counts)


# ---------------------------------------------------------------- the two jobs


def _count_primes(mesh: Mesh, console: Console) -> int:
    from operator import add

    from stealmesh.examples.primes import count_primes
    from stealmesh.tasks import vectorized

    job = mesh.options(name="primes").map_reduce(vectorized(count_primes), range(PRIMES_BELOW), add)
    _watch(mesh, console, job, "primes below 10,000,000", PRIMES_BELOW, lambda status: None)
    return int(job.result())


def _search_tree(
    mesh: Mesh, console: Console, seen: _Seen, *, kill: bool
) -> tuple[tuple[int, ...], Loss | None]:
    from stealmesh.examples import uts

    tree = uts.TREES[TREE]
    assert tree.expected is not None
    losses: list[Loss] = []
    halfway = tree.expected.nodes // 2

    def look(status: dict[str, Any]) -> None:
        done = _job(status).get("done", 0)
        if losses:
            _follow(losses[0], status)
        elif kill and done >= halfway:
            seen.look()  # what a node remembers dies with it
            losses.append(_kill_one(status, done))

    job = mesh.options(name=TREE).explore(uts.visitor(tree), [uts.root(tree)], uts.combine_counts)
    _watch(mesh, console, job, f"search of the tree {TREE}", tree.expected.nodes, look)
    seen.look()
    return tuple(job.result()), losses[0] if losses else None


def _watch(
    mesh: Mesh,
    console: Console,
    job: Future[Any],
    title: str,
    total: int,
    look: Callable[[dict[str, Any]], None],
) -> None:
    """Draw a bar until the job is over; `look` sees every status on the way."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=total)
        while not job.done():
            status = _status(mesh)
            look(status)
            progress.update(bar, completed=min(total, _job(status).get("done", 0)))
            _wait(job, LOOK_SECONDS)
        progress.update(bar, completed=total if job.exception() is None else 0)
    if not console.is_terminal:
        console.print(f"{title}: done in {time.monotonic() - began:.1f} s")


# ---------------------------------------------------------------- the picture


class _Seen:
    """What nodes have told of what ran, also those that are dead by now."""

    def __init__(self, mesh: Mesh, *, wanted: bool) -> None:
        from stealmesh.cli.events import journals_of
        from stealmesh.client.journals import JournalReader

        self.found: list[Happening] = []
        self._reader = JournalReader(journals_of(mesh)) if wanted else None

    def look(self) -> None:
        if self._reader is not None:
            self.found += self._reader.read()


def _draw(seen: _Seen, path: str) -> None:
    from stealmesh.job_story import of_job
    from stealmesh.task_picture import picture

    seen.found.sort(key=lambda each: each.at)
    steals = [each for each in seen.found if each.entry.kind == RingKind.STEAL]
    chosen = sorted([*of_job(seen.found, TREE), *steals], key=lambda each: each.at)
    title = f"Four nodes search the tree {TREE}; one is killed halfway, and the count is exact"
    try:
        Path(path).write_text(picture(chosen, title), encoding="utf-8")
    except OSError as error:
        raise CommandEnded(USAGE, f"cannot write {path}: {error.strerror}") from None


# ---------------------------------------------------------------- the loss


def _kill_one(status: dict[str, Any], done: int) -> Loss:
    """SIGKILL for the node that has run most items: no goodbye, no clean-up."""
    victim = max(_nodes(status), key=lambda node: node.get("executed", 0))
    declared = status["counters"].get("peers-declared-dead", 0)
    loss = Loss(
        victim, time.monotonic(), done, declared, pids_then={n["pid"] for n in _nodes(status)}
    )
    os.kill(victim["pid"], signal.SIGKILL)
    return loss


def _follow(loss: Loss, status: dict[str, Any]) -> None:
    if loss.noticed_seconds is None:
        declared = status["counters"].get("peers-declared-dead", 0)
        gone = loss.node["pid"] not in {node["pid"] for node in _nodes(status)}
        if gone and declared > loss.declared_before:
            loss.noticed_seconds = time.monotonic() - loss.at
    loss.rerun = max(loss.rerun, _job(status).get("rerun", 0))


def _tell_loss(mesh: Mesh, console: Console, loss: Loss) -> None:
    before = loss.pids_then
    status = _until(mesh, lambda status: any(n["pid"] not in before for n in _nodes(status)), REPLACE_SECONDS_MAX)  # fmt: skip
    _follow(loss, status)
    dropped = status["counters"].get("results-dropped", 0)
    node = loss.node
    console.print("\n[bold]What happened[/]")
    console.print(
        f"  killed      {node['name']} (pid {node['pid']}) with SIGKILL at {loss.done:,} tree nodes"
    )
    seconds = loss.noticed_seconds
    noticed = f"within {seconds:.2f} s of the kill" if seconds is not None else "not seen in time"
    console.print(f"  noticed     {noticed}")
    bags = "1 bag" if loss.rerun == 1 else f"{loss.rerun:,} bags"
    console.print(f"  re-leased   {bags} of work that it held, to the nodes that were left")
    console.print(f"  duplicates  {dropped:,} late results came from it and were dropped")
    for fresh in _nodes(status):
        if fresh["pid"] not in before:
            console.print(f"  replaced    by a new {fresh['name']} (pid {fresh['pid']})")


# ---------------------------------------------------------------- the answers


def _verdict(console: Console, primes: int, counts: tuple[int, ...]) -> int:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from stealmesh.examples.primes import PI
    from stealmesh.examples.uts import TREES

    expected = TREES[TREE].expected
    assert expected is not None
    rows = [
        (f"nodes of {TREE}", counts[0], expected.nodes),
        (f"leaves of {TREE}", counts[1], expected.leaves),
        (f"depth of {TREE}", counts[2], expected.depth),
        ("primes below 10,000,000", primes, PI[PRIMES_BELOW]),
    ]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("found", justify="right")
    table.add_column("published", justify="right")
    table.add_column("")
    for name, found, published in rows:
        mark = "[green]exact[/]" if found == published else "[bold red]WRONG[/]"
        table.add_row(name, f"{found:,}", f"{published:,}", mark)
    console.print(table)
    if all(found == published for _, found, published in rows):
        console.print("[bold green]Every answer is exact.[/]")
        return DONE
    console.print("[bold red]An answer is wrong. Please report this.[/]")
    return FAILED


# ---------------------------------------------------------------- looking


def _gather(mesh: Mesh, count: int) -> list[dict[str, Any]]:
    status = _until(mesh, lambda status: len(_nodes(status)) >= count, GATHER_SECONDS_MAX)
    return sorted(_nodes(status), key=lambda node: str(node["name"]))


def _until(
    mesh: Mesh, enough: Callable[[dict[str, Any]], bool], seconds_max: float
) -> dict[str, Any]:
    until = time.monotonic() + seconds_max
    while not enough(status := _status(mesh)) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    return status


def _status(mesh: Mesh) -> dict[str, Any]:
    try:
        return mesh.status()
    except TimeoutError:  # a node that was asked has just been killed, on a busy machine
        return {"nodes": [], "jobs": [], "counters": {}}


def _nodes(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in status["nodes"] if node["role"] != "client"]


def _job(status: dict[str, Any]) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = status["jobs"]
    return jobs[0] if jobs else {}


def _wait(job: Future[Any], seconds: float) -> None:
    try:
        job.exception(timeout=seconds)
    except TimeoutError:
        pass
