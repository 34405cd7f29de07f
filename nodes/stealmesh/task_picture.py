"""The task stream as one SVG: which worker was busy when, with what, who stole from whom, and who died.

The one picture of `demo --picture`, of reports and of `stealmesh chaos --plot`. Decides what is drawn of journals: the
same signs as on the page (bars coloured by function, yellow where items failed, arrows from victim to thief, red
triangles for deaths), but still, for a document or a mail. What is known beside journals is drawn on the same time:
how many items a second ended, and what somebody did to the mesh. Bars that touch are one, and many rows are the first
of them, so the picture has a bounded size. Refuses to know where the entries come from. No script, nothing from outside; it follows its reader's
light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from stealmesh.host.saying import printable
from stealmesh_protocol.ids import PeerId
from stealmesh_protocol.journal_messages import RingKind

if TYPE_CHECKING:
    from stealmesh.client.journals import Happening

WIDTH, LABEL, RIGHT = 960, 110, 14
TOP, ROW, GAP, FOOT = 46, 16, 5, 46
CURVE, CURVE_GAP, NAMES = 90, 34, 58
"""Items a second, above the rows; and the names of what was done, above that."""
ROWS_MAX = 256
MARKS_NAMED_MAX = 12
"""More marks than that are lines without a name."""
STEALS_MAX = 300
DEATHS_MAX = 20
BARS_A_ROW_MAX = 1000
"""There are no more columns than that."""
FUNCTIONS_MAX = 5
NAME_CHARS_MAX = 14
COLOURS = ("#3b7dd8", "#3f9b6c", "#9a6cc4", "#c47f2f", "#5a8f9b")
"""Of functions, in the order in which they begin; further ones are drawn as the last."""
ENDED_WELL = ("done", "step")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-size:14px;font-weight:600}"
    ".g{stroke:#d0d5da}.r{fill:#e9ecef}.s{stroke:#24292f;stroke-opacity:.45;stroke-width:1}"
    ".bad{fill:#c92a2a}.warn{fill:#d99a1c}.back{fill:#fff}.c{fill:none;stroke:#3b7dd8;stroke-width:1.5}"
    ".w{stroke:#3f9b6c;stroke-dasharray:4 3}.m{stroke:#c92a2a;stroke-dasharray:4 3}.many{stroke-opacity:.25}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e8ea}.g{stroke:#3c434a}.r{fill:#23282d}.s{stroke:#e6e8ea}"
    ".bad{fill:#ff8a80}.back{fill:#14171a}.m{stroke:#ff8a80}}"
)

Row = tuple[PeerId, int]


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known of a run beside its journals. Times are seconds of the same clock as theirs."""

    begun: float
    ended: float
    rates: Sequence[tuple[float, float]] = ()
    """(when, items a second)."""
    wanted: float | None = None
    """The rate that there should be in the end."""
    marks: Sequence[tuple[float, str]] = ()
    """(when, what somebody did)."""


def picture(found: Iterable[Happening], title: str, beside: Beside | None = None) -> str:
    """`found` in order of time."""
    found = list(found)
    chunks = [each for each in found if each.entry.kind == RingKind.CHUNK]
    begun = min((each.begun for each in chunks), default=0.0)
    ended = max((each.at for each in chunks), default=begun + 1.0)
    if beside is not None:
        begun, ended = beside.begun, max(beside.ended, beside.begun + 1e-6)
        chunks = [each for each in chunks if each.at >= begun and each.begun <= ended]
    drawing = _Drawing(found, chunks, begun, max(ended - begun, 1e-6), beside)
    high = drawing.top + max(1, len(drawing.rows)) * (ROW + GAP) + FOOT
    label = f"{title}: {drawing.workers} workers over {ended - begun:.1f} seconds"
    size = f'viewBox="0 0 {WIDTH} {high}" width="{WIDTH}" height="{high}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{high}"/>',
        f'<text class="t" x="8" y="20">{escape(title)}</text>',
        *drawing.ticks(high),
        *drawing.curve(),
        *drawing.names_of_rows(),
        *drawing.bars(),
        *drawing.steals(),
        *drawing.marks(high),
        *drawing.deaths(),
        *drawing.legend(high - 12),
        "</svg>\n",
    ]
    return "\n".join(parts)


