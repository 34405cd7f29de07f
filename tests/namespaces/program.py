"""A program on one of the hosts: joins the mesh and does what it is told, line by line.

`python program.py ADDRESS KEY_FILE`, then on standard input::

    map ITEMS SECONDS OCTETS LOG   → {"done": n} now and then, at last {"over": …}
    status                         → {"status": …}

Every result is checked against what it must be and counted by its index: what is missing,
what came twice and what is wrong are told in the end.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections import Counter
from typing import Any

import stealmesh
from stealmesh_bench.workloads.logged import logged_sleep

STEP = 50


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")  # one write, so that threads do not mix their lines
    sys.stdout.flush()


def work(log: str, seconds: float, octets: int, index: int) -> tuple[int, int, bytes]:
    """Leaves a line for each execution. The payload is noise, so no compressor makes it small."""
    import random

    logged_sleep(log, index, seconds)
    return index, index * index + 1, random.Random(index).randbytes(octets)


def run_map(mesh: stealmesh.Mesh, items: int, seconds: float, octets: int, log: str) -> None:
    came: Counter[int] = Counter()
    wrong = 0
    task = functools.partial(work, log, seconds, octets)
    for index, value, payload in mesh.map(task, range(items), ordered=False):
        came[index] += 1
        wrong += (value, len(payload)) != (index * index + 1, octets)
        if came.total() % STEP == 0:
            say(done=came.total())
    lost = [index for index in range(items) if index not in came]
    doubled = [index for index, times in came.items() if times > 1]
    say(over={"lost": lost, "doubled": doubled, "wrong": wrong, "came": came.total()})


def main(address: str, key_file: str) -> None:
    with stealmesh.Mesh(address, key=key_file) as mesh:
        say(joined=True)
        for line in sys.stdin:
            match line.split():
                case ["map", items, seconds, octets, log]:
                    told = (mesh, int(items), float(seconds), int(octets), log)
                    threading.Thread(target=run_map, args=told, daemon=True).start()
                case ["status"]:
                    say(status=mesh.status())


if __name__ == "__main__":
    main(*sys.argv[1:])
