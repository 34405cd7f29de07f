"""Counting numbers with a property, a whole range at once: the job for which the engine should cost nothing.

The property: n² leaves the same remainder by both MODULI. Its cost an item is the same
everywhere, it needs a megabyte for any range, and the right answer follows from the
Chinese remainder theorem, so that no second run is needed to check the first.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

MODULI = (1009, 1013)
"""Two primes; the property repeats after their product."""

BLOCK = 1 << 15
"""Items at once: arrays that stay in a core's own cache, so that the chunk's length has no price."""


def count_alike(numbers: range) -> int:
    """How many numbers of a range have the property. Squares must fit into 63 bits."""
    return sum(_count_block(numbers[at : at + BLOCK]) for at in range(0, len(numbers), BLOCK))


def _count_block(numbers: range) -> int:
    squares = np.arange(numbers.start, numbers.stop, numbers.step, dtype=np.int64)
    squares *= squares
    p, q = MODULI
    return int(np.count_nonzero(squares % p == squares % q))


def expected(n: int) -> int:
    """The count for range(n), found another way."""
    p, q = MODULI
    periods, rest = divmod(n, p * q)
    return periods * _count_period() + sum(i * i % p == i * i % q for i in range(rest))


def _count_period() -> int:
    """Each common remainder is met by (its roots modulo p) times (its roots modulo q) numbers."""
    roots_p, roots_q = (Counter(i * i % m for i in range(m)) for m in MODULI)
    return sum(count * roots_q[remainder] for remainder, count in roots_p.items())
