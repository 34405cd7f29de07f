"""An honest program in a process of its own: `python -m tests.hostile.honest ADDRESS KEY_FILE`.

Says under which id, calls, waits, and says how many seconds that took, a line each, until its standard input ends. For
`stealmesh_bench.disturbed`: beside an attack in its own process a call would wait for the attacker's Python.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

import stealmesh
from stealmesh.host.security import MeshKey

PAUSE_SECONDS = 0.002


def square(number: int) -> int:
    return number * number


def main(address: str, key_file: str) -> None:
    with stealmesh.Mesh(address, key=MeshKey.load(Path(key_file))) as mesh:
        name, number = f"client-{os.getpid()}", 0
        print(
            next(node["id"] for node in mesh.status()["nodes"] if node["name"] == name), flush=True
        )
        while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            begun = time.perf_counter()
            result = mesh.submit(square, number).result()
            seconds = time.perf_counter() - begun
            print(seconds if result == number * number else f"{number}: {result!r}", flush=True)
            number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
