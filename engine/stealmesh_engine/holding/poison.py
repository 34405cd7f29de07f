"""What happens to a chunk that died with its worker, until the guilty item is found and named.

Decides into what pieces such a chunk is divided, how many items from a given one on may run together, when
an item has killed enough workers (`attempts_max`), and how its failure reads. Refuses to know workers,
leases and bags, and opens no user value: a failure is plain msgpack, and the client makes the exception
object from it.

A worker may die of an item, or of something else: the kernel wants memory, an operator kills it. So the
items of its chunk do not run one by one at once, thousands of turns for one blow from outside. They
run in sixteenths, a sixteenth that dies with its worker in sixteenths again, until an item dies alone.
A guilty one among 20,000 is alone after four deaths. When workers are killed at random, a piece is soon
too short to be hit. Idea: group testing (Dorfman 1943), with a wider split because a death costs more
than a turn.

Chunks that run side by side in one process die together, a hundred of them perhaps. First they run again
in smaller company: a sixteenth of their number, and so on until one dies alone. Only what was alone is
blamed, so a hundred innocent neighbours are not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from stealmesh_protocol.messages import JobSpec
from stealmesh_protocol.values import Failure, pack_outcomes

PIECES = 16
"""A piece that died with its worker is divided into this number. More: fewer deaths until the guilty
item is alone, more turns for its neighbours."""


class FragileItems:
    """Disjoint pieces [lo, hi): each runs apart from its neighbours until it is done."""

    __slots__ = ("_company", "_highs", "_lows")

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._company: list[int] = []
        """How many suspects may run in one process with this piece, itself included."""

    def __bool__(self) -> bool:
        return bool(self._lows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._lows, self._highs, strict=True))

    def suspect(self, lo: int, hi: int, beside: int = 1) -> None:
        """A worker died with [lo, hi): each sixteenth of it runs apart from now on. If it ran `beside`
        chunks in all, it stays whole and runs with a sixteenth of these."""
        assert lo < hi, "a chunk has items"
        self.clear(lo, hi)
        size = -(-(hi - lo) // PIECES) if beside == 1 else hi - lo
        lows = list(range(lo, hi, size))
        at = bisect_left(self._lows, lo)
        self._lows[at:at] = lows
        self._highs[at:at] = [*lows[1:], hi]
        self._company[at:at] = [-(-beside // PIECES)] * len(lows)

    def clear(self, lo: int, hi: int) -> None:
        """[lo, hi) is done, or is divided anew."""
        first = bisect_right(self._highs, lo)
        end = bisect_left(self._lows, hi)
        if lo >= hi or first >= end:
            return
        company = self._company
        ends = [
            (self._lows[first], lo, company[first]),
            (hi, self._highs[end - 1], company[end - 1]),
        ]
        kept = [(low, high, most) for low, high, most in ends if low < high]
        self._lows[first:end] = [low for low, _, _ in kept]
        self._highs[first:end] = [high for _, high, _ in kept]
        company[first:end] = [most for _, _, most in kept]

    def together(self, lo: int, items: int) -> int:
        """How many of `items` items from `lo` on may run as one chunk."""
        at = bisect_right(self._highs, lo)
        if at == len(self._lows):
            return items
        end = self._highs[at] if self._lows[at] <= lo else self._lows[at]
        return min(items, end - lo)

    def company_at(self, lo: int) -> int:
        """How many suspects may run in one process with item `lo`; 0: it is no suspect."""
        at = bisect_right(self._highs, lo)
        return self._company[at] if at < len(self._lows) and self._lows[at] <= lo else 0


class Attempts:
    """How the suspects of one job have killed workers: items that ran alone, explore bags."""

    __slots__ = ("by_suspect",)

    def __init__(self) -> None:
        self.by_suspect: dict[int, list[str]] = {}

    def condemn(
        self, spec: JobSpec, suspect: int, item: int, reason: str, output: str = ""
    ) -> tuple[int, bytes] | None:
        """A worker died of this suspect (item index, or lease id of a bag). Returns the codec and blob of
        the failure once that has happened `attempts_max` times; None: it runs again."""
        attempts = self.by_suspect.setdefault(suspect, [])
        attempts.append(reason)
        if len(attempts) < spec.attempts_max:
            return None
        del self.by_suspect[suspect]
        return worker_died(spec, item, attempts, output)


def timed_out(spec: JobSpec, item: int, output: str = "") -> tuple[int, bytes]:
    """Codec and blob of the outcome of an item that ran longer than its timeout."""
    text = f"item {item} of {spec.name} ran longer than its timeout of {spec.timeout:g} s"
    return pack_outcomes(None, [Failure(0, "timeout", text=text, output=output)])


def worker_died(
    spec: JobSpec, item: int, attempts: list[str], output: str = ""
) -> tuple[int, bytes]:
    """Codec and blob of the outcome of an item that has killed workers for these reasons."""
    text = (
        f"item {item} of {spec.name} ended its worker process {len(attempts)} times: "
        f"{'; '.join(attempts)}"
    )
    failure = Failure(0, "worker-died", text=text, attempts=attempts, output=output)
    return pack_outcomes(None, [failure])
