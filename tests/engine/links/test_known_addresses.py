"""Addresses of an earlier life: some at a time, and not for ever."""

from __future__ import annotations

from collections import Counter
from random import Random

from stealmesh_engine.links.known_addresses import AT_ONCE, TRIES, KnownAddresses

ADDRESSES = [f"tcp://10.0.0.{n}:7077" for n in range(1, 21)]


def remembered(*addresses: str) -> KnownAddresses:
    made = KnownAddresses(Random(1))
    made.add(addresses or ADDRESSES)
    return made


def test_the_lonely_try_some_at_a_time_and_all_in_the_end() -> None:
    find = remembered()
    tried = [find.lonely() for _ in range(100)]
    assert {len(each) for each in tried} == {AT_ONCE}
    assert {address for each in tried for address in each} == set(ADDRESSES)
    assert len(find) == len(ADDRESSES), "as long as nobody answers, nobody is given up"


def test_once_joined_each_has_its_chances_and_no_more() -> None:
    find = remembered()
    tried: Counter[str] = Counter()
    while find:
        (one,) = find.joined(set())
        tried[one] += 1
    assert tried == dict.fromkeys(ADDRESSES, TRIES)


def test_who_became_known_need_not_be_looked_for() -> None:
    find = remembered()
    assert find.joined(set(ADDRESSES)) == []
    assert not find


def test_few_are_few() -> None:
    assert remembered("tcp://a:1").lonely() == ["tcp://a:1"]
    assert KnownAddresses(Random(1)).lonely() == []
