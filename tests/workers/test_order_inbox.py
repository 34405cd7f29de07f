"""A worker looks for its next order for a moment if the last one came soon, and sleeps at once if not."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from stealmesh.workers import process, wire
from stealmesh.workers.process import SOON_SECONDS, SPIN_SECONDS, OrderInbox

LOOK_SECONDS = 5e-6


class Orders:
    """A socket, and the clock: each order comes a time after the worker has asked for it."""

    def __init__(self, *comes_after: float) -> None:
        self.comes_after = list(comes_after)
        self.now = self.asked_at = 100.0
        self.looks = 0
        self.sleeps = 0

    def clock(self) -> float:
        return self.now

    def pause(self) -> None:
        self.now += LOOK_SECONDS

    def recv_into(self, room: Any, octets: int = 0, flags: int = 0) -> int:
        comes_at = self.asked_at + self.comes_after[0]
        if flags & socket.MSG_DONTWAIT:
            self.looks += 1
            if self.now < comes_at:
                raise BlockingIOError
        else:
            self.sleeps += 1
            self.now = max(self.now, comes_at)
        del self.comes_after[0]
        return 1

    def serve(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """All of them. Returns how often it looked and slept for each."""
        monkeypatch.setattr(process, "perf_counter", self.clock)
        monkeypatch.setattr(os, "sched_yield", self.pause)
        inbox, told = OrderInbox(self), []  # type: ignore[arg-type]
        while self.comes_after:
            self.asked_at, self.looks, self.sleeps = self.now, 0, 0
            assert inbox.receive(memoryview(bytearray(8))) == 1
            told.append((self.looks, self.sleeps))
        return told


def test_between_lone_calls_it_sleeps_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = Orders(*[1e-3] * 5).serve(monkeypatch)
    assert first[0] > SPIN_SECONDS / LOOK_SECONDS
    assert first[1] == 1
    assert others == [(0, 1)] * 4


def test_what_comes_soon_is_found_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [sleeps for _, sleeps in Orders(*[30e-6] * 5).serve(monkeypatch)] == [0] * 5


def test_after_a_pause_it_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of a flood is late, the second is there when it asks, and the third is found by looking."""
    late, second, third = Orders(SOON_SECONDS + 1e-3, 0.0, 30e-6).serve(monkeypatch)
    assert (late[1], second, third[1]) == (1, (0, 1), 0)
    assert third[0] > 1


def test_the_end_of_the_node_is_told() -> None:
    node, worker = wire.packets()
    node.close()
    with pytest.raises(wire.StreamEnded):
        OrderInbox(worker).receive(memoryview(bytearray(8)))
    worker.close()
