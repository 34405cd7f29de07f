"""What may be said after what, and by which peer to which: tables, not code.

Decides whether a kind of message is in its place on a link. Refuses to know what the message
contains and what to do about one that is out of place (the engine ends the link).

A link has two ends and each has a state of its own::

    who dialled   CONNECTING --says HELLO--> HELLO_SENT --hears WELCOME--> READY
                                              |      ^
                                              +------+ hears WELCOME, says HELLO: now it knows
                                                       whom it is talking to, and names it
    who listens   ACCEPTED --says WELCOME to a HELLO that names it--> READY
                    |    ^
                    +----+ says WELCOME to a HELLO without a name

    both          any --hears or says REFUSED or BYE, or the connection ends--> CLOSED

A key that is missing in the table is the error: the idea is h11's ``_state.py``. That a peer
without workers may not report work (and so on) is the second table: a role is what its HELLO
claims, so this keeps honest peers from misunderstandings and no attacker out.
"""

from __future__ import annotations

from enum import Enum, auto

from stealmesh_protocol.messages import (
    MESSAGES,
    Abolish,
    Accepted,
    Ack,
    Around,
    Barred,
    Beat,
    Bye,
    CallOff,
    Claim,
    Closed,
    Commit,
    Declined,
    Digests,
    Dismiss,
    Fetch,
    Fetched,
    FnGet,
    FnPut,
    Forget,
    Grant,
    Hello,
    Here,
    Hire,
    Hired,
    HireOver,
    InputGet,
    InputPut,
    JournalGet,
    JournalPage,
    Keep,
    KeptUpto,
    Launch,
    LookAt,
    Message,
    Nothing,
    Offer,
    Piece,
    Printed,
    PrintedGet,
    Promote,
    Pull,
    Refused,
    Report,
    Returned,
    Revoked,
    Role,
    Sated,
    Seek,
    Seen,
    Settled,
    Split,
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
    Vote,
    Welcome,
    WhoIs,
    Withdraw,
)

Kinds = frozenset[int]


class LinkState(Enum):
    CONNECTING = auto()
    """We dialled; nothing has been said."""
    HELLO_SENT = auto()
    """We dialled and introduced ourselves; no answer yet, or only to the question who is there."""
    ACCEPTED = auto()
    """Someone dialled us and has not introduced himself by name."""
    READY = auto()
    CLOSED = auto()


class Direction(Enum):
    HEARD = auto()
    SAID = auto()


def _kinds(*classes: type[Message]) -> Kinds:
    return frozenset(each.TAG for each in classes)


INTRODUCTIONS = _kinds(Hello, Welcome, Refused)
TALK: Kinds = frozenset(MESSAGES) - INTRODUCTIONS
"""Everything that is said once both sides know each other (BYE ends it)."""
ON_THE_SPOT = _kinds(Hello, StatusGet, LookAt, JournalGet)
"""Requests that are answered on their own link, or not at all: a peer that has gone while its request
lay unread has given up, and is not served. Otherwise a herd costs most when there is the least to spare."""

TABLE: dict[tuple[LinkState, Direction], Kinds] = {
    (LinkState.CONNECTING, Direction.SAID): _kinds(Hello),
    (LinkState.HELLO_SENT, Direction.SAID): _kinds(Hello, Bye),
    (LinkState.HELLO_SENT, Direction.HEARD): _kinds(Welcome, Refused, Bye),
    (LinkState.ACCEPTED, Direction.HEARD): _kinds(Hello, Bye),
    (LinkState.ACCEPTED, Direction.SAID): _kinds(Welcome, Refused, Bye),
    # A peer that no longer remembers the connection answers anything with REFUSED no-session.
    (LinkState.READY, Direction.HEARD): TALK | _kinds(Refused),
    (LinkState.READY, Direction.SAID): TALK | _kinds(Refused),
}
"""(state, direction) → kinds that are in their place; what is not in the table is not."""

_FROM_HOLDERS = _kinds(Split, Report, Commit, Returned, Declined, Printed, Hired, HireOver)
_TO_HOLDERS = _kinds(Grant, Revoked, Withdraw, Closed, Hire, Dismiss)
_THIEVES = _kinds(Steal, Sated)
_FROM_PATRONS = _kinds(Launch, Supply, Abolish, Seek, Fetch, PrintedGet)
_TO_PATRONS = _kinds(Accepted, Here, Fetched)
"""A client with durable jobs talks to their primary as any node would that has lost it."""
_BOTH_WAYS = _kinds(
    *(Bye, Beat, Ack, View, Digests, FnGet, FnPut, Nothing, StatusGet, Status, Piece, Taken),
    *(ValueSeek, ValueAt, ValueGet, ValuePut, ValueHeld, ValueDrop),
    *(LookAt, CallOff, Seen, JournalGet, JournalPage),
)

BETWEEN_NODES: Kinds = _kinds(
    *(Vote, Around, Promote, WhoIs),
    *(Keep, KeptUpto, Offer, Pull, Forget, Settled, Claim),
    *(InputGet, InputPut),
)
"""What supernodes and leaves, replicas and holders of durable jobs, and holders of items that follow each other have to
say to each other is no business of a client's."""

_TO_NODES = _kinds(Barred)
"""A client says it for the person who runs the mesh; nodes tell each other."""

A_CLIENT_MAY_SAY: Kinds = INTRODUCTIONS | _BOTH_WAYS | _TO_HOLDERS | _FROM_PATRONS | _TO_NODES
"""An owner without workers: it grants and revokes, answers thieves, hands out functions."""

A_CLIENT_MAY_HEAR: Kinds = INTRODUCTIONS | _BOTH_WAYS | _FROM_HOLDERS | _THIEVES | _TO_PATRONS
"""It holds no leases, so no peer grants it any or takes some away."""

_EVERYTHING: Kinds = frozenset(MESSAGES)


def kinds_heard(state: LinkState, speaker: Role = Role.PLAIN, listener: Role = Role.PLAIN) -> Kinds:
    """All kinds that `listener` may hear from `speaker` now; made once for each triple."""
    if state is LinkState.READY:  # of nearly all messages; the hash of an enum's member is slow
        return _HEARD_READY[speaker is Role.CLIENT][listener is Role.CLIENT]
    return _HEARD[state, speaker is Role.CLIENT, listener is Role.CLIENT]


def may_hear(
    state: LinkState, kind: int, speaker: Role = Role.PLAIN, listener: Role = Role.PLAIN
) -> bool:
    return kind in kinds_heard(state, speaker, listener)


def may_say(
    state: LinkState, kind: int, speaker: Role = Role.PLAIN, listener: Role = Role.PLAIN
) -> bool:
    allowed = TABLE.get((state, Direction.SAID), frozenset())
    return kind in allowed & _between(speaker is Role.CLIENT, listener is Role.CLIENT)


def _between(client_speaks: bool, client_listens: bool) -> Kinds:
    said = A_CLIENT_MAY_SAY if client_speaks else _EVERYTHING
    return said & (A_CLIENT_MAY_HEAR if client_listens else _EVERYTHING)


_HEARD: dict[tuple[LinkState, bool, bool], Kinds] = {
    (state, speaks, listens): (
        TABLE.get((state, Direction.HEARD), frozenset()) & _between(speaks, listens)
    )
    for state in LinkState
    for speaks in (False, True)
    for listens in (False, True)
}

_HEARD_READY = tuple(
    tuple(_HEARD[LinkState.READY, speaks, listens] for listens in (False, True))
    for speaks in (False, True)
)
