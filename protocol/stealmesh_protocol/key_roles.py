"""Which messages the holder of a token may say and hear: one table, by the role of its key.

Decides whether a kind of message is for this role at all; conversation.py says when it is in its place. Refuses to
know which jobs and values are the speaker's (the engine's links/guests.py looks at that), and whether its pass
still counts.

A new message has its place here, or a test fails: read-only requests in LOOKING, and their answers in LOOKED_AT;
what submits, or answers for one's own jobs, in _SUBMITTING; everything else is ONLY_WITH_THE_MESH_KEY.
"""

from __future__ import annotations

from stealmesh_protocol.conversation import (
    A_CLIENT_MAY_HEAR,
    INTRODUCTIONS,
    TABLE,
    Direction,
    Kinds,
    LinkState,
)
from stealmesh_protocol.messages import (
    MESSAGES,
    Abolish,
    Ack,
    Beat,
    Bye,
    CallOff,
    Closed,
    Digests,
    Dismiss,
    Fetch,
    FnPut,
    Grant,
    Hire,
    JournalGet,
    JournalPage,
    Launch,
    LookAt,
    Message,
    Nothing,
    Piece,
    PrintedGet,
    Refused,
    Revoked,
    Sated,
    Seek,
    Seen,
    Status,
    StatusGet,
    Steal,
    Supply,
    Taken,
    ValueAt,
    ValueDrop,
    ValueGet,
    ValueHeld,
    ValuePut,
    ValueSeek,
    View,
    Withdraw,
)
from stealmesh_protocol.passes import KeyRole


def _kinds(*classes: type[Message]) -> Kinds:
    return frozenset(each.TAG for each in classes)


LOOKING = _kinds(StatusGet, LookAt, JournalGet)
"""Requests that change nothing, and whose answers hold no results, values or functions. New ones go here."""

LOOKED_AT = _kinds(Status, Seen, JournalPage)
"""Their answers."""

_LIVING = INTRODUCTIONS | _kinds(Bye, Beat, Ack, View, Digests, Nothing, Taken)
"""What every client says, no matter what for: of its VIEWs only its own record is heard."""

_SUBMITTING = _kinds(
    *(Grant, Revoked, Withdraw, Closed, FnPut, Piece, Hire, Dismiss),
    *(Launch, Supply, Abolish, Seek, Fetch, PrintedGet, Seen),
    *(ValueSeek, ValueAt, ValueGet, ValuePut, ValueHeld, ValueDrop),
)
"""To own jobs and values, to say how one's own jobs stand, and to give durable jobs to the mesh."""

_EVERYTHING: Kinds = frozenset(MESSAGES)

MAY_SAY: dict[KeyRole, Kinds] = {
    KeyRole.PEER: _EVERYTHING,
    KeyRole.SUBMIT: _LIVING | LOOKING | _SUBMITTING,
    KeyRole.VIEW: _LIVING | LOOKING,
}

MAY_HEAR: dict[KeyRole, Kinds] = {
    KeyRole.PEER: _EVERYTHING,
    KeyRole.SUBMIT: A_CLIENT_MAY_HEAR - LOOKING | _kinds(LookAt, CallOff),
    KeyRole.VIEW: _LIVING | LOOKED_AT | _kinds(Piece, Steal, Sated),
}

ONLY_WITH_THE_MESH_KEY: Kinds = _EVERYTHING - MAY_SAY[KeyRole.SUBMIT]


def role_may_say(role: KeyRole, state: LinkState, kind: int) -> bool:
    """May a peer with such a key say this on a link whose own end is in this state?"""
    return kind in MAY_SAY[role] & TABLE.get((state, Direction.SAID), frozenset())


def role_may_hear(role: KeyRole, state: LinkState, kind: int) -> bool:
    """May it be told this?"""
    return kind in MAY_HEAR[role] & TABLE.get((state, Direction.HEARD), frozenset())


assert MAY_SAY[KeyRole.VIEW] <= MAY_SAY[KeyRole.SUBMIT]
assert Refused.TAG in MAY_HEAR[KeyRole.VIEW], "a role that is refused is told why"
