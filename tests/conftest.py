"""What all tests share: children find the code, and randomised tests are not judged by the clock."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
ROOMS = [str(ROOT / room) for room in ("protocol", "engine", "nodes", "bench")]

# pytest's own `pythonpath` ends at this process; the nodes and workers that tests start need it too.
os.environ["PYTHONPATH"] = os.pathsep.join([*ROOMS, *filter(None, [os.getenv("PYTHONPATH")])])

# Pure Python is the reference, and tests put wrong parts into it. `make test-fast` asks for the compiled core.
os.environ.setdefault("STEALMESH_PURE", "1")

# A shell's background jobs ignore Ctrl-C, and so would every program that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine than about us.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _same_recursion_limit() -> Iterator[None]:
    """Tasks inside tasks raise it, and what refuses messages that are nested too deeply goes by it."""
    limit = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bless", action="store_true", help="write the transcripts anew (tests/transcripts/*.txt)"
    )
