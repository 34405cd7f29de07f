"""What printing costs: the same tasks with `output="none"` and `output="caller"`, in turn, at one mesh of 8 workers.

    python -m stealmesh_bench.printed_lines --lines 1000000 --pairs 5

Each task works for some microseconds and prints a line, again and again; `--items` says in how many items the lines
are. Both kinds print, so the ratio is the price of the way to the caller alone. Each pair says the ratio of the
throughputs and that of the processor time of all processes. Checked are what the caller reads: lines of one item come
in order, and shown and dropped ones are as many as were printed. And that no heartbeat was late: no peer was suspected.

Decides nothing. Exit status: 0 if all lines were accounted for.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import statistics
import sys
import time
from pathlib import Path

import stealmesh

LINE = re.compile(r"\[items? (\d+)(?:-\d+)?\] (.*)")
DROPPED = re.compile(r"\(([\d,]+) lines? dropped\)")
TICKS = os.sysconf("SC_CLK_TCK")


def spins(item: int, lines: int, turns: int, words: int) -> int:
    """Work and print. The words of a line are arguments of `print`."""
    more = ["word"] * (words - 1)
    for number in range(lines):
        for _ in range(turns):
            pass
        print(number, *more)
    return item


def turns_of(micros: float) -> int:
    """Turns of an empty loop that take so long. The best of many, so that others on this machine do not count."""
    best = min(_seconds(100_000) for _ in range(50))
    return round(100_000 * micros * 1e-6 / best)


def _seconds(turns: int) -> float:
    begun = time.perf_counter()
    for _ in range(turns):
        pass
    return time.perf_counter() - begun


def processor_seconds() -> float:
    """Of this process and all below it that live."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
                used[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    waiting, total = [os.getpid()], 0.0
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0.0)
        waiting += parents.get(pid, [])
    return total


class Reader(io.StringIO):
    """The caller's standard error. What is shown is kept, and counted when the clock has stopped: a terminal does not
    count either."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = self.dropped = self.disorder = 0
        self._last: dict[str, int] = {}
        self._texts: list[str] = []

    def write(self, text: str) -> int:
        self._texts.append(text)
        return len(text)

    def count(self) -> None:
        for line in "".join(self._texts).splitlines():
            found = LINE.fullmatch(line)
            missing = DROPPED.search(line)
            if missing:
                self.dropped += int(missing[1].replace(",", ""))
            elif found:
                self.shown += 1
                number = int(found[2].split()[0])
                self.disorder += number <= self._last.get(found[1], -1)
                self._last[found[1]] = number
            else:
                sys.__stderr__.write(f"not a line of a task: {line!r}\n")  # type: ignore[union-attr]


def once(
    mesh: stealmesh.Mesh, output: str, told: argparse.Namespace
) -> tuple[float, float, Reader]:
    lines = told.lines // told.items
    reader, view = Reader(), mesh.options(output=output)
    with contextlib.redirect_stderr(reader):
        used, begun = processor_seconds(), time.perf_counter()
        args = ([each] * told.items for each in (lines, told.turns, told.words))
        for at, item in enumerate(view.map(spins, range(told.items), *args)):
            assert at == item
        seconds, used = time.perf_counter() - begun, processor_seconds() - used
        mesh._life.link.printer.finish()
        mesh._life.link.printer._over = False
    reader.count()
    return seconds, used, reader


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="stealmesh_bench.printed_lines")
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--micros", type=float, default=10.0, help="of work for each line")
    parser.add_argument("--words", type=int, default=5, help="arguments of each print")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=8)
    told = parser.parse_args(arguments)
    told.turns = turns_of(told.micros)
    ratios: list[float] = []
    costs: list[float] = []
    wrong = 0
    with stealmesh.Mesh(workers=told.workers) as mesh:
        once(mesh, "none", argparse.Namespace(**{**vars(told), "lines": told.lines // 10}))
        for pair in range(told.pairs):
            order = ("none", "caller") if pair % 2 == 0 else ("caller", "none")
            both = {output: once(mesh, output, told) for output in order}
            quiet, loud = both["none"], both["caller"]
            reader = loud[2]
            printed = told.lines // told.items * told.items
            wrong += reader.disorder + abs(printed - reader.shown - reader.dropped)
            ratios.append(quiet[0] / loud[0])
            costs.append(loud[1] / quiet[1])
            print(
                f"none {quiet[0]:.2f} s, caller {loud[0]:.2f} s: throughput {ratios[-1]:.3f}, processor "
                f"{quiet[1]:.2f} and {loud[1]:.2f} s: {costs[-1]:.3f}; shown {reader.shown:,}, dropped "
                f"{reader.dropped:,}, in disorder {reader.disorder:,}"
            )
        counters = mesh.status()["counters"]
    late = {name: n for name, n in counters.items() if "suspect" in name or "doubt" in name}
    print(
        f"median of {told.pairs}: throughput {statistics.median(ratios):.3f}, processor {statistics.median(costs):.3f}; "
        f"suspicions {late or 'none'}; lines lost or in disorder: {wrong}"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
