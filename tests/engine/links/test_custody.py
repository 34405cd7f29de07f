"""Custody messages over links that break: each acted on once, in order, none forgotten."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stealmesh_engine.links.custody import Channel, Hearing, octets_of
from stealmesh_protocol.messages import Closed, Message, Report


def said(number: int) -> Message:
    return Closed(number.to_bytes(4, "big"))


def test_numbers_follow_each_other() -> None:
    channel = Channel()
    assert [channel.number(said(n)) for n in range(3)] == [1, 2, 3]
    assert [seq for seq, _ in channel.again()] == [1, 2, 3]


def test_an_acknowledgement_covers_all_before_it() -> None:
    channel = Channel()
    for n in range(4):
        channel.number(said(n))
    channel.acknowledged(3)
    assert [seq for seq, _ in channel.again()] == [4]
    channel.acknowledged(2)  # an old one, late
    assert [seq for seq, _ in channel.again()] == [4]


def test_a_forged_acknowledgement_drops_nothing() -> None:
    channel = Channel()
    channel.number(said(0))
    channel.acknowledged(2)
    channel.acknowledged(1 << 60)
    assert len(channel.unacked) == 1
    assert channel.unacked_octets == octets_of(said(0))


def test_octets_are_held_until_acknowledged() -> None:
    channel = Channel()
    channel.number(Report(b"job", [], [bytes(1000), bytes(24)]))
    assert channel.unacked_octets == 64 + 1024
    channel.acknowledged(1)
    assert channel.unacked_octets == 0


def test_repeats_and_gaps_are_not_acted_on() -> None:
    channel = Channel()
    assert channel.hear(1, 10) is Hearing.NEW
    assert channel.hear(1, 10) is Hearing.REPEAT
    assert channel.hear(3, 10) is Hearing.GAP
    assert channel.hear(0, 10) is Hearing.REPEAT  # a control number on a custody message
    assert channel.hear(2, 10) is Hearing.NEW
    assert channel.heard == 2


def test_a_repeat_is_acknowledged_again() -> None:
    channel = Channel()
    channel.hear(1, 10)
    owed = [channel.owed, channel.acknowledging(), channel.owed]
    channel.hear(1, 10)
    assert owed == [1, 1, 0]
    assert (channel.owed, channel.acknowledging()) == (1, 1)


class ChannelOverBreakingLinks(RuleBasedStateMachine):
    """Two ends and a link that loses what is under way whenever it breaks."""

    @initialize()
    def begin(self) -> None:
        self.ends = [Channel(), Channel()]
        self.sent: list[list[bytes]] = [[], []]
        self.acted: list[list[bytes]] = [[], []]
        self.under_way: list[list[tuple[int, Message | None, int]]] = [[], []]
        self.count = 0

    @rule(end=st.integers(0, 1))
    def say(self, end: int) -> None:
        self.count += 1
        message = said(self.count)
        seq = self.ends[end].number(message)
        self.sent[end].append(message.job)  # type: ignore[attr-defined]
        self.under_way[end].append((seq, message, self.ends[end].acknowledging()))

    @rule(end=st.integers(0, 1))
    def acknowledge(self, end: int) -> None:
        self.under_way[end].append((0, None, self.ends[end].acknowledging()))

    @rule(end=st.integers(0, 1))
    @precondition(lambda self: any(self.under_way))
    def deliver(self, end: int) -> None:
        if not self.under_way[end]:
            return
        seq, message, ack = self.under_way[end].pop(0)
        there = self.ends[1 - end]
        there.acknowledged(ack)
        if message is not None and there.hear(seq, 10) is Hearing.NEW:
            self.acted[end].append(message.job)  # type: ignore[attr-defined]

    @rule(end=st.integers(0, 1))
    @precondition(lambda self: any(self.under_way))
    def repeat(self, end: int) -> None:
        """What was acted on is sent again (its acknowledgement was lost)."""
        if self.under_way[end]:
            self.under_way[end].insert(0, self.under_way[end][0])

    @rule(lost=st.tuples(st.integers(0, 5), st.integers(0, 5)))
    def break_link(self, lost: tuple[int, int]) -> None:
        for end in (0, 1):
            self.under_way[end] = [
                (seq, message, self.ends[end].heard) for seq, message in self.ends[end].again()
            ]

    @invariant()
    def once_and_in_order(self) -> None:
        for end in (0, 1):
            assert self.acted[end] == self.sent[end][: len(self.acted[end])]

    def teardown(self) -> None:
        """In the end everything arrives."""
        if not hasattr(self, "ends"):
            return
        self.break_link((0, 0))
        for end in (0, 1):
            while self.under_way[end]:
                self.deliver(end)
            assert self.acted[end] == self.sent[end]


TestChannelOverBreakingLinks = ChannelOverBreakingLinks.TestCase
TestChannelOverBreakingLinks.settings = settings(max_examples=120, stateful_step_count=40)
