"""Ctrl-C waits while something must not end half-way, and is not forgotten."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

import pytest

from stealmesh.host.interrupts import no_interrupts, shared_condition


def interrupt() -> None:
    """SIGINT to this process; its handler runs in this thread before the next line does."""
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_waits_until_the_end_of_the_block() -> None:
    done = []

    def interrupted_half_way() -> None:
        with no_interrupts() as allowed:
            assert allowed
            interrupt()
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        interrupted_half_way()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_exception_of_the_block_is_kept_when_nobody_interrupts() -> None:
    with pytest.raises(ZeroDivisionError), no_interrupts():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_programs_own_handler_is_the_one_that_is_called() -> None:
    heard: list[int] = []

    def own(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGINT, own)
    try:
        with no_interrupts():
            interrupt()
            assert not heard
        assert heard == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_program_that_handles_other_signals_is_told_to_leave_it_to_another_thread() -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        with no_interrupts() as allowed:
            assert not allowed
    finally:
        signal.signal(signal.SIGALRM, before)


def test_ignored_interrupts_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with no_interrupts() as allowed:
            assert allowed
            interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_nothing_to_fear() -> None:
    found: list[bool] = []

    def look() -> None:
        with no_interrupts() as allowed:
            found.append(allowed)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [True]


def test_the_shared_condition_is_entered_in_c_and_is_a_condition_all_the_same() -> None:
    """A Python `__enter__` is where a handler can raise after the lock was taken, which then stays locked."""
    condition = shared_condition()
    assert not hasattr(type(condition).__enter__, "__code__")
    assert not hasattr(type(condition).__exit__, "__code__")
    woken = threading.Event()

    def sleeps() -> None:
        with condition, condition:  # re-entrant
            ready.set()
            condition.wait(20.0)
            woken.set()

    ready = threading.Event()
    thread = threading.Thread(target=sleeps)
    thread.start()
    assert ready.wait(20.0)
    with condition:
        condition.notify_all()
    thread.join(20.0)
    assert woken.is_set()
    assert shared_condition() is not condition
