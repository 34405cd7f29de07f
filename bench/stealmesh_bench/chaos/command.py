"""`stealmesh chaos`: which scenarios, how large, how seeded; and what is said about them.

Exit status: 0 when every run kept every promise, 1 when one did not, 2 for wrong usage (also: a
scenario that cannot be played as asked).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import NoReturn

from stealmesh.host.core_in_use import COMPILED, core_in_use
from stealmesh_bench.chaos import jobs, plot
from stealmesh_bench.chaos.named import DISKS, SCENARIOS, Wanted, draw
from stealmesh_bench.chaos.report import ChaosReport, together
from stealmesh_bench.chaos.scenario import TARGETS, CannotPlay, Scenario
from stealmesh_bench.paths import python_path

DEFAULT = "kill-one"
NODES_REAL = 8
NODES_SIM = 64
NODES_REAL_MAX = 128
SEED_MAX = 1_000_000
EXIT_PASS, EXIT_BREACH, EXIT_USAGE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Order:
    """One run to play."""

    wanted: Wanted
    sim: bool
    job: str = ""
    """Empty: what the scenario has by itself."""

    @property
    def replay(self) -> str:
        """The command that repeats this run."""
        wanted = self.wanted
        words = ["stealmesh", "chaos", "--scenario", wanted.name]
        if self.sim:
            words.append("--sim")
        if wanted.nodes:
            words += ["--nodes", str(wanted.nodes)]
        words += ["--seed", str(wanted.seed)]
        if wanted.seconds is not None:
            words += ["--seconds", f"{wanted.seconds:g}"]
        if wanted.target != "any":
            words += ["--target", wanted.target]
        if wanted.silent:
            words.append("--silent")
        if self.job:
            words += ["--job", self.job]
        return shlex.join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    told = parser.parse_args(arguments)
    if told.list:
        for name, named in SCENARIOS.items():
            print(f"{name:14} {named.about}")
        for job, about in jobs.NAMED.items():
            print(f"--job {job:8} {about}")
        return EXIT_PASS
    if core_in_use() == COMPILED:
        _on_the_pure_core(sys.argv[1:] if arguments is None else arguments)
    try:
        if told.plot:
            plot.check(told.plot)
        _check(told)
        orders = _orders(told)
        return _play_all(orders, told)
    except (CannotPlay, plot.CannotDraw) as error:
        print(f"stealmesh chaos: {error}", file=sys.stderr)
        return EXIT_USAGE


def _on_the_pure_core(arguments: Sequence[str]) -> NoReturn:
    """Start again there. The eyes of the stage (eyes.py) are in methods of the core, and native code calls its own
    methods without them: then no node seems to have met another."""
    words = [sys.executable, "-m", "stealmesh_bench.chaos", *arguments]
    sys.stdout.flush()
    os.execve(
        sys.executable, words, {**os.environ, "STEALMESH_PURE": "1", "PYTHONPATH": python_path()}
    )


def _orders(told: argparse.Namespace) -> list[Order]:
    seed = told.seed if told.seed is not None else SystemRandom().randrange(SEED_MAX)
    names = list(dict.fromkeys(told.scenario or [DEFAULT]))
    if "all" in names:
        names = list(SCENARIOS)
    orders = []
    for name in names:
        nodes = told.nodes
        if nodes is None and not (name == "random" and told.sim):
            nodes = NODES_SIM if told.sim else NODES_REAL
        wanted = Wanted(
            name, seed, nodes or 0, told.seconds, told.target, told.silent, _lasts(told, nodes)
        )
        order = Order(wanted, told.sim, told.job or "")
        orders += [
            replace(order, wanted=replace(wanted, seed=seed + number))
            for number in range(told.runs)
        ]
    return orders


def _lasts(told: argparse.Namespace, nodes: int | None) -> float | None:
    """How long the job that was asked for takes if nothing happens, where that is known."""
    if told.job != "tasks" and (told.sim or told.target != "durable-submitter"):
        return None
    return jobs.TASKS * jobs.ITEM_SECONDS / (nodes or NODES_REAL)


def _check(told: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    for name in told.scenario or []:
        if name == "all":
            continue
        least = SCENARIOS[name].nodes_min
        if told.nodes is not None and told.nodes < least:
            raise CannotPlay(f"{name} needs at least {least} nodes: --nodes {least}")
    _check_target(told.target, set(told.scenario or [DEFAULT]))
    if told.sim and told.job and told.job not in jobs.VIRTUAL_JOBS:
        known = ", ".join(jobs.VIRTUAL_JOBS)
        raise CannotPlay(
            f"--job {told.job} runs real code: leave --sim away (virtual workers only keep time; they know {known})"
        )
    if not told.sim and (told.nodes or 0) > NODES_REAL_MAX:
        raise CannotPlay(f"{told.nodes} real nodes are too many for one machine: add --sim")
    if told.job and told.job not in jobs.NAMED and told.job.count(":") != 1:
        raise CannotPlay(f"--job {told.job}: write {', '.join(jobs.NAMED)} or module:function")


def _check_target(target: str, names: set[str]) -> None:
    """Refuse a target that these scenarios cannot hit."""
    if target in ("minority", "all") and not names <= DISKS:
        raise CannotPlay(f"--target {target} is for {', '.join(sorted(DISKS))}")
    if target not in ("minority", "all", "any") and names & DISKS:
        raise CannotPlay(f"{min(names & DISKS)} hits disks: --target minority or --target all")


def _play_all(orders: list[Order], told: argparse.Namespace) -> int:
    begun = time.perf_counter()
    reports = []
    by_name: dict[str, list[ChaosReport]] = {}
    for number, order in enumerate(orders, 1):
        if not told.json:
            _say(f"[{number}/{len(orders)}] {order.replay}")
        try:
            report = _play(order, _watcher(told.watch), drawn=bool(told.plot))
        except CannotPlay as error:
            if "all" not in (told.scenario or []):
                raise
            _say(f"    left out: {error}")
            continue
        reports.append(report)
        by_name.setdefault(report.scenario, []).append(report)
        if not told.json:
            for breach in report.breaches:
                _say(f"    BREACH {breach}")
        if told.plot:
            plot.draw(report, _numbered(told.plot, number, len(orders)))
    if told.json:
        for several in by_name.values():
            runs = f" --runs {len(several)}" if len(several) > 1 else ""
            said = together(several, several[0].replay + runs) if runs else several[0].as_object()
            print(json.dumps(said), flush=True)
    else:
        _draw_table(reports, time.perf_counter() - begun)
    return EXIT_BREACH if any(report.breaches for report in reports) else EXIT_PASS


def _play(order: Order, watch: Callable[[str], None] | None, *, drawn: bool = False) -> ChaosReport:
    if order.sim and not order.wanted.nodes:
        if order.job:
            raise CannotPlay("random --sim draws its own work: leave --job away, or say --nodes")
        from stealmesh_bench.chaos.worlds import play as play_world

        return play_world(order.wanted.seed, order.replay)
    scenario: Scenario = draw(order.wanted)
    outlives = order.job in ("", "tasks", *jobs.DURABLE_ALONE)
    if scenario.durable and not outlives:
        raise CannotPlay(
            f"--job {order.job} cannot outlive its submitter in this scenario, which counts the items of one launch(): leave --job away, or --job tasks"
        )
    if order.job in jobs.DURABLE_ALONE and (not scenario.durable or scenario.name in DISKS):
        raise CannotPlay(f"--job {order.job} is for full-stop and for --target durable-submitter")
    if order.sim:
        from stealmesh_bench.chaos import simulated

        return simulated.play(scenario, order.replay, watch=watch, job=order.job, drawn=drawn)
    from stealmesh_bench.chaos import real

    job = order.job or ("tasks" if scenario.durable else "stream")
    return real.play(scenario, order.replay, job=job, drawn=drawn)


def _watcher(wanted: bool) -> Callable[[str], None] | None:
    return (lambda line: print(line, file=sys.stderr)) if wanted else None


def _numbered(path: str, number: int, count: int) -> str:
    if count == 1:
        return path
    stem, dot, suffix = path.rpartition(".")
    return f"{stem}-{number}{dot}{suffix}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _draw_table(reports: list[ChaosReport], seconds: float) -> None:
    from stealmesh_bench.chaos.table import show

    show(reports, seconds)


# ---------------------------------------------------------------- arguments


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {name:14} {named.about}" for name, named in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="stealmesh chaos",
        description="Break a mesh on purpose and check that nothing is lost or doubled.",
        epilog=f"scenarios:\n{names}\n\nexit status: 0 every promise was kept; 1 one was not; 2 wrong usage",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    known = [*SCENARIOS, "all"]
    parser.add_argument(
        "--scenario", action="append", choices=known, metavar="NAME",
        help=f"may be repeated; all: every one of them (default: {DEFAULT})",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument(
        "--sim", action="store_true", help="in virtual time instead of with real processes"
    )
    parser.add_argument(
        "--nodes", type=_at_least_one, metavar="N",
        help=f"how many (default: {NODES_REAL} processes, {NODES_SIM} simulated; random --sim draws them)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="repeats a run (default: drawn, and said)")
    parser.add_argument(
        "--seconds", type=_seconds, help="how long work flows (default: as the scenario needs)"
    )
    parser.add_argument(
        "--runs", type=_at_least_one, default=1, help="with seeds N, N + 1 … (default: 1)"
    )
    parser.add_argument(
        "--target", choices=TARGETS, default="any",
        help="the node that kill-one kills (default: any node). submitter: another program, whose work goes "
        "first; durable-submitter: the program that launched the job, which another one then collects. "
        "Of disk-…: the disks of a minority of the replicas (the default), or of all",
    )  # fmt: skip
    parser.add_argument(
        "--silent", action="store_true",
        help="machines go off where processes would be killed: no refusal comes back",
    )  # fmt: skip
    named = "; ".join(f"{name}: {about}" for name, about in jobs.NAMED.items())
    parser.add_argument(
        "--job", metavar="JOB",
        help=f"what is worked on (default: stream). {named}; module:function: a job of your own, "
        "called with a Mesh, its answer compared with the function's `expected`, or else with that "
        "of a run that nothing disturbs",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one object a scenario, one a line")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="FILE.svg: draw who did what when, with goodput and faults; FILE.html: tell it",
    )
    parser.add_argument(
        "--watch", action="store_true", help="with --sim: every event, on standard error"
    )
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("must be between 1 and 86400")
    return seconds
