"""The compass as a picture: a bar a peer, to the right where Stealmesh is better, to the left where it is not.

The scale is logarithmic, with 1 in the middle. 390 units wide, so that it is read on a telephone as it is;
light and dark follow the reader. Written by hand: it is rectangles and text.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from math import log10

from stealmesh_bench.compass import Bearing
from stealmesh_bench.table import short

WIDTH = 390
EDGE = 12
NAMES_TO = 134
MIDDLE = 190
BARS_TO = 318
DECADES_MAX = 2.6
"""A bar that is longer is cut; its number is not."""
HEAD = 52
LINE = 17
PIECE = 30
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-size:15px;font-weight:600}"
    ".w{font-weight:600}.q{fill:#57606a}.n,.o{text-anchor:end}.back{fill:#fff}"
    ".good{fill:#2f7d55}.bad{fill:#c2571a}.axis{stroke:#8c959f}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e8ea}.q{fill:#9da7b1}.back{fill:#14171a}"
    ".good{fill:#57b88a}.bad{fill:#f0985a}.axis{stroke:#6e7781}}"
)


def as_svg(lines: Iterable[Bearing], about: str) -> str:
    """`about`: where and when it was measured, in a few words."""
    lines = [line for line in lines if line.factors]
    body: list[str] = []
    y = HEAD
    for line in lines:
        body += _of(line, y)
        y += PIECE + LINE * len(line.factors)
    height = y + EDGE
    head = (
        _text(EDGE, 24, "Stealmesh: times better than …", "t")
        + _text(EDGE, 42, about, "q")
        + (_text(EDGE, y, "nothing was compared", "q") if not lines else "")
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img"><title>Stealmesh beside other pools</title>'
        f"<style>{STYLE}</style>"
        f'<rect class="back" width="{WIDTH}" height="{height}" rx="6"/>{head}{"".join(body)}</svg>\n'
    )


def _of(line: Bearing, top: int) -> list[str]:
    ours = f"{short(line.ours.value)} {line.ours.unit}"
    made = [
        _text(EDGE, top + 18, line.ours.workload, "w"),
        _text(WIDTH - EDGE, top + 18, ours, "o q"),
    ]
    y = top + 25
    for peer, factor in line.factors.items():
        reach = min(1.0, abs(log10(factor)) / DECADES_MAX)
        room = BARS_TO - MIDDLE if factor >= 1 else MIDDLE - NAMES_TO - 4
        width = max(1.0, reach * room)
        x = MIDDLE if factor >= 1 else MIDDLE - width
        kind = "good" if factor >= 1 else "bad"
        box = f'x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="11" rx="2"'
        made += [
            _text(EDGE, y + 11, peer, "q"),
            f'<rect class="{kind}" {box}/>',
            _text(WIDTH - EDGE, y + 11, f"{short(factor)} ×", "n"),
        ]
        y += LINE
    made.append(f'<path class="axis" d="M{MIDDLE} {top + 24}V{y + 1}"/>')
    return made


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'
