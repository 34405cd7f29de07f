"""A local mesh's initializer, and other programs that join the mesh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.everyday.running import ended, environment, write

pytestmark = pytest.mark.real

HOST = """
import importlib.util, sys
import stealmesh

spec = importlib.util.spec_from_file_location("settings", "elsewhere/settings.py")
settings = sys.modules["settings"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(settings)

def prepare():
    settings.ready = True

def ready(_):
    return settings.ready

if __name__ == "__main__":
    with stealmesh.Mesh(workers=2, initializer=prepare) as mesh:
        assert mesh.submit(ready, 0).result()
        print(mesh.address, mesh.key_file, flush=True)
        input()
        assert all(mesh.map(ready, range(100)))
        print("fine", flush=True)
"""

GUEST = """
import sys, stealmesh

def double(x):
    return 2 * x

def visit(bag, limit):
    return len(bag), []

if __name__ == "__main__":
    with stealmesh.Mesh(sys.argv[1], key=sys.argv[2]) as mesh:
        add = lambda a, b: a + b
        told = [
            mesh.submit(double, 1).exception(60),
            mesh.map_reduce(double, range(1000), add).exception(60),
            mesh.explore(visit, [1, 2], add).exception(60),
        ]
        try:
            list(mesh.map(double, range(1000), timeout=60))
        except Exception as error:
            told.append(error)
        for error in told:
            assert isinstance(error, stealmesh.CannotLoad), error
            assert "initializer" in str(error) and "settings" in str(error), error
        print("told", len(told))
"""


def test_a_guest_for_whom_the_initializer_fails_is_told_so(tmp_path: Path) -> None:
    """Its first item came back to it for ever, and each time a worker of the mesh was started anew."""
    host, guest = tmp_path / "host", tmp_path / "guest"
    # The nodes find it in their own program's bundle only.
    write(host, program=HOST, elsewhere__settings="ready = False")
    write(guest, program=GUEST)
    process = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=host,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        where = process.stdout.readline().split()
        got = ended(guest, "program.py", *where)
        assert got.stdout == "told 4\n", got.stderr
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "fine\n"
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
