"""Show what workers are at: the Python stack of each thread and asyncio task, taken by the process itself.

NODE is a node's name, process id, address or id: all of its workers. JOB/ITEM is an item as `stealmesh top` shows it:
the worker that runs it. JOB: all workers that run something of it. No root, no debugger, nothing is stopped.
"""

from __future__ import annotations

import argparse
import json
import linecache
import os
from typing import TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli import drawing
from stealmesh.cli.exits import DONE, FAILED, NOT_JOINED, USAGE, CommandEnded
from stealmesh.cli.joining import join_as_client
from stealmesh.cli.looks import item_called, node_called
from stealmesh.cli.status import first_look
from stealmesh.host.saying import printable

if TYPE_CHECKING:
    from stealmesh_engine.looks import Answer
    from stealmesh_protocol.stacks import Frame, Stack, WorkerStacks


SOURCE_OCTETS_MAX = 1 << 20
"""Of a file that is read for one line: its name is a peer's word."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="NODE|JOB[/ITEM]", help="a node, or a job or item that runs"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a worker process")
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        status = first_look(mesh)
        node = (
            None
            if "/" in arguments.what.removeprefix("tcp://")
            else node_called(status["nodes"], arguments.what)
        )
        item = -1
        try:
            if node is not None:
                answers = mesh.looking.stacks(peer=bytes.fromhex(node["id"]))
            else:
                line, item = _job_or_nothing(mesh, arguments.what)
                answers = mesh.looking.stacks(bytes.fromhex(line["id"]), item)
        except TimeoutError:
            raise CommandEnded(NOT_JOINED, "the mesh did not answer in time: try again") from None
    found = [(answer, told) for answer in answers for told in answer.workers]
    if not found:
        raise CommandEnded(FAILED, f"no worker runs {arguments.what}: `stealmesh explain` says why")
    drawing.show([line for answer, told in found for line in _lines(answer, told, item, arguments)])
    return DONE


def _job_or_nothing(mesh: Any, text: str) -> tuple[dict[str, Any], int]:
    try:
        return item_called(mesh, text)
    except CommandEnded as error:
        raise CommandEnded(USAGE, f"no node is called {text!r}, and as a job: {error}") from None


def _lines(
    answer: Answer, told: WorkerStacks, item: int, arguments: argparse.Namespace
) -> list[str]:
    if arguments.json:
        return [json.dumps(plain(answer, told))]
    return in_words(answer, told, item)


def plain(answer: Answer, told: WorkerStacks) -> dict[str, Any]:
    """For JSON."""
    return {
        "node": answer.name,
        "node_id": answer.id,
        "worker": told.worker,
        "pid": told.pid,
        "how": told.how,
        "why": told.why,
        "stacks": [
            {
                "name": stack.name,
                "job": stack.job or None,
                "job_name": stack.job_name or None,
                "item": stack.item if stack.item >= 0 else None,
                "left_out": stack.left_out,
                "frames": [
                    {"file": f.file, "line": f.line, "function": f.function, "text": source_of(f)}
                    for f in stack.frames
                ],
            }
            for stack in told.stacks
        ],
    }


def in_words(answer: Answer, told: WorkerStacks, item: int = -1) -> list[str]:
    """As in a traceback: the innermost frame comes last. The one that was asked for comes first."""
    lines = [f"{printable(answer.name)}, worker {told.worker}, pid {told.pid}"]
    if told.how:
        lines[0] += " (written down by a signal: it holds the interpreter)" if told.stacks else ""
    if told.why:
        lines.append(f"  {printable(told.why)}")
    if not told.stacks and not told.why:
        lines.append("  waits for work")
    for stack in sorted(told.stacks, key=lambda stack: (stack.item != item, stack.chunk < 0)):
        lines += _stack_lines(stack)
    return [*lines, ""]


def _stack_lines(stack: Stack) -> list[str]:
    runs = ""
    if stack.job:
        runs = f", runs {printable(stack.job_name)} {stack.job[:8]}..{stack.job[-4:]}"
        runs += f"/{stack.item}" if stack.item >= 0 else ""
    lines = [f"  {printable(stack.name)}{runs}"]
    for frame in stack.frames:
        lines.append(f"    {printable(frame.file)}:{frame.line} in {printable(frame.function)}")
        text = source_of(frame)
        lines += [f"      {printable(text)}"] if text else []
    if stack.left_out:
        lines.append(f"    … {stack.left_out} frames are left out")
    return lines


def source_of(frame: Frame) -> str:
    """The line; if the worker could not say it, and the file is here, the line that is there now."""
    if frame.text or not frame.file.endswith(".py"):
        return frame.text
    if not os.path.isfile(frame.file) or os.path.getsize(frame.file) > SOURCE_OCTETS_MAX:
        return ""
    return linecache.getline(frame.file, frame.line).strip()
