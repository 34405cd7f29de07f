"""A picture of a run: goodput over time with the faults marked, as SVG.

Draws with text alone, so that it needs no library. Decides nothing.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from stealmesh_bench.chaos.report import ChaosReport

WIDTH, HEIGHT = 960, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 60
MARKS_NAMED_MAX = 12
"""With more faults than that each is a line without a name."""


class CannotDraw(Exception):
    """The file's name asks for something that we do not draw."""


def check(path: str) -> None:
    """Before a long run: can this be drawn?"""
    if Path(path).suffix.lower() != ".svg":
        raise CannotDraw(
            f"cannot draw {path}: pictures are SVG, so name a file that ends in .svg (any browser shows it)"
        )
    if not Path(path).resolve().parent.is_dir():
        raise CannotDraw(f"cannot draw {path}: there is no such directory")


def draw(report: ChaosReport, path: str) -> None:
    Path(path).write_text(svg(report), encoding="utf-8")


def svg(report: ChaosReport) -> str:
    end = max((at for at, _ in report.timeline), default=1.0) or 1.0
    top = max([rate for _, rate in report.timeline] + [report.goodput_wanted or 0.0, 1.0]) * 1.1

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(seconds, end) / end

    def y(rate: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / top

    title = f"{report.scenario}, {report.nodes} nodes, seed {report.seed}"
    verdict = "pass" if not report.breaches else "; ".join(report.breaches)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    )
    parts = [
        head,
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, f"{title}: {verdict}"[:140], size=14),
    ]
    for rate in (top * k / 4 for k in range(5)):
        parts.append(_line(LEFT, y(rate), WIDTH - RIGHT, y(rate), "#ddd"))
        parts.append(_text(LEFT - 6, y(rate) + 4, f"{rate:,.0f}", anchor="end"))
    ticks = [end * k / 10 for k in range(11)]
    parts += [_text(x(at), HEIGHT - BOTTOM + 18, f"{at:.0f} s", "middle") for at in ticks]
    if report.goodput_wanted:
        at = y(report.goodput_wanted)
        parts.append(_line(LEFT, at, WIDTH - RIGHT, at, "#2a2", dashed=True))
        parts.append(_text(WIDTH - RIGHT, at - 4, "capacity of the survivors", "end"))
    parts += [_mark(x(at), what, k, len(report.marks)) for k, (at, what) in enumerate(report.marks)]
    points = " ".join(f"{x(at):.1f},{y(rate):.1f}" for at, rate in report.timeline)
    parts.append(f'<polyline points="{points}" fill="none" stroke="#1f5fbf" stroke-width="1.5"/>')
    parts.append(_text(LEFT, HEIGHT - 8, f"items a second; {report.replay}", size=11))
    return "\n".join([*parts, "</svg>\n"])


def _mark(at: float, what: str, number: int, count: int) -> str:
    line = _line(at, TOP, at, HEIGHT - BOTTOM, "#d33", dashed=count <= MARKS_NAMED_MAX)
    if count > MARKS_NAMED_MAX:
        return line.replace("/>", ' stroke-opacity="0.25"/>')
    return line + _text(at + 3, TOP + 12 + 14 * (number % 4), what[:40], size=11)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'
    )


def _text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(words)}</text>"
    )
