"""Counting primes: the job of the README, item by item and a whole chunk at once.

`is_prime` is what a user would write first; `count_primes` is the quick version (a segmented sieve,
for use with `stealmesh.vectorized`). PI has the right answers.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import compress
from math import isqrt

PI = {
    10**0: 0,
    10**1: 4,
    10**2: 25,
    10**3: 168,
    10**4: 1_229,
    10**5: 9_592,
    10**6: 78_498,
    10**7: 664_579,
    10**8: 5_761_455,
    10**9: 50_847_534,
    10**10: 455_052_511,
    10**11: 4_118_054_813,
    10**12: 37_607_912_018,
}
"""How many primes are at most 10**k (OEIS A006880)."""

SEGMENT_ODDS = 1 << 18
"""Odd numbers sieved at once: 256 KiB, which stays in a core's own cache."""


def is_prime(n: int) -> bool:
    """By trial division: cost grows with the square root of n for primes, and is tiny for most others."""
    if n < 4:
        return n > 1
    if n % 2 == 0 or n % 3 == 0:
        return False
    return all(n % d and n % (d + 2) for d in range(5, isqrt(n) + 1, 6))


def count_primes(numbers: range) -> int:
    """How many primes are in a range. Memory is that of one segment, however long the range."""
    if abs(numbers.step) != 1:
        return sum(map(is_prime, numbers))
    if not numbers:
        return 0
    lo, last = sorted((numbers[0], numbers[-1]))
    hi = last + 1
    two = lo <= 2 < hi
    first = max(lo | 1, 3)
    span = 2 * SEGMENT_ODDS
    return two + sum(_count_odd(at, min(at + span, hi)) for at in range(first, hi, span))


def _count_odd(lo: int, hi: int) -> int:
    """Primes among the odd numbers of [lo, hi), where lo is odd and at least 3."""
    odds = (hi - lo + 1) // 2
    sieve = bytearray(b"\x01") * odds
    root = isqrt(hi - 1)
    for p in _odd_primes(1 << root.bit_length()):
        if p > root:
            break
        multiple = max(p * p, (lo + p - 1) // p * p)
        multiple += p * (multiple % 2 == 0)
        at = (multiple - lo) // 2
        if at < odds:
            sieve[at::p] = bytes((odds - 1 - at) // p + 1)
    return sieve.count(1)


@lru_cache(maxsize=8)
def _odd_primes(limit: int) -> list[int]:
    """The odd primes below `limit`; asked with powers of two, so that few lists serve all ranges."""
    sieve = bytearray(b"\x01") * (limit // 2)  # index i stands for 2 i + 1
    sieve[:1] = b"\x00"
    for i in range(1, isqrt(limit) // 2 + 1):
        if sieve[i]:
            p = 2 * i + 1
            at = p * p // 2
            sieve[at::p] = bytes(len(range(at, len(sieve), p)))
    return list(compress(range(1, limit, 2), sieve))
