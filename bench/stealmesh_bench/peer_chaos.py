"""The same job and the same faults, for Stealmesh and for those who also promise to survive.

    python -m stealmesh_bench.peer_chaos [--peers stealmesh,dask,ray] [--json]

2,000 tasks of 20 ms, submitted one by one, on four workers (10 s at best; 17 s where two do not come
back at 30 %). Every run is a process of its own and has 60 s; what it has not said by then never
came. Executions are counted in a file, apart from the results. Nothing is left out
because it looks bad for anybody; what a peer has no counterpart for is "–".
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stealmesh_bench.chaos_peers import MARK, MEETING_SECONDS_MAX, NEEDS, PEERS, marked
from stealmesh_bench.paths import python_path
from stealmesh_bench.peer_chaos_run import AFTER_SECONDS_MAX, FAULTS
from stealmesh_bench.peers import STEALMESH
from stealmesh_bench.stand import BenchError
from stealmesh_bench.workloads.logged import executions

GRACE_SECONDS = 15.0
PAPER_COLUMNS = 150


@dataclass
class PeerOutcome:
    """One run, as it is shown."""

    peer: str
    fault: str
    tasks: int
    right: int = 0
    wrong: int = 0
    repeated: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    unresolved: int = 0
    """Neither result nor error when the time was over."""
    run_twice: int = 0
    seconds: float = 0.0
    """Until the last right result."""
    after: str = ""
    applies: bool = True
    caller: str = ""
    """How the caller's process ended, if not as it should."""
    overhead_seconds: float | None = None
    """Beyond the undisturbed run of this peer."""

    @property
    def lost(self) -> int:
        return self.tasks - self.right

    @property
    def is_perfect(self) -> bool:
        return self.applies and not (self.lost or self.wrong or self.repeated or self.caller)


