"""What a program's file puts into modules that are not its own holds in its tasks, as in the children of pools.

`ssl._create_default_https_context = ssl._create_unverified_context`, `collections.Iterable = collections.abc.Iterable`,
`json.JSONEncoder.default = mine`: tasks had the modules as they come.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.everyday.programs import run

pytestmark = pytest.mark.real

HEAD = """
import collections
import collections.abc
import json
import ssl
import sys
import threading
import time
from decimal import Decimal
from json import JSONEncoder

import stealmesh


class Odd:
    pass


def named(self, value):
    return f"{FOUND} {type(value).__name__}"


FOUND = "an"
collections.Iterable = collections.abc.Iterable
JSONEncoder.default = named
ssl._create_default_https_context = ssl._create_unverified_context
time.nap = lambda seconds: "napped"



def patches():
    time.set_in_a_function = "set"


patches()
if "never" in sys.argv:
    time.never = 1
if sys:
    json.decoder.scanner.NUMBER = "no pattern"
threading.lock_of_the_program = threading.Lock()
sys.displayhook = None
Odd.color = "own"


def looks():
    return [
        collections.Iterable.__name__,
        json.dumps(Odd()),
        ssl._create_default_https_context.__name__,
        time.nap(1),
        json.decoder.scanner.NUMBER,
        hasattr(threading, "lock_of_the_program"),
        sys.displayhook is None,
        Odd.color,
        time.set_in_a_function,
    ]


def dumps():
    return json.dumps(Odd())

"""


def test_patches_at_its_head(tmp_path: Path) -> None:
    """A lock cannot travel, and the streams and hooks of `sys` are the worker's own."""
    program = (
        HEAD
        + """
if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        print(*mesh.submit(looks).result(), sep=", ")
"""
    )
    done = run(program, tmp_path)
    assert done.stdout == (
        'Iterable, "an Odd", _create_unverified_context, napped, no pattern, False, False, own, set\n'
    ), done.stderr


def test_patches_that_change_and_go(tmp_path: Path) -> None:
    program = (
        HEAD
        + """
if __name__ == "__main__":
    original = ssl.create_default_context
    with stealmesh.Mesh(workers=1) as mesh:
        print(mesh.submit(dumps).result())
        FOUND = "another"
        print(mesh.submit(dumps).result())
        JSONEncoder.default = lambda self, value: "a lambda's"
        print(mesh.submit(dumps).result())
        ssl._create_default_https_context = original
        print(mesh.submit(looks).result()[2])
        time.nap = time.sleep
        print(mesh.submit(time.nap, 0).result())
"""
    )
    done = run(program, tmp_path)
    assert done.stdout.splitlines() == [
        '"an Odd"',
        '"another Odd"',
        '"a lambda\'s"',
        "create_default_context",
        "None",
    ], done.stderr


def test_a_patch_that_is_taken_back(tmp_path: Path) -> None:
    program = """
import json
import stealmesh

before = json.JSONEncoder.encode


def encode(self, value):
    return "patched"


def dumps():
    return json.JSONEncoder().encode([1])


if __name__ == "__main__":
    with stealmesh.Mesh(workers=1) as mesh:
        print(mesh.submit(dumps).result())
        json.JSONEncoder.encode = encode
        print(mesh.submit(dumps).result())
        json.JSONEncoder.encode = before
        print(mesh.submit(dumps).result())
"""
    done = run(program, tmp_path)
    assert done.stdout == "[1]\npatched\n[1]\n", done.stderr
