"""The story of a job as one HTML file, for a reader who was not there: a pure function of journals.

Decides which entries belong to it, and what the page shows: how long the job took and who did how much, what went wrong and who says so, and which
worker was busy when. Refuses to know where the entries come from. The page has no script and asks for
nothing outside: it opens from a mail or an archive, years later.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from stealmesh.host.faults import FaultGroup, FaultGroups
from stealmesh.task_picture import picture
from stealmesh_protocol.ids import PeerId, whole_of
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening

TROUBLES_MAX = 200
NODES_NAMED_MAX = 4
SHARES_MAX = 200
MARKS = {RingKind.DEATH: "death", RingKind.VERDICT: "verdict", RingKind.LEASE: "lease"}
"""What happens to processes and concerns each job that they run."""
DONE = ("done", "step")
_SHORTENED = re.compile(r"([0-9a-f]*)(?:\.\.+|…)([0-9a-f]*)")
STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.wrong td { vertical-align: top; border-top: 1px solid #8884 } td.w { min-width: 20rem; overflow-wrap: anywhere }
.scroll { overflow-x: auto } svg { display: block }
"""


@dataclass(slots=True)
class NodeShare:
    """What one node did."""

    name: str
    workers: set[int] = field(default_factory=set)
    chunks: int = 0
    items: int = 0
    failed: int = 0
    seconds: float = 0.0
    gave: int = 0
    got: int = 0


def of_job(found: Iterable[Happening], job: str) -> Iterator[Happening]:
    """What is about this job, and what happened to processes meanwhile."""
    if job == "all":
        yield from found
        return
    found = list(found)
    jobs = {
        whole_of(each.entry.about)
        for each in found
        if each.entry.kind == RingKind.CHUNK and _is_called(each, job)
    }
    times = [(e.begun, e.at) for e in found if whole_of(e.entry.about) in jobs]
    first, last = min((t[0] for t in times), default=0.0), max((t[1] for t in times), default=0.0)
    for each in found:
        if whole_of(each.entry.about) in jobs or (
            not each.entry.about and each.entry.kind in MARKS and first <= each.at <= last
        ):
            yield each


def _is_called(each: Happening, job: str) -> bool:
    identity = whole_of(each.entry.about).hex()
    short = _SHORTENED.fullmatch(job.lower())
    if short:
        return identity.startswith(short[1]) and identity.endswith(short[2])
    return job == each.entry.name or identity.startswith(job.lower())


def page(job: str, found: list[Happening], missed: int = 0) -> str:
    """`found` are the entries of the job, and what happened to nodes meanwhile, in order of time."""
    chunks = [each for each in found if each.entry.kind == RingKind.CHUNK]
    begun = min((each.begun for each in chunks), default=0.0)
    ended = max((each.at for each in chunks), default=0.0)
    shares = shares_of(found)
    title = f"Job {job}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{_summary(chunks, list(shares.values()), begun, ended)}</p>",
        f"<p><strong>{missed:,} older entries had made room for newer ones: what follows is not all.</strong></p>"
        if missed
        else "",
        "<h2>Who did what</h2>",
        table_of(shares.values()),
        "<h2>What went wrong</h2>",
        _troubles(found),
        "<h2>Which worker was busy when</h2>",
        f'<div class="scroll">{picture(found, title)}</div>',
    ]
    return as_html(title, parts)


def as_html(title: str, parts: Iterable[str]) -> str:
    """One file, without script, that asks for nothing outside."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def shares_of(found: Iterable[Happening]) -> dict[PeerId, NodeShare]:
    shares: dict[PeerId, NodeShare] = {}
    for each in found:
        share = shares.setdefault(each.peer, NodeShare(each.node or each.peer.hex()[:8]))
        entry = each.entry
        if entry.kind == RingKind.STEAL and entry.what == "gave":
            # A thief that was fed unasked does not know that it stole, so the victim's word counts.
            share.gave += entry.count
            shares.setdefault(entry.peer, NodeShare(entry.name)).got += entry.count
        elif entry.kind == RingKind.CHUNK:
            share.workers.add(entry.worker)
            share.chunks += 1
            share.failed += entry.count
            share.seconds += each.at - each.begun
            share.items += entry.hi - entry.lo if entry.what in DONE else 0
    return dict(sorted(shares.items(), key=lambda each: (each[1].name, each[0])))


def _summary(chunks: list[Happening], shares: list[NodeShare], begun: float, ended: float) -> str:
    if not chunks:
        return "No node remembers a chunk of it."
    names = ", ".join(sorted({each.entry.name for each in chunks if each.entry.name})[:5])
    workers, took = sum(len(share.workers) for share in shares), max(ended - begun, 1e-9)
    busy = sum(share.seconds for share in shares) / (took * max(1, workers))
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(begun))
    items, failed = sum(s.items for s in shares), sum(s.failed for s in shares)
    return (
        f"{escape(names)}: {items:,} items ran, {failed:,} failed, from {moment} for {took:,.3f} s, "
        f"by {workers:,} workers that were busy for {busy:.0%} of it."
    )


def table_of(shares: Iterable[NodeShare]) -> str:
    names = ("workers", "chunks", "items", "failed", "busy s", "items given", "items stolen")
    head = "<th>node</th>" + "".join(f'<th class="n">{name}</th>' for name in names)
    rows = []
    for each in shares:
        figures = (len(each.workers), each.chunks, each.items, each.failed)
        cells = [
            *(f"{n:,}" for n in figures),
            f"{each.seconds:,.2f}",
            f"{each.gave:,}",
            f"{each.got:,}",
        ]
        rows.append(
            f"<td>{escape(each.name)}</td>" + "".join(f'<td class="n">{c}</td>' for c in cells)
        )
    return "<table><tr>" + "</tr>\n<tr>".join([head, *rows]) + "</tr></table>"


def _troubles(found: list[Happening]) -> str:
    """The same is one line, the newest first."""
    groups = FaultGroups()
    for each in found:
        groups.add(each.entry, each.at, each.node or each.peer.hex()[:8], each.peer)
    told = groups.newest_first()
    if not told:
        return "<p>Nothing that a node remembers.</p>"
    head = '<tr><th>last</th><th>what</th><th class="n">how often</th><th>for example</th><th>at</th></tr>'
    rows = [_trouble(group) for group in told[:TROUBLES_MAX]]
    left = len(told) - TROUBLES_MAX
    more = f"<p>and {left:,} older kinds of failure.</p>" if left > 0 else ""
    if groups.left_out:
        more += f"<p>{groups.left_out:,} more, of more kinds than are told apart.</p>"
    return (
        '<div class="scroll"><table class="wrong">'
        + "\n".join([head, *rows])
        + f"</table></div>{more}"
    )


def _trouble(group: FaultGroup) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(group.last))
    often = (
        f"{group.many:,} item{'' if group.many == 1 else 's'}"
        if group.of_items
        else f"{group.many:,} ×"
    )
    item = f"item {group.item:,}" if group.item >= 0 else ""
    names = sorted(group.nodes)
    nodes = ", ".join(names[:NODES_NAMED_MAX])
    if len(names) > NODES_NAMED_MAX:
        nodes += f" and {len(names) - NODES_NAMED_MAX:,} more"
    return (
        f'<tr><td>{moment}.{int(group.last * 1000) % 1000:03}</td><td class="w">{escape(group.said)}</td>'
        f'<td class="n">{often}</td><td>{item}</td><td>{escape(nodes)}</td></tr>'
    )
