"""What people name on a command line when they look: a job, an item of it, a node.

Decides which one a text means, and says so when it could be several. Refuses to know what is asked of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stealmesh.cli.exits import USAGE, CommandEnded
from stealmesh.cli.jobs import line_called

if TYPE_CHECKING:
    from stealmesh.mesh import Mesh


def item_called(mesh: Mesh, text: str) -> tuple[dict[str, Any], int]:
    """JOB or JOB/ITEM: the job's line, and the item (-1: all of it). Raises CommandEnded."""
    job, slash, item = text.rpartition("/")
    if not slash:
        return line_called(mesh, text), -1
    if not item.isdecimal():
        try:
            return line_called(mesh, text), -1  # a name with a slash in it
        except CommandEnded:
            raise CommandEnded(USAGE, f"{item!r} is no item: write JOB/0, JOB/1, …") from None
    return line_called(mesh, job), int(item)


def node_called(nodes: list[dict[str, Any]], text: str) -> dict[str, Any] | None:
    """The node with this name, process, address or beginning of an id; None: there is none. Raises CommandEnded if
    there are several."""
    plain = [node for node in nodes if node["role"] != "client"]
    for key in (
        lambda node: node["name"] == text,
        lambda node: str(node["pid"]) == text,
        lambda node: node["address"].removeprefix("tcp://") == text.removeprefix("tcp://"),
        lambda node: len(text) >= 4 and node["id"].startswith(text.lower()),
    ):
        found = [node for node in plain if key(node)]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(
                f"{node['id'][:8]} (pid {node['pid']}, {node['address']})" for node in found[:5]
            )
            raise CommandEnded(
                USAGE,
                f"{len(found)} nodes are called {text!r}: write the beginning of one of {some}",
            )
    return None