def measure(
    peer: str, fault: str, *, items: int, seconds: float, limit: float, seed: int
) -> PeerOutcome:
    """One run in a process of its own. Nothing of it is left afterwards."""
    plan = {"items": items, "seconds": seconds, "limit": limit, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="peer-chaos-") as name:
        directory = Path(name)
        argv = [sys.executable, "-m", "stealmesh_bench.peer_chaos_run"]
        with (directory / "caller.log").open("wb") as log:
            caller = subprocess.Popen(
                [*argv, peer, fault, name, json.dumps(plan)],
                env=os.environ | {MARK: name, "PYTHONPATH": python_path()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                patience = 2 * MEETING_SECONDS_MAX + limit + AFTER_SECONDS_MAX + GRACE_SECONDS
                ended = _wait(caller, directory, patience)
            finally:
                end_all(name, caller)
        if not (directory / "said.json").exists() and not (directory / "results").exists():
            why = (directory / "caller.log").read_text()
            raise BenchError(f"{peer} {ended or 'said nothing'} before the job began: {why}")
        return judged(peer, fault, items, directory, ended)


def _wait(caller: subprocess.Popen[bytes], directory: Path, patience: float) -> str:
    """How it ended; empty: well."""
    until = time.monotonic() + patience
    while caller.poll() is None and time.monotonic() < until:
        if (directory / "said.json").exists():
            # All is said; closing a broken peer may take for ever, and is not measured.
            with contextlib.suppress(subprocess.TimeoutExpired):
                caller.wait(GRACE_SECONDS)
            return ""
        time.sleep(0.05)
    status = caller.poll()
    if status is None:
        return "hangs"
    return "" if status == 0 else f"ended with status {status}"


def end_all(run: str, caller: subprocess.Popen[bytes]) -> None:
    """Processes that bear this run's mark, by id."""
    caller.kill()
    caller.wait()
    until = time.monotonic() + GRACE_SECONDS
    while pids := marked(run):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise BenchError(f"processes that cannot be ended: {pids}")
        time.sleep(0.05)


def judged(peer: str, fault: str, items: int, directory: Path, ended: str) -> PeerOutcome:
    """What the files of a run say; its process `ended` like this (empty: well)."""
    outcome = PeerOutcome(peer, fault, items)
    told = [directory / name for name in ("job.json", "said.json")]
    for each in told:
        if each.exists():
            for name, value in json.loads(each.read_text()).items():
                setattr(outcome, name, value)
    results = directory / "results"
    lines = results.read_text().splitlines() if results.exists() else []
    came = {int(index): float(at) for index, at in map(str.split, lines)}
    outcome.right = len(came)
    outcome.seconds = max(came.values(), default=0.0)
    log = directory / "executions"
    ran = executions(str(log)) if log.exists() else {}
    outcome.run_twice = sum(ran.values()) - len(ran)
    if not told[0].exists() and not told[1].exists():
        outcome.unresolved = items - outcome.right
    if not told[1].exists():
        outcome.caller = ended or "said nothing"
    return outcome


def compared(outcomes: Iterable[PeerOutcome]) -> list[PeerOutcome]:
    """With the seconds beyond the undisturbed run of the same peer."""
    outcomes = list(outcomes)
    undisturbed = {each.peer: each.seconds for each in outcomes if each.fault == "nothing"}
    for each in outcomes:
        if each.applies and not each.lost and each.peer in undisturbed:
            each.overhead_seconds = each.seconds - undisturbed[each.peer]
    return outcomes


def as_table(outcomes: Iterable[PeerOutcome]) -> Table:
    table = Table(title="the same job, the same faults", title_justify="left")
    for column in ("fault", "peer", "right", "lost", "errors", "never answered", "run twice"):
        table.add_column(column, justify="left" if column in ("fault", "peer", "errors") else "right")  # fmt: skip
    table.add_column("last result", justify="right")
    table.add_column("beyond undisturbed", justify="right")
    table.add_column("a new task afterwards")
    for each in outcomes:
        if not each.applies:
            table.add_row(each.fault, each.peer, *["–"] * 8)
            continue
        errors = ", ".join(f"{name} × {count}" for name, count in each.errors.items())
        if each.wrong or each.repeated:
            errors += f" WRONG × {each.wrong}, REPEATED × {each.repeated}"
        colour = "green" if each.is_perfect else "red"
        table.add_row(
            each.fault, each.peer, f"[{colour}]{each.right}[/]", str(each.lost), errors,
            str(each.unresolved), str(each.run_twice), f"{each.seconds:.1f} s",
            "" if each.overhead_seconds is None else f"{each.overhead_seconds:+.1f} s",
            f"the program itself {each.caller}" if each.caller else each.after,
        )  # fmt: skip
    return table


def as_object(outcome: PeerOutcome) -> dict[str, Any]:
    return {**asdict(outcome), "lost": outcome.lost}


def main(arguments: Sequence[str] | None = None) -> int:
    told = _parser().parse_args(arguments)
    peers = [name.strip() for name in told.peers.split(",") if name.strip()]
    for name in peers:
        if name not in PEERS:
            _parser().error(f"no peer {name!r}; known: {', '.join(PEERS)}")
    screen = Console(stderr=told.json)
    if not screen.is_terminal:
        screen.width = PAPER_COLUMNS
    outcomes: list[PeerOutcome] = []
    status = 0
    for fault in told.faults or FAULTS:
        for peer in peers:
            if importlib.util.find_spec(NEEDS[peer]) is None:
                screen.print(f"{peer} is not installed: left out (see README)", style="yellow")
                continue
            screen.print(f"[dim]{time.strftime('%H:%M:%S')} {fault}: {peer} …[/dim]")
            for number in range(told.repeats):
                try:
                    outcome = measure(
                        peer, fault, items=told.tasks, seconds=told.task_seconds,
                        limit=told.limit, seed=told.seed + number,
                    )  # fmt: skip
                except BenchError as error:
                    screen.print(f"no figure: {error}", style="red", markup=False, highlight=False)
                    status = 1
                else:
                    outcomes.append(outcome)
    compared(outcomes)
    if told.json:
        for each in outcomes:
            print(json.dumps(as_object(each), ensure_ascii=False), flush=True)
    else:
        screen.print(as_table(outcomes))
    ours = [each for each in outcomes if each.peer == STEALMESH and each.applies]
    return max(status, int(not all(each.is_perfect for each in ours)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stealmesh_bench.peer_chaos",
        description="The same job and the same faults for Stealmesh, dask.distributed and Ray.",
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument(
        "--fault", dest="faults", action="append", choices=list(FAULTS), help="default: all"
    )
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--task-seconds", type=float, default=0.02)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for a job")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="decides who is hit")
    parser.add_argument("--json", action="store_true", help="one JSON object a run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
