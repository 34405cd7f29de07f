"""What the threads and tasks of a worker are at, as it is told to people.

Decides nothing. Plain data: a worker says it, its node and the peer that asked hand it on, and none of them opens
a value of the user's. Paths, names and lines of source are the user's text: the program that shows them escapes them.
"""

from __future__ import annotations

import msgspec

SIGNAL = "signal"
"""How a stack was taken: the worker could not answer, so the interpreter was told to write it down."""
SILENT = "silent"
"""It was not taken."""


class Frame(msgspec.Struct, array_like=True):
    """One line of a stack."""

    file: str
    line: int
    function: str
    text: str = ""
    """The line's source, if it can be had."""


class Stack(msgspec.Struct, array_like=True):
    """A thread, or an asyncio task. The innermost frame comes last."""

    name: str
    frames: list[Frame] = []
    chunk: int = -1
    """The chunk that it runs, by its node's number; -1: none that is known."""
    item: int = -1
    left_out: int = 0
    """Frames in the middle for which there was no room."""
    job: str = ""
    """Hex of the job's id, as its node knows it by the chunk."""
    job_name: str = ""


class WorkerStacks(msgspec.Struct, array_like=True):
    """All of one worker process."""

    worker: int
    pid: int
    stacks: list[Stack] = []
    how: str = ""
    """Empty: the worker has told it itself. SIGNAL, SILENT."""
    why: str = ""
    """Why there is nothing, or not all."""
