"""A real node whose surroundings are at fault: python -m tests.hostile.rigged FAULT... -- node OPTIONS...

unpickling     says on standard error what is unpickled in the node's own process (nothing may be)
clock          the wall clock jumps by the seconds in the file $HOSTILE_CLOCK
gate-raises    the thread that admits CURVE clients fails at its next question
gate-slow      it takes a second for each answer
               (both from the moment on at which the file $HOSTILE_SWITCH exists)

Only this process is rigged; the workers are started as ever.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _tell_of_unpickling() -> None:
    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "pickle.find_class":
            print(f"hostile: unpickled {arguments} in {os.getpid()}", file=sys.stderr, flush=True)

    sys.addaudithook(hook)


def _let_the_clock_jump() -> None:
    right, jump = time.time, Path(os.environ["HOSTILE_CLOCK"])
    time.time = lambda: right() + float(jump.read_text() or 0)


def _gate(before: Callable[[], None]) -> None:
    from stealmesh.transport.zap import ZapHandler

    answer, switch = ZapHandler._answer, Path(os.environ["HOSTILE_SWITCH"])

    def rigged(self: ZapHandler, request: list[bytes]) -> Any:
        if switch.exists():
            before()
        return answer(self, request)

    ZapHandler._answer = rigged  # type: ignore[method-assign]


def _fail() -> None:
    raise RuntimeError("hostile: the gate is at fault")


FAULTS: dict[str, Callable[[], None]] = {
    "unpickling": _tell_of_unpickling,
    "clock": _let_the_clock_jump,
    "gate-raises": lambda: _gate(_fail),
    "gate-slow": lambda: _gate(lambda: time.sleep(1.0)),
}


def main() -> None:
    at = sys.argv.index("--")
    for name in sys.argv[1:at]:
        FAULTS[name]()
    sys.argv[:] = ["stealmesh", *sys.argv[at + 1 :]]
    from stealmesh.cli import main as command

    sys.exit(command())


if __name__ == "__main__":
    main()
