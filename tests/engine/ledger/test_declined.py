"""Who declined which items: against a model that remembers it item by item."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stealmesh_engine.ledger.passed_over import (
    OTHERS_CHARS_MAX,
    UNFIT_SECONDS,
    PassedOver,
    cannot_load,
    reason_in,
    told_by_all,
)
from stealmesh_protocol.values import RAISED, Failure, pack_outcomes, unpack_outcomes

ITEMS = 40
A, B, C = (bytes([n]) * 16 for n in range(3))

intervals = st.tuples(st.integers(0, ITEMS - 1), st.integers(1, ITEMS)).map(
    lambda pair: (pair[0], min(ITEMS, pair[0] + pair[1]))
)
steps = st.lists(st.tuples(st.sampled_from([A, B, C, None]), intervals), max_size=30)


@given(steps)
def test_everybody_who_declined_an_item_is_remembered_until_it_is_done(
    steps: list[tuple[bytes | None, tuple[int, int]]],
) -> None:
    passed, model = PassedOver(), [set[bytes]() for _ in range(ITEMS)]
    for peer, (lo, hi) in steps:
        if peer is None:
            passed.settled(lo, hi)
        else:
            passed.declined(peer, lo, hi, "it lacks something")
        for item in range(lo, hi):
            model[item] = set() if peer is None else model[item] | {peer}
    for item in range(ITEMS):
        assert passed.barred(item, 0.0).keys() == model[item]
        assert passed.willing(item) == model[item]
        reach = passed.reach(item)
        upto = ITEMS if reach is None else min(reach, ITEMS)
        assert item < upto
        assert all(model[each] == model[item] for each in range(item, upto))
    for lo, hi in [(0, ITEMS), (3, 17)]:
        told = {frozenset(model[item]) for item in passed.starts(lo, hi)}
        assert told >= {frozenset(model[item]) for item in range(lo, hi) if model[item]}


def test_a_node_that_cannot_load_the_function_is_asked_again_after_a_while() -> None:
    passed = PassedOver()
    passed.unfit(A, "no module", 0.0)
    assert A in passed.barred(0, UNFIT_SECONDS - 1)
    assert A not in passed.barred(0, UNFIT_SECONDS + 1)
    lasting = PassedOver(lasting=True)
    lasting.unfit(A, "no module", 0.0)
    assert A in lasting.barred(0, UNFIT_SECONDS + 1)


def test_who_declined_without_trying_would_not_try_now() -> None:
    """Byte code of another Python: asking once more would go on for ever."""
    passed = PassedOver()
    passed.unfit(A, "another Python", 0.0)
    assert not passed.willing(0)
    passed.unfit(B, "no module", 0.0)
    passed.declined(B, 0, 1, "no module")
    assert passed.willing(7) == {B}


def test_an_item_that_fails_everywhere_says_nothing_of_nodes() -> None:
    passed = PassedOver()
    for peer in (A, B):
        passed.unfit(peer, "no module", 0.0)
        passed.declined(peer, 0, 1, "no module")
    passed.failed_everywhere(B, 0, 1)
    passed.settled(0, 1)
    assert passed.barred(1, 1.0).keys() == {A, B}  # it may be the nodes, though
    passed.able(A)
    assert not passed.barred(1, 1.0)


def test_reasons_are_told_within_bounds_and_garbage_is_nobodys_end() -> None:
    codec, blob = cannot_load("nobody has it", 3)
    assert [f.offset for f in unpack_outcomes(codec, blob)[1]] == [0, 1, 2]
    told = told_by_all(blob, [("n1", "x" * 10_000)])
    assert all(len(f.text) < OTHERS_CHARS_MAX + 100 for f in unpack_outcomes(codec, told)[1])
    raised = pack_outcomes(None, [Failure(0, RAISED, b"pickled", "text", "a story\n")])[1]
    (failure,) = unpack_outcomes(codec, told_by_all(raised, [("n1", "no pandas")]))[1]
    assert failure.exception == b"pickled"
    assert "a story" in failure.traceback
    assert "n1: no pandas" in failure.traceback
    assert told_by_all(b"\xc1garbage", [("n1", "why")]) == b"\xc1garbage"
    assert "reason" in reason_in(b"\xc1garbage")
