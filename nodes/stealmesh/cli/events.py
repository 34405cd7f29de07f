"""Show what happened on a running mesh: who came, went and died, what was stolen, refused and lost, and why.

Every node keeps the latest entries of each kind; this gathers them all, in order of time. Without --kind
it leaves out chunks, because there are many: `--kind chunk` shows them, `--kind all` everything. Several nodes
that say the same of a node are one line. With --json it prints every entry, one object a line. --follow goes
on until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import select
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec import structs

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, NOT_JOINED, USAGE, CommandEnded, say
from stealmesh.cli.joining import join_as_client
from stealmesh.cli.output import written
from stealmesh.host.happened import ECHOES, facts_of, kind_of, words_of
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening, JournalReader
    from stealmesh.mesh import Mesh

KINDS = [kind.name.lower() for kind in RingKind]
MANY = {"chunk"}
"""Not shown without being asked for."""
LOOK_SECONDS = 0.5
SETTLE_SECONDS = 0.3
"""For so long an entry waits for older ones of other nodes."""
SAME_SECONDS = 10.0
"""Within this time several nodes tell of the same thing."""
WIDTH = 80
NODE_CHARS = 12
STEALS_SECONDS = 1.0
STEALS_NAMED_MAX = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="one JSON object an entry")
    parser.add_argument("--node", metavar="NAME", default="", help="of this node only")
    parser.add_argument(
        "--kind", metavar="KIND", dest="kinds", action="append", type=kinds, default=[],
        help=f"of these kinds only: {', '.join(KINDS)}, or all; repeatable, or separated by commas",
    )  # fmt: skip
    shared.add_mesh(parser)


def kinds(text: str) -> list[str]:
    named = [each.strip().lower() for each in text.split(",")]
    for each in named:
        if each != "all" and each not in KINDS:
            raise argparse.ArgumentTypeError(f"{each!r} is none of {', '.join(KINDS)}, all")
    return named


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.cli.status import settled
    from stealmesh.client.journals import JournalReader, kinds_called

    asked = [name for several in arguments.kinds for name in several]
    wanted = KINDS if "all" in asked else asked or [each for each in KINDS if each not in MANY]
    with join_as_client(arguments) as mesh:
        status = settled(mesh)  # a client that has just joined knows one node
        reader = JournalReader(journals_of(mesh), kinds=kinds_called(wanted), node=arguments.node)
        shown = EventLines(as_json=arguments.json)
        found = read(reader)
        if arguments.node and not reader.tellers:
            _must_be_a_node(arguments.node, status["nodes"])
            raise CommandEnded(NOT_JOINED, f"no node called {arguments.node} has answered")
        shown.show(found)
        say_missed(reader)
        if arguments.follow:
            follow(reader, shown)
    return DONE


def _must_be_a_node(name: str, nodes: list[dict[str, Any]]) -> None:
    if not any(node["name"] == name for node in nodes):
        raise CommandEnded(USAGE, f"no node is called {name!r}: `stealmesh status` lists them")


def journals_of(mesh: Mesh) -> Any:
    return mesh._link


def read(reader: JournalReader) -> list[Happening]:
    try:
        return reader.read()
    except TimeoutError:
        raise CommandEnded(NOT_JOINED, "the mesh did not answer in time: try again") from None


def follow(reader: JournalReader, shown: EventLines) -> None:
    """Show what happens, until Ctrl-C or until nobody reads what we write."""
    waiting: list[Happening] = []
    while True:
        pause(LOOK_SECONDS)
        waiting += read(reader)
        until = time.time() - SETTLE_SECONDS
        shown.show(each for each in waiting if each.at <= until)
        waiting = [each for each in waiting if each.at > until]


def pause(seconds: float) -> None:
    """Wait; raises BrokenPipeError if the reader of our output has gone meanwhile."""
    watch = select.poll()
    try:
        watch.register(sys.stdout.fileno(), 0)  # only errors
    except (OSError, ValueError):  # replaced by an embedding program
        time.sleep(seconds)
        return
    for _, event in watch.poll(seconds * 1000):
        if event & select.POLLERR:
            raise BrokenPipeError
        time.sleep(seconds)  # a terminal that hung up says so at once, again and again


def say_missed(reader: JournalReader) -> None:
    if reader.silent:
        say(f"no answer from {', '.join(sorted(reader.silent))}")
    if reader.missed:
        say(f"{reader.missed:,} older entries had made room for newer ones")


class EventLines:
    """Prints entries, and knows what it has printed lately."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._lately: dict[tuple[int, str, bytes], float] = {}

    def show(self, found: Iterable[Happening]) -> None:
        entries = sorted(found, key=lambda each: (each.at, each.peer, each.entry.number))
        with written():
            if self._as_json:
                for each in entries:
                    print(json.dumps(as_data(each)))
            else:
                width = max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
                for each, count in self._folded(entries):
                    print(as_line(each, count, width))
            sys.stdout.flush()

    def _folded(self, entries: list[Happening]) -> list[tuple[Happening, int]]:
        """What several nodes say of one node is shown once, with how many say it; what a node gave of a job, or got,
        within a second is one line."""
        first: dict[tuple[int, str, bytes], int] = {}
        folded: list[tuple[Happening, int]] = []
        for each in entries:
            kind, what = each.entry.kind, each.entry.what
            if what == "met":
                continue  # it came to them, and says so itself
            if kind == RingKind.STEAL and each.entry.about:
                key = (kind, what, each.peer + each.entry.about)
                place = first.get(key)
                if place is not None and each.at - folded[place][0].at <= STEALS_SECONDS:
                    folded[place] = _together(folded[place][0], each), 1
                else:
                    first[key] = len(folded)
                    folded.append((each, 1))
                continue
            if kind not in (RingKind.VERDICT, RingKind.MEMBER) or not each.entry.peer:
                folded.append((each, 1))
                continue
            key = (kind, ECHOES.get(what, what), each.entry.peer)
            if each.at - self._lately.get(key, -inf) > SAME_SECONDS:
                self._lately[key] = each.at
                first[key] = len(folded)
                folded.append((each, 1))
            elif key in first:
                known, count = folded[first[key]]
                folded[first[key]] = known, count + 1
        old = entries[-1].at - SAME_SECONDS if entries else 0.0
        self._lately = {key: at for key, at in self._lately.items() if at >= old}
        return folded


def _together(one: Happening, other: Happening) -> Happening:
    """Two steals as one line: how many items, and to or from whom."""
    names = one.entry.name.split(", ")
    if other.entry.name not in names:
        names = [*names, other.entry.name] if len(names) < STEALS_NAMED_MAX else [*names[:-1], ".."]
    many = one.entry.count + other.entry.count
    entry = structs.replace(one.entry, name=", ".join(names), count=many, lo=0, hi=0)
    return replace(one, entry=entry)


def as_data(each: Happening) -> dict[str, Any]:
    return {"time": round(each.at, 6), "node": each.node, **facts_of(each.entry)}


def as_line(each: Happening, count: int, width: int) -> str:
    """12:03:41.123 n2           verdict n3 is declared dead: it is silent: n1, n2"""
    moment = (
        time.strftime("%H:%M:%S", time.localtime(each.at)) + f".{int(each.at * 1000) % 1000:03}"
    )
    name = _cut(each.node, NODE_CHARS)
    more = f" [{count} say so]" if count > 1 else ""
    head = f"{moment} {name:{NODE_CHARS}} {kind_of(each.entry):7} "
    return head + _cut(words_of(each.entry), width - len(head) - len(more)) + more


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(0, most - 2)] + ".."