class _Drawing:
    """Where things lie."""

    def __init__(
        self,
        found: list[Happening],
        chunks: list[Happening],
        begun: float,
        seconds: float,
        beside: Beside | None,
    ) -> None:
        self._found, self._chunks, self._begun, self._seconds = found, chunks, begun, seconds
        self._beside = beside
        named = beside is not None and 0 < len(beside.marks) <= MARKS_NAMED_MAX
        self._curve_top = TOP + (NAMES if named else 0)
        self.top = self._curve_top
        if beside is not None and beside.rates:
            self.top += CURVE + CURVE_GAP
        self._names = {each.peer: _short(each.node or each.peer.hex()[:8]) for each in found}
        keys = {(each.peer, each.entry.worker) for each in chunks}
        self.rows: dict[Row, float] = {}
        self.workers = len(keys)
        for row in sorted(keys, key=lambda row: (self._names[row[0]], row))[:ROWS_MAX]:
            self.rows[row] = self.top + len(self.rows) * (ROW + GAP)
        self._first: dict[PeerId, float] = {}
        for (peer, _), y in self.rows.items():
            self._first.setdefault(peer, y)
        functions = list(dict.fromkeys(each.entry.name for each in chunks))
        self._colours = {
            name: COLOURS[min(at, len(COLOURS) - 1)] for at, name in enumerate(functions)
        }

    def ticks(self, high: float) -> Iterable[str]:
        for step in range(5):
            at, x = self._seconds * step / 4, LABEL + (WIDTH - LABEL - RIGHT) * step / 4
            anchor = "end" if step == 4 else "middle"
            yield f'<line class="g" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{high - FOOT + 4:.1f}"/>'
            yield f'<text x="{x:.1f}" y="{TOP - 12}" text-anchor="{anchor}">{at:.1f} s</text>'

    def curve(self) -> Iterable[str]:
        """Items a second."""
        beside = self._beside
        if beside is None or not beside.rates:
            return
        most = max([rate for _, rate in beside.rates] + [beside.wanted or 0.0, 1.0]) * 1.1
        low = self._curve_top + CURVE

        def y(rate: float) -> float:
            return low - CURVE * rate / most

        for rate in (0.0, most / 2, most):
            yield f'<line class="g" x1="{LABEL}" y1="{y(rate):.1f}" x2="{WIDTH - RIGHT}" y2="{y(rate):.1f}"/>'
            yield f'<text x="{LABEL - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:,.0f} /s</text>'
        if beside.wanted:
            at = y(beside.wanted)
            yield f'<line class="w" x1="{LABEL}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
            yield f'<text x="{WIDTH - RIGHT}" y="{at - 4:.1f}" text-anchor="end">capacity of the survivors</text>'
        points = " ".join(
            f"{self._x(min(at, self._begun + self._seconds)):.1f},{y(rate):.1f}"
            for at, rate in beside.rates
        )
        yield f'<polyline class="c" points="{points}"/>'

    def marks(self, high: float) -> Iterable[str]:
        """What somebody did, through all rows."""
        marks = [] if self._beside is None else self._beside.marks
        many = " many" if len(marks) > MARKS_NAMED_MAX else ""
        for number, (at, words) in enumerate(marks):
            x = self._x(at)
            if not self._within(at):
                continue
            yield f'<line class="m{many}" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{high - FOOT:.1f}"/>'
            if not many:
                side, x = ("end", x - 4) if x > WIDTH * 0.75 else ("start", x + 4)
                yield f'<text x="{x:.1f}" y="{TOP + 6 + 14 * (number % 4)}" text-anchor="{side}">{escape(words[:60])}</text>'

    def names_of_rows(self) -> Iterable[str]:
        many = len(self.rows) > len(self._first)
        for (peer, worker), y in self.rows.items():
            name = f"{self._names[peer]} · {worker}" if many else self._names[peer]
            yield f'<text x="8" y="{y + ROW - 4:.1f}">{escape(name)}</text>'
            yield f'<rect class="r" x="{LABEL}" y="{y:.1f}" width="{WIDTH - LABEL - RIGHT}" height="{ROW}"/>'

    def bars(self) -> Iterable[str]:
        drawn: dict[Row, list[tuple[int, int, str]]] = {row: [] for row in self.rows}
        for each in self._chunks:
            row = drawn.get((each.peer, each.entry.worker))
            if row is None:
                continue
            lo, hi, colour = int(self._x(each.begun)), int(self._x(each.at)) + 1, self._colour(each)
            if row and lo < row[-1][1] and hi <= row[-1][1]:
                continue  # its column has a colour already
            if row and row[-1][2] == colour and lo <= row[-1][1]:
                row[-1] = min(lo, row[-1][0]), max(hi, row[-1][1]), colour
            else:
                row.append((lo, hi, colour))
        for at, bars in drawn.items():
            for lo, hi, colour in bars:
                yield f'<rect {colour} x="{lo}" y="{self.rows[at]:.1f}" width="{hi - lo}" height="{ROW}"/>'

    def steals(self) -> Iterable[str]:
        """Of too many the largest."""
        told = [
            each for each in self._found
            if each.entry.kind == RingKind.STEAL and each.entry.what == "gave"
            and each.peer in self._first and each.entry.peer in self._first and self._within(each.at)
        ]  # fmt: skip
        for each in sorted(told, key=lambda each: -each.entry.count)[:STEALS_MAX]:
            x, y, to = self._x(each.at), self._first[each.peer], self._first[each.entry.peer]
            end, way = to + ROW / 2, -5 if to > y else 5
            yield f'<path class="s" fill="none" d="M{x:.1f} {y + ROW / 2:.1f}V{end:.1f}m-2.5 {way}l2.5 {-way}l2.5 {way}"/>'

    def deaths(self) -> Iterable[str]:
        """The first that says so of each node, and each dead worker."""
        seen: set[PeerId] = set()
        marks: list[tuple[float, float, str]] = []
        for each in self._found:
            entry = each.entry
            if entry.kind == RingKind.VERDICT and "dead" in entry.what and entry.peer not in seen:
                seen.add(entry.peer)
                if entry.peer in self._first and self._within(each.at):
                    marks.append(
                        (each.at, self._first[entry.peer], f"{_short(entry.name)} is dead")
                    )
            elif entry.kind == RingKind.DEATH and (each.peer, entry.worker) in self.rows:
                marks.append((each.at, self.rows[each.peer, entry.worker], "worker died"))
        for at, y, words in marks[:DEATHS_MAX]:
            x = self._x(at)
            yield f'<path class="bad" d="M{x:.1f} {y + 7:.1f}l-6 -11h12z"/>'
            yield f'<text class="bad" x="{x + 9:.1f}" y="{y + ROW - 4:.1f}">{escape(words)}</text>'

    def legend(self, y: float) -> Iterable[str]:
        x = 8.0
        for name in list(self._colours)[:FUNCTIONS_MAX]:
            words = _short(name, 2 * NAME_CHARS_MAX)
            yield f'<rect fill="{self._colours[name]}" x="{x:.1f}" y="{y - 10:.1f}" width="11" height="11"/>'
            yield f'<text x="{x + 16:.1f}" y="{y:.1f}">{escape(words)}</text>'
            x += 40 + 7 * len(words)
        words = "arrows: steals, from victim to thief; red: lost; yellow: items failed"
        if self.workers > len(self.rows):
            words += f"; {self.workers - len(self.rows):,} more workers are left out"
        yield f'<text x="{x:.1f}" y="{y:.1f}">{words}</text>'

    def _x(self, at: float) -> float:
        return LABEL + (WIDTH - LABEL - RIGHT) * (at - self._begun) / self._seconds

    def _within(self, at: float) -> bool:
        return self._begun <= at <= self._begun + self._seconds

    def _colour(self, each: Happening) -> str:
        if each.entry.what not in ENDED_WELL:
            return 'class="bad"'
        if each.entry.count:
            return 'class="warn"'
        return f'fill="{self._colours[each.entry.name]}"'


def _short(name: str, most: int = NAME_CHARS_MAX) -> str:
    shown = printable(name)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
