"""Which of many candidates is responsible for a key, without a question to any of them.

Decides an order of candidates for a key, the same wherever it is computed. Refuses to know what the key
stands for (a leaf that needs observers, a job that needs replicas) and which peers are candidates.

A supernode of ten thousand nodes asks this a million times in one go, and must not miss a beat over it. So
each name is hashed once, and a pair costs one multiplication (0.13 µs; a hash of each pair took 0.75 µs
and spread no better).

Ideas: rendezvous hashing (highest random weight) after Thaler and Ravishankar: when a candidate
comes or goes, only the keys that rank it first are concerned; Knuth's multiplicative hashing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from stealmesh_protocol.ids import PeerId

_MULTIPLIER = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_NAMES_KEPT = 1 << 16

Weight = int
WEIGHT_MAX = _MASK


@lru_cache(_NAMES_KEPT)
def place(name: bytes) -> int:
    """A number of 64 bits for a name; similar names are not near each other."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def weights(key: bytes, candidates: Iterable[tuple[int, PeerId]]) -> list[tuple[Weight, PeerId]]:
    """(weight, peer) of each candidate, which is given as (place, peer)."""
    here = place(key)
    return [(((here ^ there) * _MULTIPLIER) & _MASK, peer) for there, peer in candidates]


def weight(key: bytes, candidate: PeerId) -> Weight:
    """The larger it is, the more this candidate is responsible for this key."""
    return weights(key, [(place(candidate), candidate)])[0][0]


def ranked(key: bytes, candidates: Iterable[PeerId]) -> list[PeerId]:
    """All candidates, the most responsible for `key` first."""
    placed = ((place(peer), peer) for peer in candidates)
    return [peer for _, peer in sorted(weights(key, placed), reverse=True)]
