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


UNHEARD = """
import os, signal, sys, threading, time
import stealmesh

def interrupt():
    started.wait()
    time.sleep(0.5)  # by now the main thread most likely sleeps; the test holds if it does not yet
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # noted here, and wakes nobody

started = threading.Event()
with stealmesh.Mesh(workers=1) as mesh:
    waits = {
        "future": lambda: mesh.submit(time.sleep, 600).result(),
        "map": lambda: list(mesh.map(time.sleep, [600])),
        "reduce": lambda: mesh.map_reduce(time.sleep, [600], max).result(),
        "job": lambda: mesh.launch(time.sleep, [600]).result(),
        "shutdown": lambda: [mesh.submit(time.sleep, 600), mesh.shutdown()],
    }
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        started.set()
        waits[sys.argv[1]]()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        os._exit(0)  # an ordinary end would wait for the call
"""


@pytest.mark.parametrize("wait", ["future", "map", "reduce", "job", "shutdown"])
def test_an_interrupt_that_wakes_nobody_is_seen_nonetheless(wait: str) -> None:
    """Python runs the handler in the main thread, which sleeps on when the signal arrives in another one."""
    with subprocess.Popen(
        [sys.executable, "-c", UNHEARD, wait], stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.communicate(timeout=60)[0] == "interrupted\n"
        finally:
            program.kill()
