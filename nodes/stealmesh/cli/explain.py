"""Say why a job or an item is not running: where it is, what it waits for, and where it has been tried.

JOB is an id as `stealmesh jobs` shows it, or a name; JOB/ITEM one of its items (the call's number among those of its
function, or the place in the input). The ledger of the job answers, and the node that has the item, through
whichever node this command joins.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from stealmesh.cli import arguments as shared
from stealmesh.cli import drawing, tables
from stealmesh.cli.exits import DONE, NOT_JOINED, CommandEnded
from stealmesh.cli.joining import join_as_client
from stealmesh.cli.looks import item_called
from stealmesh.host.saying import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="JOB[/ITEM]", help="a job, or one of its items")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    with join_as_client(arguments) as mesh:
        line, item = item_called(mesh, arguments.what)
        try:
            story = mesh.looking.explain(bytes.fromhex(line["id"]), item)
        except TimeoutError:
            raise CommandEnded(NOT_JOINED, "the mesh did not answer in time: try again") from None
    if arguments.json:
        drawing.show([json.dumps(story)])
    else:
        drawing.show(in_words(story, line))
    return DONE


def in_words(story: dict[str, Any], line: dict[str, Any]) -> list[str]:
    """What a person reads."""
    name = printable(line["name"])
    if story["item"] is not None:
        lines = [
            f"{name}, item {story['item']}: {_at(story)}{printable(story['told']) or 'no node knows of it'}"
        ]
        lines += [f"  before: {printable(text)}" for text in story["tried"]]
        others = [fact for fact in story["facts"] if fact["told"] != story["told"]]
    else:
        lines = [
            f"{name} ({line['kind']}, {printable(line['state'])}): {line['done']:,} of {line['total']:,} done"
        ]
        others = story["facts"]
    lines += [f"  {_fact(fact)}" for fact in others]
    if not story["owner_answered"] and not line["ended"]:
        lines.append(f"  its ledger did not answer (the program {printable(line['owner'] or '?')})")
    return lines


def _at(story: dict[str, Any]) -> str:
    name = printable(story["node"])
    return f"at {name}, " if name and name not in story["told"] else ""


def _fact(fact: dict[str, Any]) -> str:
    lo, hi = fact["items"]
    items = (
        "" if hi <= lo else f"item {lo:,}: " if hi == lo + 1 else f"items {lo:,} to {hi - 1:,}: "
    )
    if items or not fact["many"]:
        return f"{items}{_node(fact)}{printable(fact['told'])}"
    told = printable(fact["told"]).removeprefix("it is ").removeprefix("it ")
    return f"{tables.counted(fact['many'], 'item')}: {_node(fact)}{told}"


def _node(fact: dict[str, Any]) -> str:
    """Where that is, if the words do not say it."""
    name = printable(fact["node_name"])
    return f"at {name}, " if name and name not in fact["told"] else ""
