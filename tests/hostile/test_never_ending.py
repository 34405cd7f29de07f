"""What never ends: a message whose last part does not come, and strangers without end. Row 8, and the floods."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.hostile import zmtp
from tests.hostile.place import MIB, HonestJob, NodeProcess, Place, square
from tests.hostile.zmtp import CurveCaller
from tests.patience import until

pytestmark = pytest.mark.real

needs_sodium = pytest.mark.skipif(zmtp.sodium() is None, reason="no libsodium for CURVE by hand")

STRANGERS_A_SECOND = 1000
STRANGERS_SECONDS = 20


@needs_sodium
def test_a_message_that_never_ends_costs_what_was_said_and_goes_with_its_connection(
    place: Place, beside: HonestJob
) -> None:
    """libzmq keeps the parts of a message until the last has come and has no bound for them (docs/limits.md: one who
    holds the key can fill memory so; a stranger gets no further than the handshake). What can be shown: nothing
    of it reaches the engine, the others go on, and it is let go with the connection: five times 12 MiB never are
    more than 32 MiB."""
    part = bytes(64 * 1024)
    for _ in range(5):
        with CurveCaller(place.address, place.key) as endless, place.counts("refused:"):
            assert endless.enter(b"\1" + os.urandom(16))
            for _ in range(12 * MIB // len(part)):
                endless.say(endless.message(part, more=True))
            beside.goes_on()
            endless.close()


# ---------------------------------------------------------------- strangers without end


class Strangers:
    """Connections, at a rate, that say something without sense and go."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._where = (host, int(port))
        self._over = threading.Event()
        self.came = 0
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._over.is_set():
            due = int((time.monotonic() - begin) * STRANGERS_A_SECOND) - self.came
            for _ in range(min(due, STRANGERS_A_SECOND)):
                with socket.create_connection(self._where) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                self.came += 1
            self._over.wait(0.005)
        self.seconds = time.monotonic() - begin

    def __enter__(self) -> Strangers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def calls_a_second(place: Place, seconds: float) -> float:
    begin, done = time.monotonic(), 0
    while (now := time.monotonic()) < begin + seconds:
        done += len(list(place.mesh.map(square, range(200), chunksize=10)))
    return done / (now - begin)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_strangers_a_second_keep_nobody_out(
    fresh: Callable[..., Place], tmp_path: Path
) -> None:
    """The figure is printed, not judged: strangers, node and program share the cores of one machine here. A new node
    joins meanwhile, and all is right, which is judged."""
    place = fresh()
    quiet = calls_a_second(place, STRANGERS_SECONDS / 4)
    with place.unharmed(), Strangers(place.address) as strangers:
        beside = calls_a_second(place, STRANGERS_SECONDS / 2)
        late = NodeProcess(tmp_path, "late", "--seed", place.address, key=place.key_file)
        try:
            until(lambda: place.me()["sees"] == 2, "a new node joins")
            calls_a_second(place, STRANGERS_SECONDS / 4)
        finally:
            late.close()
    quiet = (quiet + calls_a_second(place, STRANGERS_SECONDS / 4)) / 2
    print(
        f"\n{strangers.came / strangers.seconds:.0f} strangers a second for {strangers.seconds:.0f} s: "
        f"{beside:.0f} calls a second beside them, {quiet:.0f} without, {beside / quiet:.0%}"
    )
    assert strangers.came > STRANGERS_A_SECOND
    assert sum(n for name, n in place.counters().items() if name.startswith("refused")) > 1000
