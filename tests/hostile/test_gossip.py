"""Holders of the key that lie about members, over whole links and in herds. Rows 39 and 26.

A record of VIEW is a claim: an address is dialled, and what answers there has to introduce itself by its own id.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.hostile.insider import untrue
from tests.hostile.place import HonestJob, NodeProcess, Place
from tests.hostile.test_strangers import http_server
from tests.patience import until

from stealmesh_protocol import limits
from stealmesh_protocol.messages import Member, PeerState, Role, View

pytestmark = pytest.mark.real


def record(**facts: object) -> Member:
    return Member(
        **{
            "id": os.urandom(16), "name": "nobody", "host": "nowhere", "role": Role.PLAIN,
            "endpoints": [], "incarnation": 1, "workers": 1, **facts,
        }  # type: ignore[arg-type]
    )  # fmt: skip


BAD_ADDRESSES = [
    "tcp://0.0.0.0:7077", "tcp://*:7077", "tcp://[::]:7077", "inproc://monitor-0", "tcp://h:0",
    "tcp://h:70000", "tcp://:7077", "udp://h:1", "tcp://" + "h" * 65_536 + ":1", "",
]  # fmt: skip


def test_a_record_without_sense_is_no_message(place: Place, beside: HonestJob) -> None:
    for address in BAD_ADDRESSES:
        with place.insider() as liar, place.counts("garbled:endpoint", "garbled:text"):
            liar.introduce()
            fields = [os.urandom(16), "n", "h", 0, [address], 0]
            liar.frames(untrue(View, [fields]))


def test_more_records_than_a_view_may_have(place: Place, beside: HonestJob) -> None:
    for count, reason in ((limits.MEMBERS_MAX + 1, "list"), (20_000, "size")):
        with place.insider() as liar, place.counts(f"garbled:{reason}"):
            liar.introduce()
            liar.frames(untrue(View, [[os.urandom(16), "n", "h", 0, [], 0]] * count))


def test_an_invented_member_costs_a_call_that_finds_nobody(place: Place, beside: HonestJob) -> None:
    """Its address is an HTTP server's; another one's is a file that is no socket. Neither becomes a peer."""
    heard: list[bytes] = []
    with http_server(heard) as endpoint, place.insider(role=Role.PLAIN, workers=1) as liar:
        liar.introduce()
        invented = [record(endpoints=[endpoint]), record(endpoints=["ipc:///etc/passwd"])]
        liar.say(View(invented))
        until(lambda: heard or not liar.is_answered(), "it was dialled")
        assert liar.is_answered()
        for octets in heard:
            assert b"SM" not in octets, "no message in clear"
        liar.say(View([msgspec.structs.replace(each, state=PeerState.LEFT) for each in invented]))
        assert liar.is_answered()


def test_a_record_from_the_far_future_is_not_believed(place: Place, beside: HonestJob) -> None:
    with place.insider(role=Role.PLAIN, workers=1) as liar:
        liar.introduce()
        assert liar.node is not None
        far = msgspec.structs.replace(liar.node, incarnation=limits.INCARNATION_MAX)
        with place.counts("rude-incarnation"):
            liar.say(View([far]))
        beyond = msgspec.structs.replace(liar.node, incarnation=limits.INCARNATION_MAX + 1)
        with place.counts("garbled:"):
            liar.frames(untrue(View, [[*msgspec.to_builtins(beyond, builtin_types=(bytes,))]]))


@pytest.mark.parametrize("state", [PeerState.SUSPECT, PeerState.DEAD, PeerState.LEFT])
def test_a_node_that_is_called_dead_says_that_it_lives(
    place: Place, beside: HonestJob, state: PeerState
) -> None:
    with place.insider(role=Role.PLAIN, workers=1) as liar:
        liar.introduce()
        assert liar.node is not None
        me = max(
            [
                liar.node,
                *[
                    m
                    for v in liar.heard
                    if isinstance(v, View)
                    for m in v.members
                    if m.id == liar.node.id
                ],
            ],
            key=lambda member: member.incarnation,
        )
        liar.say(View([msgspec.structs.replace(me, state=state)]))
        refuted = until(
            lambda: [
                member
                for member in liar.hears(View).members
                if member.id == me.id and member.incarnation > me.incarnation
            ]
        )
        assert refuted[0].state is PeerState.ALIVE


def test_the_honest_program_called_dead_goes_on(place: Place, beside: HonestJob) -> None:
    """Accusation by one voice changes nothing for those that hear the accused themselves."""
    honest = next(node for node in place.status()["nodes"] if node["role"] == "client")
    orphaned = place.counters().get("jobs-orphaned", 0)
    with place.insider(role=Role.PLAIN, workers=1) as liar:
        liar.introduce()
        accused = record(id=bytes.fromhex(honest["id"]), role=Role.CLIENT, state=PeerState.DEAD)
        liar.say(View([accused]))
        assert liar.is_answered(), "it has been heard"
        beside.goes_on()
    assert place.counters().get("jobs-orphaned", 0) == orphaned


# ---------------------------------------------------------------- row 26


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 60.0])
def test_a_node_that_stands_still_holds_up_nobody(
    fresh: Callable[..., Place], tmp_path: Path, seconds: float
) -> None:
    """A second node is stopped for a while; the job beside it goes on. What it comes back with counts once."""
    place = fresh()
    other = NodeProcess(tmp_path, "sleeper", "--seed", place.address, key=place.key_file)
    try:
        until(lambda: place.me()["sees"] == 2, "they know each other")
        with place.unharmed() as beside:
            os.kill(other.pid, signal.SIGSTOP)
            try:
                threading.Event().wait(seconds)
                beside.goes_on()
            finally:
                os.kill(other.pid, signal.SIGCONT)
            until(lambda: place.me()["sees"] == 2, "it is back")
        assert other.lives()
    finally:
        other.close()
