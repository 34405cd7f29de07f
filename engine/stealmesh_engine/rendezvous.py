"""Who of many is responsible for a key, without anyone being asked.

Decides an order of candidates for a key, the same wherever it is computed. Refuses to know what the
key stands for (a leaf that needs homes, a job that needs keepers) and who is a candidate.

Idea: rendezvous hashing (highest random weight) after Thaler and Ravishankar: when a candidate
comes or goes, only the keys that rank it first are concerned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from stealmesh_protocol.ids import PeerId


def weight(key: bytes, candidate: PeerId) -> bytes:
    """How strongly this candidate is drawn to this key; larger is stronger."""
    return hashlib.blake2b(candidate, digest_size=8, key=key[:64]).digest()


def ranked(key: bytes, candidates: Iterable[PeerId]) -> list[PeerId]:
    """All candidates, the one most responsible for `key` first."""
    return sorted(candidates, key=lambda peer: (weight(key, peer), peer), reverse=True)
