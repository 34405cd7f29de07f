"""Responsibility by rendezvous: the same everywhere, spread evenly, moved only where it must."""

from collections import Counter

from stealmesh_engine.base.rendezvous import ranked

PEERS = [bytes([number]) * 16 for number in range(20)]
KEYS = [number.to_bytes(16, "big") for number in range(2000)]


def test_the_order_of_the_candidates_does_not_matter() -> None:
    assert ranked(KEYS[7], PEERS) == ranked(KEYS[7], reversed(PEERS))


def test_keys_are_spread_over_the_candidates() -> None:
    firsts = Counter(ranked(key, PEERS)[0] for key in KEYS)
    assert len(firsts) == len(PEERS)
    assert max(firsts.values()) < 2 * len(KEYS) / len(PEERS)


def test_a_candidate_that_goes_moves_only_the_keys_that_it_had() -> None:
    gone, rest = PEERS[3], PEERS[:3] + PEERS[4:]
    for key in KEYS:
        before, after = ranked(key, PEERS)[0], ranked(key, rest)[0]
        assert after == before or before == gone
