"""A run of `stealmesh chaos` as a file: a picture (.svg), or its story for a reader who was not there (.html).

Decides what the story tells: the verdict, what was done to the mesh and what the mesh did about it in one list, who did
how much, and the figures. The picture is the task stream that `demo --picture` and reports have, with the goodput above it
and the faults through it (`task_picture.py`). Refuses to know how journals were read (`seen.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from stealmesh.host.happened import words_of
from stealmesh.job_story import as_html, shares_of, table_of
from stealmesh.task_picture import Beside, picture
from stealmesh_bench.chaos.report import ChaosReport
from stealmesh_protocol.journal_messages import RingKind

KINDS = (".svg", ".html")
TOLD = (RingKind.DEATH, RingKind.VERDICT, RingKind.LEASE, RingKind.MEMBER)
LINES_MAX = 500
TITLE_CHARS_MAX = 110
BEFORE_SECONDS = 0.5
"""News from before the work began are not told, but for those of its beginning."""
SAME_SECONDS = 5.0


class CannotDraw(Exception):
    """The file's name asks for something that we do not draw."""


def check(path: str) -> None:
    """Before a long run: can this be drawn?"""
    if Path(path).suffix.lower() not in KINDS:
        raise CannotDraw(
            f"cannot draw {path}: name a file that ends in .svg (a picture) or .html (the picture, and what "
            "happened in words); any browser shows both"
        )
    if not Path(path).resolve().parent.is_dir():
        raise CannotDraw(f"cannot draw {path}: there is no such directory")


def draw(report: ChaosReport, path: str) -> None:
    made = svg(report) if Path(path).suffix.lower() == ".svg" else html(report)
    Path(path).write_text(made, encoding="utf-8")


def svg(report: ChaosReport) -> str:
    return picture(report.found, _title(report)[:TITLE_CHARS_MAX], _beside(report))


def html(report: ChaosReport) -> str:
    title = f"{report.scenario}, {report.nodes} {'virtual ' if report.sim else ''}nodes, seed {report.seed}"
    breaches = "".join(f"<li>{escape(each)}</li>" for each in report.breaches)
    left_out = (
        f"<p>{report.unread:,} older entries of journals are not here: they had made room for newer ones.</p>"
        if report.unread
        else ""
    )
    return as_html(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f"<p><strong>{'It kept every promise.' if not breaches else 'It broke a promise:'}</strong></p>",
            f"<ul>{breaches}</ul>" if breaches else "",
            f"<p>{_summary(report)} Once more: <code>{escape(report.replay)}</code></p>",
            f'<div class="scroll">{svg(report)}</div>',
            "<h2>What was done to the mesh, and what it did about it</h2>",
            "<p>Seconds since work began to flow. Bold: the fault. Below it who noticed, what was given up, who came back.</p>",
            _lines(report),
            "<h2>Who did what</h2>",
            "<p>A node that was killed took along what it had done since it was read last.</p>"
            if not report.sim and report.killed
            else "",
            left_out,
            table_of(shares_of(report.found).values()),
            "<h2>Figures</h2>",
            _figures(report),
        ],
    )


def _title(report: ChaosReport) -> str:
    verdict = "pass" if not report.breaches else "; ".join(report.breaches)
    return f"{report.scenario}, {report.nodes} nodes, seed {report.seed}: {verdict}"


def _beside(report: ChaosReport) -> Beside:
    zero = report.began
    end = max([at for at, _ in report.timeline] + [at for at, _ in report.marks], default=1.0)
    return Beside(
        zero,
        zero + (end or 1.0),
        [(zero + at, rate) for at, rate in report.timeline],
        report.goodput_wanted,
        [(zero + at, what) for at, what in report.marks],
    )


def _summary(report: ChaosReport) -> str:
    stolen = sum(each.entry.count for each in report.found if _is_theft(each.entry))
    accepted = "" if report.accepted is None else f" {report.accepted:,} items were accepted."
    twice = f" {report.run_twice:,} ran twice, and counted once." if report.run_twice else ""
    back = report.recovered_90_s
    again = "" if back is None else f" {back:g} s after it the survivors did 90 % of what they can."
    return (
        f"{escape(report.workload or 'Work')} ran. Faults: {len(report.marks):,}. Processes killed: {report.killed:,}."
        f"{again}{accepted}{twice} {stolen:,} items changed hands by stealing."
    )


def _is_theft(entry: object) -> bool:
    return (
        getattr(entry, "kind", -1) == RingKind.STEAL
        and getattr(entry, "what", "") == "gave"
        and bool(getattr(entry, "about", b""))
    )


@dataclass(slots=True)
class StoryLine:
    """Of what happened."""

    at: float
    node: str
    words: str
    fault: bool = False
    others: int = 0
    """Who said the same a moment later."""


def _lines(report: ChaosReport) -> str:
    told = [StoryLine(at, "", what, fault=True) for at, what in report.marks]
    told += _news(report)
    told.sort(key=lambda line: (line.at, not line.fault))
    rows = [
        f'<tr><td class="n">{line.at:.3f}</td><td>{escape(line.node)}{_and(line.others)}</td><td>{_bold(line)}</td></tr>'
        for line in told
        if line.at > -BEFORE_SECONDS
    ]
    more = f"<p>and {len(rows) - LINES_MAX:,} more.</p>" if len(rows) > LINES_MAX else ""
    head = '<tr><th class="n">s</th><th>said by</th><th>what</th></tr>'
    return f"<table>{head}{''.join(rows[:LINES_MAX])}</table>{more}"


def _news(report: ChaosReport) -> list[StoryLine]:
    """The same news of several nodes are one line, at the time of the first."""
    lines: list[StoryLine] = []
    last: dict[tuple[int, str, str], StoryLine] = {}
    for each in report.found:
        entry, at = each.entry, each.at - report.began
        if entry.kind not in TOLD:
            continue
        key = (entry.kind, entry.name, entry.what)
        known = last.get(key)
        if known is not None and entry.kind != RingKind.DEATH and at - known.at < SAME_SECONDS:
            known.others += 1
            continue
        last[key] = StoryLine(at, each.node, words_of(entry))
        lines.append(last[key])
    return lines


def _and(others: int) -> str:
    return f" and {others:,} more" if others else ""


def _bold(line: StoryLine) -> str:
    return f"<strong>{escape(line.words)}</strong>" if line.fault else escape(line.words)


def _figures(report: ChaosReport) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in report.as_object().items()
        if value is not None and value not in ("", [], {})
    )
    return f"<table>{rows}</table>"
