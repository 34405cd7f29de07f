"""Threads of a worker beside the one that runs its tasks.

Decides how they start: without the signals, which are for the loop's thread. Refuses to know what they run.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

STACK_OCTETS = 16 << 20
"""Of a further thread; only what is used of it takes memory."""

_starting = threading.Lock()


def start_thread(work: Callable[[], None], stack: int) -> threading.Thread:
    """Signals are for the loop's thread. Raises RuntimeError when there is no thread to be had."""
    thread = threading.Thread(target=work, name="stealmesh-nested", daemon=True)
    with _starting:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        size = threading.stack_size(stack)
        try:
            thread.start()
        finally:
            threading.stack_size(size)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread
