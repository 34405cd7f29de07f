"""`python -m stealmesh_bench [names…]`: measure, show, and remember.

Exit status: 0 when everything was measured and every result was right (whether or not the
targets were met, and whether or not a figure has become worse), 1 when a measurement failed or an answer was wrong, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from stealmesh_bench import exact
from stealmesh_bench.compare import Plan
from stealmesh_bench.compass import as_compass, bearings
from stealmesh_bench.compass_svg import as_svg
from stealmesh_bench.other_peers import PEERS, is_installed
from stealmesh_bench.peers import PURE, STANDARD, STEALMESH
from stealmesh_bench.record import (
    Row,
    Setting,
    append,
    as_objects,
    commit,
    default_path,
    load_average,
    machine,
)
from stealmesh_bench.regression import regressions, remembered
from stealmesh_bench.stand import BenchError
from stealmesh_bench.suite import SUITE
from stealmesh_bench.table import as_table

REPEATS = 5
QUICK_REPEATS = 1
COMPASS = ("single", "map", "uts", "recovery", "startup", "latency")
"""The measurements of README's table, in its order."""
ALL_PEERS = "installed"
PICTURE = "stealmesh-bench.svg"
PAPER_COLUMNS = 140
"""Wide enough for every table, where the terminal does not say how wide it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    told = parser.parse_args(arguments)
    for unknown in {*told.names} - {*SUITE}:
        parser.error(f"no measurement {unknown!r}; known: {', '.join(SUITE)}")
    peers = _peers(told.peers)
    for unknown in {*peers} - {*PEERS}:
        parser.error(f"no peer {unknown!r}; known: {', '.join(PEERS)}")
    for missing in (peer for peer in peers if not is_installed(peer)):
        parser.error(f"{missing} is not installed: pip install '.[peers]' in this environment")
    beside_all = told.peers == ALL_PEERS
    names = told.names or (COMPASS if beside_all else SUITE)
    plan = Plan(
        repeats=told.repeats or (QUICK_REPEATS if told.quick else REPEATS),
        quick=told.quick,
        peers=peers,
        runs=told.runs or (1 if told.quick else Plan.runs),
        seed=told.seed,
    )
    screen = Console(stderr=told.json)
    if not screen.is_terminal:
        screen.width = PAPER_COLUMNS
    record = None if told.no_record else Path(told.record or default_path())
    made: list[Row] = []
    status = 0
    for name in names:
        screen.print(f"[dim]{time.strftime('%H:%M:%S')} {name} …[/dim]")
        try:
            rows, wrong = _one(name, plan, screen, told.json, record)
            made += rows
            status = max(status, wrong)
        except BenchError as error:
            screen.print(f"{name}: no figure: {error}", style="red", markup=False, highlight=False)
            status = 1
    if beside_all:
        screen.print(as_compass(bearings(made)))
    if picture := told.svg or (PICTURE if beside_all else None):
        Path(picture).write_text(as_svg(bearings(made), _about(plan)), encoding="utf-8")
        screen.print(f"the picture: {picture}", markup=False, highlight=False)
    return status


def _about(plan: Plan) -> str:
    """Under the title of the picture."""
    where = machine()
    quick = "; quick: measures nothing" if plan.quick else ""
    return (
        f"{where['cpu']}, {where['cores']} cores, {time.strftime('%Y-%m-%d', time.gmtime())}{quick}"
    )


def _one(
    name: str, plan: Plan, screen: Console, as_json: bool, record: Path | None
) -> tuple[list[Row], int]:
    """Make one measurement and tell everybody. Returns its rows, and 1 if an answer was wrong."""
    about, version, before = machine(), commit(), load_average()
    rows = SUITE[name](plan)
    objects = as_objects(rows, Setting(about, version, before, load_average(), plan.quick))
    worse = regressions(objects, remembered(record or default_path()))
    if record is not None:
        append(objects, record)
    if as_json:
        for each in objects:
            print(json.dumps(each, ensure_ascii=False), flush=True)
    else:
        screen.print(as_table(rows, name))
    for said in worse:
        screen.print(said, style="bold white on red", markup=False, highlight=False, soft_wrap=True)
    return rows, int(any(row.unit == exact.UNIT and row.value for row in rows))


def _peers(named: str) -> tuple[str, ...]:
    """Stealmesh first: it is measured beside all the others. With its compiled core, in pure Python as well."""
    if named == ALL_PEERS:
        return tuple(peer for peer in PEERS if is_installed(peer))
    others = [name.strip() for name in named.split(",") if name.strip()]
    ours = [STEALMESH, PURE] if is_installed(PURE) else [STEALMESH]
    return tuple(dict.fromkeys([*ours, *others]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stealmesh bench", description="Measure Stealmesh beside the standard library's pools."
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(SUITE)}; default: all"
    )
    parser.add_argument(
        "--repeats", type=_at_least_one, help="runs of each peer, alternating (default: 5)"
    )
    parser.add_argument(
        "--runs", type=_at_least_one, help="runs of each kind in `exact` (default: 2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides who is killed, and when")
    parser.add_argument(
        "--peers", nargs="?", metavar="PEER,…", const=ALL_PEERS, default=",".join(STANDARD),
        help=f"whom to measure beside, of {', '.join(PEERS)} (default: %(default)s). Without a value: all"
        f" that are installed, {', '.join(COMPASS)}, with a table of factors and {PICTURE}",
    )  # fmt: skip
    parser.add_argument("--svg", metavar="FILE", help="draw the factors into a picture")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: shows that it works, measures nothing"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a row instead of tables"
    )
    parser.add_argument(
        "--record", metavar="FILE", help="where rows are remembered (default: bench/results.jsonl)"
    )
    parser.add_argument("--no-record", action="store_true", help="do not remember")
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
