"""Functions that the tests run on the mesh; some of them are not nice."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from typing import Any


def double(x: int) -> int:
    return 2 * x


def with_keywords(self: int, fn: int = 0, *, key: str = "") -> tuple[int, int, str]:
    return self, fn, key


def raise_on_five(x: int) -> int:
    if x == 5:
        raise ValueError("five is right out")
    return x


def segfault_on_seven(x: int) -> int:
    if x == 7:
        ctypes.string_at(0)
    return x


def exit_on_three(x: int) -> int:
    if x == 3:
        os._exit(5)
    return x


def a_lock(x: int) -> Any:
    return threading.Lock()


def hold_the_gil(seconds: float) -> str:
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return "held"


def too_much_memory(x: int) -> int:
    return len(bytearray(1 << 45))


def slow_square(x: int) -> int:
    time.sleep(0.01)
    return x * x


def doze(x: int) -> int:
    time.sleep(0.02)
    return x


def log_and_doze(args: tuple[str, int]) -> int:
    """Leaves a line that says it ran, so that the test can count."""
    path, number = args
    with open(path, "a", buffering=1) as log:
        log.write(f"{number}\n")
    time.sleep(0.02)
    return number


def fail_twice(path: str) -> str:
    """Raises until the file that counts its runs has three lines."""
    with open(path, "a") as log:
        log.write("x")
    if os.path.getsize(path) < 3:
        raise RuntimeError("not yet")
    return "third time lucky"


def visit_slowly(bag: list[int], limit: int) -> tuple[int, list[int]]:
    """A node of this tree is its height, and has three children; a visit takes its time."""
    count = 0
    while bag and count < limit:
        height = bag.pop()
        count += 1
        if height:
            bag += [height - 1] * 3
        time.sleep(0.002)
    return count, bag


def nodes_of_tree(height: int) -> int:
    return int((3 ** (height + 1) - 1) // 2)


def refuse_twice(path: str) -> str:
    """Fails twice, then not."""
    with open(path, "a") as log:
        log.write("tried\n")
    with open(path) as log:
        if len(log.readlines()) < 3:
            raise ValueError("not yet")
    return "done"


def log_and_mix(log: str, number: int, seconds: float, *inputs: int) -> int:
    """One call of a graph: what it comes to depends on its inputs and their order."""
    log_and_doze((log, number))
    time.sleep(seconds)
    value = number + 1
    for each in inputs:
        value = (value * 31 + each) % 1_000_003
    return value
