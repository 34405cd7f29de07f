"""What may be said after what, and by whom; the page says the same."""

import re
from pathlib import Path

import pytest

from stealmesh_protocol.conversation import (
    A_CLIENT_MAY_HEAR,
    A_CLIENT_MAY_SAY,
    BETWEEN_NODES,
    INTRODUCTIONS,
    TABLE,
    TALK,
    Direction,
    LinkState,
    kinds_heard,
    may_hear,
    may_say,
)
from stealmesh_protocol.messages import (
    MESSAGES,
    Abolish,
    Accepted,
    Beat,
    Bye,
    Claim,
    Closed,
    Commit,
    Declined,
    Dismiss,
    Fetch,
    Fetched,
    Forget,
    Grant,
    Hello,
    Here,
    Hire,
    Hired,
    HireOver,
    Keep,
    KeptUpto,
    Launch,
    Message,
    Offer,
    Pull,
    Refused,
    Report,
    Returned,
    Revoked,
    Role,
    Sated,
    Seek,
    Settled,
    Split,
    Steal,
    Supply,
    Welcome,
    Withdraw,
)

SPEC = Path(__file__).parents[2] / "protocol/SPEC.md"
HELLO, WELCOME, REFUSED, BYE = Hello.TAG, Welcome.TAG, Refused.TAG, Bye.TAG


def tags(*classes: type[Message]) -> set[int]:
    return {cls.TAG for cls in classes}


def test_the_page_has_the_same_table() -> None:
    names = {**{c.__name__.upper(): {t} for t, c in MESSAGES.items()}, "talk": TALK, "–": set()}
    page = SPEC.read_text()
    for state in LinkState:
        row = re.search(rf"^\| {state.name}\b[^|]*\|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
        assert row is not None, state
        for direction, cell in zip((Direction.HEARD, Direction.SAID), row.groups(), strict=True):
            words = re.findall(r"[A-Z]{3,}|talk|–", cell)
            said = set().union(*(names[word] for word in words))
            assert said == TABLE.get((state, direction), set()), (state, direction)


def test_nothing_but_an_introduction_is_heard_before_ready() -> None:
    for state in set(LinkState) - {LinkState.READY}:
        assert kinds_heard(state) <= INTRODUCTIONS | {BYE}
    assert kinds_heard(LinkState.CONNECTING) == kinds_heard(LinkState.CLOSED) == frozenset()


def test_no_second_hello_and_no_welcome_unasked() -> None:
    assert not may_hear(LinkState.READY, HELLO)
    assert not may_hear(LinkState.READY, WELCOME)
    assert not may_hear(LinkState.ACCEPTED, WELCOME)
    assert not may_hear(LinkState.HELLO_SENT, HELLO)


def test_a_session_that_was_forgotten_can_be_refused() -> None:
    assert may_hear(LinkState.READY, REFUSED)


@pytest.mark.parametrize("speaker", Role)
@pytest.mark.parametrize("listener", Role)
def test_what_one_end_may_say_the_other_may_hear(speaker: Role, listener: Role) -> None:
    facing = {
        LinkState.CONNECTING: LinkState.ACCEPTED,
        LinkState.HELLO_SENT: LinkState.ACCEPTED,
        LinkState.ACCEPTED: LinkState.HELLO_SENT,
        LinkState.READY: LinkState.READY,
    }
    for state, other in facing.items():
        for kind in MESSAGES:
            if may_say(state, kind, speaker, listener):
                assert may_hear(other, kind, speaker, listener), (state, MESSAGES[kind])


def test_a_client_holds_no_leases() -> None:
    holders = tags(Split, Report, Commit, Returned, Declined, Hired, HireOver)
    owners = tags(Grant, Revoked, Withdraw, Closed, Hire, Dismiss)
    thieves = tags(Steal, Sated)
    assert not A_CLIENT_MAY_SAY & (holders | thieves)
    assert not A_CLIENT_MAY_HEAR & owners
    assert owners <= A_CLIENT_MAY_SAY
    assert holders | thieves <= A_CLIENT_MAY_HEAR
    assert set(MESSAGES) == A_CLIENT_MAY_SAY | A_CLIENT_MAY_HEAR | BETWEEN_NODES
    assert not BETWEEN_NODES & (A_CLIENT_MAY_SAY | A_CLIENT_MAY_HEAR)
    keepers = tags(Keep, KeptUpto, Offer, Pull, Forget, Settled, Claim)
    assert keepers <= BETWEEN_NODES


def test_a_client_launches_and_fetches_but_keeps_nothing() -> None:
    assert tags(Launch, Supply, Abolish, Seek, Fetch) <= A_CLIENT_MAY_SAY
    assert tags(Accepted, Here, Fetched) <= A_CLIENT_MAY_HEAR
    assert not tags(Launch, Supply, Abolish, Seek, Fetch) & A_CLIENT_MAY_HEAR
    assert not tags(Accepted, Here, Fetched) & A_CLIENT_MAY_SAY


def test_roles_narrow_what_may_be_heard() -> None:
    ready, client, plain = LinkState.READY, Role.CLIENT, Role.SUPER
    assert may_hear(ready, Report.TAG, plain, client)
    assert not may_hear(ready, Report.TAG, client, plain)
    assert may_hear(ready, Grant.TAG, client, plain)
    assert not may_hear(ready, Grant.TAG, plain, client)
    assert may_hear(ready, Grant.TAG, plain, plain)
    assert may_hear(ready, Beat.TAG, client, plain)


def test_unknown_kinds_are_never_in_place() -> None:
    assert not any(may_hear(state, 200) or may_say(state, 200) for state in LinkState)
