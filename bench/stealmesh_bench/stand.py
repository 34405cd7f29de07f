"""A stand: a process of its own in which one peer is measured, and the line to it.

Every peer has its own caller process, so that none pays for the threads, the memory or the
garbage of another; stands are told one at a time what to run, and the others idle meanwhile.
A stand without a peer is a plain interpreter: for what is measured against no pool at all.

The caller's side is `Stand`; `python -m stealmesh_bench.stand` is the process. They exchange
lines of JSON: {"run": "module:function", "with": {…}} → {"value": …} or {"error": traceback}.
A function that is run gets the peer and the arguments, and returns plain data.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any

from stealmesh_bench.paths import python_path
from stealmesh_bench.peers import environment_of

ANSWER_SECONDS_MAX = 300.0
CLOSE_SECONDS_MAX = 15.0


class BenchError(Exception):
    """A measurement could not be made, or its result was wrong: there is no figure."""


class WrongResult(BenchError):
    """A peer gave a wrong answer."""


def check(right: bool, what: str) -> None:
    """Of every run's result."""
    if not right:
        raise WrongResult(what)


class Stand:
    """One process with one peer. `peer` is a name of `other_peers.PEERS`, or empty."""

    def __init__(self, peer: str = "", **arguments: Any) -> None:
        self.peer = peer
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stealmesh_bench.stand", json.dumps([peer, arguments])],
            env={**os.environ, "PYTHONPATH": python_path(), **environment_of(peer)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # its children are ended with it, as one group
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """What `function(peer, **arguments)` returns over there."""
        self.ask(function, **arguments)
        return self.answer()

    def ask(self, function: Callable[..., Any], **arguments: Any) -> None:
        """Start it there, and don't wait: for stands that run side by side."""
        path = f"{function.__module__}:{function.__qualname__}"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"run": path, "with": arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"{self} is gone (status {self._process.wait()})") from None

    def answer(self, seconds_max: float = ANSWER_SECONDS_MAX) -> Any:
        return self._answer(seconds_max)

    def close(self) -> None:
        """End the process and what it started, kindly at first."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it died with something unread; there is nothing left to close
        try:
            self._process.wait(CLOSE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Stand:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return f"the stand of {self.peer or 'no peer'}"

    def _answer(self, seconds_max: float = ANSWER_SECONDS_MAX) -> Any:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], seconds_max)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise BenchError(f"{self} gave no answer in {seconds_max:.0f} s and was ended")
        line = stdout.readline()
        if not line:
            raise BenchError(f"{self} died (status {self._process.wait()})")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self}: {answer['error']}")
        return answer["value"]


# ---------------------------------------------------------------- the process


def serve(peer_name: str, arguments: dict[str, Any], asked: IO[str], answers: IO[str]) -> None:
    """Open the peer, say so, and run what is asked until there are no more requests."""
    from stealmesh_bench.other_peers import PEERS

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    peer = PEERS[peer_name](**arguments) if peer_name else None
    say(value="ready")
    for line in asked:
        told = json.loads(line)
        module, _, name = told["run"].partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
            say(value=function(peer, **told["with"]))
        except Exception:  # noqa: BLE001  # the other side reports any exception
            say(error=traceback.format_exc())
    if peer is not None:
        peer.close()


def main() -> None:
    peer_name, arguments = json.loads(sys.argv[1])
    # What pools and their workers print must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(peer_name, arguments, sys.stdin, answers)


if __name__ == "__main__":
    main()
