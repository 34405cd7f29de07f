"""A message that cannot be sent: what replaces it, now and when it is repeated."""

from __future__ import annotations

from random import Random
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.protocol.test_codec import SAYINGS

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.effects import Deliver, Effect, JobDone
from stealmesh_engine.events import OpenJob
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.links.custody import Channel
from stealmesh_engine.links.links import Links
from stealmesh_engine.links.unsayable import instead_of
from stealmesh_protocol import codec
from stealmesh_protocol.ids import job_id
from stealmesh_protocol.messages import (
    Block,
    Commit,
    FnPut,
    Grant,
    JobKind,
    JobSpec,
    Launch,
    Lease,
    Message,
    Part,
    Report,
    Returned,
    Revoked,
    Split,
    Supply,
)
from stealmesh_protocol.values import unpack_outcomes

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

ME = bytes(range(16))
JOB = job_id(ME, 1)
SPEC = JobSpec(JOB, JobKind.MAP, ME, "f", bytes(16))
LARGE = b"x" * 100

CASES: list[tuple[Message, type[Message]]] = [
    (Grant(SPEC, [Lease(1, 0, 5), Lease(3, 5, 9)], [Block(0, 9, 1)], 0, [LARGE]), Revoked),
    (FnPut(bytes(16), [LARGE]), FnPut),
    (Report(JOB, [Part(1, 0, 5, 1, 0.5), Part(1, 7, 8, 1, 0.5)], [LARGE, LARGE]), Report),
    (Commit(JOB, 1, 3, 7, [Lease(2, 0, 4)], blobs=[LARGE, LARGE, LARGE]), Commit),
    (Split(JOB, [Lease(1, 0, 5)], ME), Returned),
    (Launch(SPEC, 0, [LARGE]), Revoked),
    (Supply(JOB, [Block(0, 1, 1)], False, [LARGE]), Revoked),
]


@pytest.mark.parametrize(("message", "kind"), CASES, ids=lambda each: type(each).__name__)
def test_what_is_said_instead_can_be_said(message: Message, kind: type[Message]) -> None:
    by_client = kind is Revoked or isinstance(message, FnPut)
    instead = instead_of(message, "too large: " * 1000, by_client=by_client)
    assert type(instead) is kind
    assert sum(map(len, codec.encode(instead, 1))) < 10_000


NUMBERED = [cls for cls in SAYINGS if cls.CUSTODY and cls is not Report]
"""Reports have cases above: what is drawn here names more items than a report ever has."""


@pytest.mark.parametrize("cls", NUMBERED, ids=lambda cls: cls.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_every_numbered_message_has_a_replacement(cls: type[Message], data: st.DataObject) -> None:
    """A new one whose fields fit none of the cases ended the node when it could not be sent."""
    for by_client in (False, True):
        instead = instead_of(data.draw(SAYINGS[cls]), "too large", by_client=by_client)
        codec.encode(instead, 1)  # with the number of the other one


def test_a_report_says_of_each_item_that_it_failed() -> None:
    instead = instead_of(CASES[2][0], "too large", by_client=False)
    assert isinstance(instead, Report)
    assert [(part.lo, part.hi, part.failed) for part in instead.parts] == [(0, 5, 5), (7, 8, 1)]
    _, failures = unpack_outcomes(instead.parts[0].codec, instead.blobs[0])
    assert [failure.offset for failure in failures] == list(range(5))
    assert "too large" in failures[0].text


def test_a_commit_ends_its_bag() -> None:
    instead = instead_of(CASES[3][0], "too large", by_client=False)
    assert isinstance(instead, Commit)
    assert (instead.seq, instead.remaining, instead.children, instead.failed) == (3, 0, [], 1)


def test_the_channel_says_it_instead_for_ever() -> None:
    channel = Channel()
    numbers = [channel.number(FnPut(bytes(16), [LARGE])) for _ in range(3)]
    before = channel.unacked_octets
    assert channel.replace(numbers[1], FnPut(bytes(16)))
    assert channel.unacked_octets == before - len(LARGE)
    assert [len(message.blobs) for _, message in channel.again() if isinstance(message, FnPut)] == [
        1, 0, 1,
    ]  # fmt: skip
    channel.acknowledged(numbers[2])
    assert channel.unacked_octets == 0
    assert not channel.replace(numbers[2], FnPut(bytes(16)))


@pytest.mark.parametrize("what", ["function", "combine", "code"])
def test_what_cannot_be_sent_fails_the_items_that_need_it(what: str) -> None:
    """No peer was told of a bundle that could not be sent: its job waited for ever."""
    digest, peer = b"d" * 16, b"p" * 16
    effects: list[Effect] = []
    links = Mock(Links)
    links.peers = {}
    links.view = Mock()
    links.unheard.return_value = []
    owner = Owner(Context(Config(), effects, Counters(), Journal(100), Random(1)), links)
    owner.placement.side = Mock(withholds=lambda now: False)
    needs_it = replace(SPEC, **{what: digest})
    other = replace(SPEC, job=job_id(ME, 2), function=b"o" * 16)
    for spec in (needs_it, other):
        owner.open(OpenJob(spec, 5, 5, functions={digest: LARGE}), 0.0)
        owner.jobs[spec.job].ledger.grant(peer, 9.0)
    owner.unsayable(peer, FnPut(digest, [LARGE]), "too large", 1.0)
    delivered = [effect for effect in effects if isinstance(effect, Deliver)]
    assert [(effect.job, effect.lo, effect.hi) for effect in delivered] == [(JOB, 0, 5)]
    assert delivered[0].part.failed == 5
    assert JobDone(JOB) in effects
    assert list(owner.jobs) == [other.job]
