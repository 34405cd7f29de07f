"""HTML for a notebook's cell: a frame with a title, a bar, lines and a table.

Decides how it looks: plain HTML without scripts, style sheets and requests, so it looks the same in each
notebook, in an export, and without trust. Text has the colour of its surroundings, and all else is grey or
green that can be seen on white and on black. Everything that is shown is escaped and has a bound. Refuses to
know what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

TEXT_CHARS_MAX = 200
ROWS_MAX = 20

_FRAME = (
    "font-family:system-ui,sans-serif;font-size:13px;line-height:1.5;color:inherit;background:transparent;"
    "border:1px solid rgba(128,128,128,.45);border-radius:6px;padding:8px 12px;margin:2px 0;max-width:48em"
)
_TRACK = "height:8px;border-radius:4px;background:rgba(128,128,128,.3);overflow:hidden;margin:6px 0"
_CELL = "padding:1px 14px 1px 0;text-align:left;color:inherit;background:transparent"
_QUIET = "opacity:.75"
GREEN, RED, GREY = "#2f9e57", "#d1483f", "#8a8a8a"


def text(value: object) -> str:
    """Safe to stand in HTML, also in an attribute."""
    words = str(value)
    if len(words) > TEXT_CHARS_MAX:
        words = f"{words[: TEXT_CHARS_MAX - 1]}…"
    return escape(words, quote=True)


def framed(title: str, state: str, *parts: str) -> str:
    head = f'<div><b>{text(title)}</b> <span style="{_QUIET}">{text(state)}</span></div>'
    return f'<div style="{_FRAME}">{head}{"".join(parts)}</div>'


def line(words: str) -> str:
    return f'<div style="{_QUIET}">{text(words)}</div>' if words else ""


def bar(done: float, total: float | None, name: str, colour: str = GREEN) -> str:
    """A share of a whole. `total` None: it is not known yet."""
    share = min(1.0, max(0.0, done / total)) if total else 0.0
    if total == 0:
        share = 1.0
    now = f' aria-valuenow="{share * 100:.0f}"' if total is not None else ""
    return (
        f'<div role="progressbar" aria-label="{text(name)}" aria-valuemin="0" aria-valuemax="100"{now} '
        f'style="{_TRACK}"><div style="width:{share * 100:.1f}%;height:100%;background:{colour}"></div></div>'
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """At most ROWS_MAX rows, and a word on the others. No rows: nothing."""
    found = [list(row) for row in rows]
    if not found:
        return ""
    shown = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{text(each)}</td>' for each in row) + "</tr>"
        for row in found[:ROWS_MAX]
    )
    head = "".join(
        f'<th scope="col" style="{_CELL};font-weight:600">{text(each)}</th>' for each in heads
    )
    more = line(f"and {len(found) - ROWS_MAX:,} more") if len(found) > ROWS_MAX else ""
    return (
        f'<table style="border-collapse:collapse;margin:4px 0"><thead><tr>{head}</tr></thead>'
        f"<tbody>{shown}</tbody></table>{more}"
    )
