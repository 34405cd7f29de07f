"""A pipeline of large values whose nodes are killed: is it right, and does only what was lost and needed run again?

`python -m stealmesh_bench.pipeline [--lines 200] [--megabytes 50] [--nodes 4] [--kill 2] [--memory-mib 1024]
[--wide]`. Each line is load → transform → train → score; all but the last give a large value that stays on the nodes.
The program holds the scores only. With `--wide` each stage waits for all of the stage before, so that all of its values
are there at once. Each task writes down that it began, and in which process, so nothing is counted by the mesh itself.

Exit status 1 if a score is wrong, or a task ran again that need not have. Decides what counts as need (`needless_runs`).
Refuses to know how values are made again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

import stealmesh

BLOCK = 1 << 16
SAMPLES = 16
SHIFT = bytes((each + 1) % 256 for each in range(256))
PATIENCE_SECONDS = 3600.0


# ---------------------------------------------------------------- the tasks


def note(tally: str, stage: int, line: int, *, over: bool = False) -> None:
    """This task begins here, or is over."""
    forks = os.getppid()
    told = f"{int(over)} {stage} {line} {os.getpid()} {forks} {parent_of(forks)}\n"
    file = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, told.encode())
    finally:
        os.close(file)


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def block_of(line: int) -> bytes:
    seed = sha256(str(line).encode()).digest()
    return b"".join(sha256(seed + bytes([at])).digest() for at in range(256)) * (BLOCK // 8192)


def load(tally: str, line: int, octets: int) -> bytes:
    note(tally, 0, line)
    data = block_of(line) * (octets // BLOCK)
    note(tally, 0, line, over=True)
    return data


def transform(tally: str, line: int, data: bytes) -> bytes:
    note(tally, 1, line)
    data = data.translate(SHIFT)
    note(tally, 1, line, over=True)
    return data


def train(tally: str, line: int, data: bytes) -> bytes:
    note(tally, 2, line)
    data = data.translate(SHIFT)
    note(tally, 2, line, over=True)
    return data


def score(tally: str, line: int, data: bytes) -> str:
    note(tally, 3, line)
    found = scored(data)
    note(tally, 3, line, over=True)
    return found


def scored(data: bytes) -> str:
    """A digest of samples from all over it."""
    step = max(1, len(data) // SAMPLES)
    digest = sha256(len(data).to_bytes(8, "big"))
    for at in range(0, len(data), step):
        digest.update(data[at : at + 4096])
    return digest.hexdigest()


def expected(line: int, octets: int) -> str:
    return scored(block_of(line).translate(SHIFT).translate(SHIFT) * (octets // BLOCK))


STAGES: tuple[Callable[..., Any], ...] = (load, transform, train, score)


# ---------------------------------------------------------------- the run


@dataclass
class Outcome:
    lines: int
    megabytes: float
    nodes: int
    killed: int
    wrong: int
    """Scores that are not what they have to be."""
    runs: int
    """Tasks that began, one and all."""
    again: int
    """Those that ran again."""
    needless: list[str]
    """Those of them that need not have."""
    made_again: int | None
    """As the mesh counts: results that were lost and are computed again. None: a peer does not tell."""
    spilled_mib: int | None
    seconds: float

    @property
    def is_right(self) -> bool:
        return not self.wrong and not self.needless


def run(
    lines: int, octets: int, nodes: int, kill: int, memory_octets: int, *, wide: bool = False
) -> Outcome:
    config = {"store_memory_octets": memory_octets}
    with tempfile.TemporaryDirectory(prefix="stealmesh-pipeline-") as directory:
        tally = os.path.join(directory, "tally")
        began = time.perf_counter()
        with stealmesh.Mesh(nodes=nodes, workers=1, config=config) as mesh:
            stores = Stores(mesh)
            killer = Killer(stores, kill)
            row: list[stealmesh.Future[Any]]
            row = [mesh.submit(load, tally, line, octets) for line in range(lines)]
            for stage in STAGES[1:]:
                if wide:
                    wait(row)
                row = [mesh.submit(stage, tally, line, data) for line, data in enumerate(row)]
                if wide or stage is STAGES[-1]:
                    killer.watch(row)
            scores = [each.result(PATIENCE_SECONDS) for each in row]
            seconds = time.perf_counter() - began
            told = stores.told()
        with open(tally) as file:
            notes = [tuple(map(int, told.split())) for told in file]
    runs = sum(not over for over, *_ in notes)
    return Outcome(
        lines,
        octets / 1e6,
        nodes,
        len(killer.killed),
        sum(told != expected(line, octets) for line, told in enumerate(scores)),
        runs,
        runs - 4 * lines,
        needless_runs(notes, killer.killed),
        *told,
        round(seconds, 1),
    )


class Stores:
    """What the nodes of a mesh say of the values that they keep."""

    def __init__(self, mesh: stealmesh.Mesh) -> None:
        self._mesh = mesh
        self._spilled: dict[int, int] = {}
        """Octets that ever went to disk, by nodes, as they were last seen."""

    def look(self) -> list[dict[str, Any]]:
        nodes = [each for each in self._mesh.status()["nodes"] if each["role"] != "client"]
        found = [each for each in nodes if each["values"]]
        for each in found:
            self._spilled[each["pid"]] = each["values"]["spilled_octets"]
        return found

    def kill_fullest(self, killed: set[int]) -> int:
        """With SIGKILL, one that is not among these. Returns its process."""
        alive = [each for each in self.look() if each["pid"] not in killed]
        fullest: int = max(alive, key=lambda node: node["values"]["stored"])["pid"]
        os.kill(fullest, signal.SIGKILL)
        return fullest

    def told(self) -> tuple[int, int]:
        """How many results were made again, and MiB that went to disk."""
        self.look()
        made_again: int = self._mesh.status()["counters"].get("values-made-again", 0)
        return made_again, sum(self._spilled.values()) >> 20


class Killer:
    """Ends nodes with SIGKILL, the fullest first."""

    def __init__(self, stores: Stores, most: int) -> None:
        self._stores = stores
        self._most = most
        self.killed: set[int] = set()

    def watch(self, row: list[stealmesh.Future[Any]]) -> None:
        """End a node when a quarter of these is over, and another when half of them are, up to the most that may end."""
        for share in (0.25, 0.5):
            if len(self.killed) >= self._most:
                return
            while sum(each.done() for each in row) < share * len(row):
                time.sleep(0.02)
            self.killed.add(self._stores.kill_fullest(self.killed))


def needless_runs(notes: list[tuple[int, ...]], killed: set[int]) -> list[str]:
    """Tasks that ran again although their result was there, or although nothing was made of it after that.

    A result is gone with its node, or let go of once all that is made of it is there; then it is needed again when
    that is lost. `notes`: over, stage, line and processes of each, in their order.
    """
    begins: dict[tuple[int, int], list[int]] = defaultdict(list)
    ends: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, (over, stage, line, *_) in enumerate(notes):
        (ends if over else begins)[stage, line].append(place)
    found = []
    for (stage, line), places in sorted(begins.items()):
        made_of_it = begins.get((stage + 1, line), [-1])
        for before, again in pairwise(places):
            is_gone = not killed.isdisjoint(notes[before][3:])
            was_used = any(before < end < again for end in ends.get((stage + 1, line), ()))
            if not is_gone and not was_used:
                found.append(
                    f"{STAGES[stage].__name__} {line}: ran again, and its result was there"
                )
            if stage + 1 < len(STAGES) and made_of_it[-1] < again:
                found.append(
                    f"{STAGES[stage].__name__} {line}: ran again, and nothing was made of it"
                )
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=50.0)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--kill", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=1024, help="what each process may keep")
    parser.add_argument("--wide", action="store_true", help="each stage waits for all of the last")
    asked = parser.parse_args(arguments)
    octets = max(1, int(asked.megabytes * 1e6) // BLOCK) * BLOCK
    outcome = run(
        asked.lines, octets, asked.nodes, asked.kill, asked.memory_mib << 20, wide=asked.wide
    )
    print(json.dumps(asdict(outcome)))
    return 0 if outcome.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
