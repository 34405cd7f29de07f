"""Programs that wait for each call, in processes of their own: what test_hires.py kills and interrupts."""

from __future__ import annotations

import os
import signal
import sys
import time

import stealmesh


def double(number: int) -> int:
    return 2 * number


def dozes(number: int) -> int:
    time.sleep(0.002)
    return 2 * number


def right(mesh: stealmesh.Mesh, calls: int, first: int = 0) -> int:
    """Make so many calls, one after the other. Returns how many came to what they should."""
    return sum(
        mesh.submit(double if at % 5 else dozes, at).result(timeout=120) == 2 * at
        for at in range(first, first + calls)
    )


def interrupted(seconds: float) -> None:
    """Call without end, and go on after each Ctrl-C. At last say how many there were."""
    with stealmesh.Mesh(workers=2) as mesh:
        right(mesh, 50)
        print("ready", flush=True)
        stops = calls = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                assert right(mesh, 1, calls) == 1
                calls += 1
            except KeyboardInterrupt:
                stops += 1
        while True:
            try:
                assert right(mesh, 200) == 200
                break
            except KeyboardInterrupt:
                stops += 1
        print(f"stops {stops}", flush=True)


def endless(address: str) -> None:
    """Call without end, until killed, or until nobody answers: then it waits for nothing."""
    try:
        os.write(1, b"%d\n" % os.getpid())  # at once, also where output is not buffered
        mesh = stealmesh.Mesh(address)
        while True:
            right(mesh, 100)
    finally:
        os._exit(1)


def programs(address: str) -> None:
    """For each line that comes, a program that calls without end. It says its number first."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        if not os.fork():
            endless(address)


if __name__ == "__main__":
    if sys.argv[1] == "interrupted":
        interrupted(float(sys.argv[2]))
    else:
        programs(sys.argv[2])
