"""Ctrl-C at any moment of a loop of submits: KeyboardInterrupt in the loop, and the mesh goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.real

PROGRAM = """
import sys
import stealmesh

def size(value):
    return len(value)

sizes = {"small": [10], "large": [3_000_000], "mixed": [10, 200_000, 3_000_000]}[sys.argv[1]]
with stealmesh.Mesh(workers=2) as mesh:
    assert mesh.submit(size, b"x").result() == 1
    for turn in range(int(sys.argv[2])):
        print("loop", flush=True)
        done = 0
        try:
            while True:
                octets = sizes[done % len(sizes)]
                assert mesh.submit(size, bytes(octets)).result() == octets
                done += 1
        except KeyboardInterrupt:
            pass
        assert mesh.submit(size, b"xy").result(60) == 2
        assert sum(mesh.map(size, [b"a"] * 50)) == 50
        print("usable", flush=True)
print("over", flush=True)
"""
TURNS = 6


@pytest.mark.parametrize("kind", ["small", "large", "mixed"])
def test_ctrl_c_in_a_loop_of_submits_leaves_the_mesh_usable(kind: str, tmp_path: object) -> None:
    """Row 15: 4 of 15 ended the mesh. Six moments of each kind, drawn by a seed that is told."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    file = os.path.join(str(tmp_path), "program.py")
    with open(file, "w", encoding="ascii") as script:
        script.write(PROGRAM)
    with subprocess.Popen(
        [sys.executable, file, kind, str(TURNS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        try:
            for turn in range(TURNS):
                assert program.stdout.readline() == "loop\n", (seed, turn, program.stderr.read())
                time.sleep(chance.uniform(0.0, 0.3))  # which moment it is must not matter
                program.send_signal(signal.SIGINT)
                assert program.stdout.readline() == "usable\n", (seed, turn, program.stderr.read())
            assert program.stdout.readline() == "over\n", (seed, program.stderr.read())
        finally:
            program.kill()
