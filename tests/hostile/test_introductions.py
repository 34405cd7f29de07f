"""Holders of the key that introduce themselves wrongly, or number wrongly. Rows 14 to 19, 42 and 44."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import cloudpickle
import msgspec
import pytest
from tests.hostile.place import HonestJob, Place

from stealmesh.host.identity import new_life, runtime
from stealmesh_engine.base.rude import RUDE_MAX
from stealmesh_protocol.messages import (
    Ack,
    Beat,
    Bye,
    Declined,
    Grant,
    Lease,
    Message,
    Refused,
    Revoked,
    Role,
    StatusGet,
    Steal,
    View,
    Welcome,
)
from stealmesh_protocol.passes import PROVES_ITSELF

pytestmark = pytest.mark.real

# ---------------------------------------------------------------- row 14


@pytest.mark.parametrize(
    "message",
    [Ack(), Beat(1, 0), Steal(1, 1), StatusGet(1), View([]), Bye("?"), Revoked(bytes(20), [1])],
    ids=lambda message: type(message).__name__,
)
def test_who_has_not_introduced_itself_is_told_so(
    place: Place, beside: HonestJob, message: Message
) -> None:
    with place.insider() as stranger, place.counts("rude-no-session"):
        stranger.say(message)
        assert stranger.hears(Refused).code == "no-session"


def test_a_welcome_that_was_not_asked_for(place: Place, beside: HonestJob) -> None:
    with place.insider() as liar, place.counts("rude-no-session"):
        liar.say(Welcome(1, liar.member, bytes(16)))
        assert liar.hears(Refused).code == "no-session"
    with place.insider() as liar:
        liar.introduce()
        assert liar.node is not None
        with place.counts("rude-welcome-unasked", "rude-too-early", "rude-no-session"):
            liar.say(Welcome(1, liar.member, liar.node.id))


def test_a_second_hello_changes_nothing(place: Place, beside: HonestJob) -> None:
    with place.insider() as twice:
        first = twice.introduce()
        assert twice.introduce() == first
        assert twice.is_answered()


# ---------------------------------------------------------------- rows 15, 16 and 42


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mesh": b"another"}, "mesh"),
        ({"to": b"\5" * 16}, "wrong-node"),
        ({"versions": (2, 9)}, "version"),
    ],
    ids=["another mesh", "who lived here before", "only newer versions"],
)
def test_a_hello_that_is_not_for_this_node_is_refused_by_its_code(
    place: Place, beside: HonestJob, changes: dict[str, object], code: str
) -> None:
    """Row 42 is the second: what was meant for a dead process never reaches the one that has its port."""
    with place.insider() as liar, place.counts(f"refused-{code}"):
        refused = liar.introduce(**changes)
        assert isinstance(refused, Refused)
        assert refused.code == code
        place.ignores(liar)


def test_who_calls_itself_by_the_node_s_own_id_is_refused(place: Place, beside: HonestJob) -> None:
    with place.insider() as liar, place.counts("refused-self"):
        liar.introduce()
        assert liar.node is not None
        refused = liar.introduce(sender=liar.node)
        assert isinstance(refused, Refused)
        assert refused.code == "self"


def test_an_introduction_from_before_comes_too_late(place: Place, beside: HonestJob) -> None:
    with place.insider() as peer:
        peer.introduce(epoch=7)
        with place.insider(member=peer.member) as older, place.counts("introductions-too-late"):
            older.node = peer.node
            older.introduce(epoch=3)
        assert peer.is_answered()


@pytest.mark.parametrize("proof", [b"", bytes(32)], ids=["no proof", "another's"])
def test_who_takes_an_honest_peer_s_id_is_refused(
    place: Place, beside: HonestJob, proof: bytes
) -> None:
    """The id follows from a secret that only the process and those that it dials know. So it stays what it is at the
    node: before, the liar's goodbye was the end of the program's session, and what it waited for went to the liar."""
    for theirs in (beside.peer, place.me()["id"]):
        assert bytes.fromhex(theirs).endswith(PROVES_ITSELF)
    with place.insider() as liar, place.counts("refused-duplicate"):
        member = msgspec.structs.replace(liar.member, id=bytes.fromhex(beside.peer))
        refused = liar.introduce(sender=member, proof=proof)
        assert isinstance(refused, Refused)
        assert refused.code == "duplicate"
        place.ignores(liar)
        beside.goes_on()
    beside.goes_on()


def test_a_proof_lets_its_own_id_in_and_again(place: Place, beside: HonestJob) -> None:
    """As a program that has lost its link comes back."""
    life, proof = new_life()
    with (
        place.insider(id=life, proof=proof) as first,
        place.insider(member=first.member, proof=proof) as later,
    ):
        assert isinstance(first.introduce(), Welcome)
        assert isinstance(later.introduce(), Welcome)
        assert later.is_answered()


# ---------------------------------------------------------------- row 17


def test_who_runs_another_python_joins_and_is_told_of_what_it_cannot_run(
    place: Place, beside: HonestJob
) -> None:
    with place.insider(runtime="cpython-3.99") as other:
        assert isinstance(other.introduce(runtime="cpython-3.99"), Welcome)
        spec = other.own(b"function", runtime="cpython-3.99")
        other.say(Grant(spec, [Lease(1 << 32, 0, 1)]))
        declined = other.hears(Declined)
        assert "cpython-3.99" in declined.reason
        assert runtime() in declined.reason


# ---------------------------------------------------------------- rows 18 and 19


def test_a_number_too_far_ends_the_session_and_one_that_came_before_is_acknowledged_again(
    place: Place, beside: HonestJob
) -> None:
    with place.insider() as liar:
        liar.introduce()
        job = liar.job()
        with place.counts("repeats-dropped"):
            for _ in range(2):
                liar.say(Revoked(job, [1]), seq=1)
        assert liar.is_answered()
        with place.counts("custody-gaps"):
            liar.say(Revoked(job, [1]), seq=3)
        assert liar.hears(Refused).code == "gap"
        place.ignores(liar)


@pytest.mark.parametrize("ack", [1, 1 << 40, (1 << 63) - 1])
def test_an_acknowledgement_of_what_was_never_said_is_ignored(
    place: Place, beside: HonestJob, ack: int
) -> None:
    with place.insider() as liar:
        liar.introduce()
        liar.say(Ack(), ack=ack)
        assert liar.is_answered()


def test_the_same_grant_twice_runs_once(place: Place, beside: HonestJob, tmp_path: object) -> None:
    ran = f"{tmp_path}/ran"

    def trace(number: int) -> int:
        with open(ran, "a") as file:
            file.write(f"{number}\n")
        return number

    function = cloudpickle.dumps(trace)
    with place.insider() as owner:
        owner.introduce()
        spec = owner.own(function)
        grant = Grant(spec, [Lease(1 << 32, 0, 5)])
        first = owner.say(grant)
        with place.counts("repeats-dropped", times=2):
            for _ in range(2):
                owner.say(grant, seq=first)
        with place.counts("grants-refused"):
            owner.say(grant)  # the same lease under a number of its own
        owner.reports(spec.job, function, 5)
        assert owner.is_answered()
    with open(ran) as file:
        assert sorted(file.read().split()) == [*"01234"]


# ---------------------------------------------------------------- rudeness as such


def test_a_few_contradictions_end_the_session(place: Place, beside: HonestJob) -> None:
    with place.insider() as liar:
        liar.introduce()
        foreign = liar.own(b"f", owner=b"\7" * 16)
        with place.counts("rude-not-its-owner", times=RUDE_MAX), place.counts("rude-too-often"):
            for number in range(RUDE_MAX):
                liar.say(Grant(foreign, [Lease(number, 0, 1)]))
        place.ignores(liar)


# ---------------------------------------------------------------- row 44


def test_a_herd_is_let_in_at_a_rate_and_the_rest_is_told_when(
    fresh: Callable[..., Place],
) -> None:
    """100 leaves at once at a supernode that lets 20 in a second: the others hear when to ask again."""
    place = fresh("--role", "super", environment={"STEALMESH_ATTACH_A_SECOND": "20"})
    with place.unharmed(), place.counts("refused-busy", times=20), contextlib.ExitStack() as stack:
        herd = [stack.enter_context(place.insider(role=Role.PLAIN, workers=1)) for _ in range(100)]
        answers = [leaf.introduce() for leaf in herd]
        waits = [each.retry_after for each in answers if isinstance(each, Refused)]
        assert 20 <= sum(isinstance(each, Welcome) for each in answers) < 100
        assert all(wait > 0 for wait in waits)
        assert len({round(wait, 4) for wait in waits}) > len(waits) / 2, "spread out"
