"""What a peer says and hears, counted by what it is about: the mesh itself, or work.

Does: adds up messages and octets by kind. Decides nothing. Octets are those of the frames, without
what ZeroMQ, encryption and TCP add.
"""

from __future__ import annotations

from stealmesh_protocol.messages import (
    Ack,
    Around,
    Beat,
    Bye,
    CallOff,
    Digests,
    Hello,
    JournalGet,
    JournalPage,
    LookAt,
    Promote,
    Refused,
    Seen,
    Status,
    StatusGet,
    View,
    Vote,
    Welcome,
)

KINDS = 256
"""A kind is one octet."""
CLASSES = {
    "control": (Hello, Welcome, Refused, Bye, Beat, View, Vote, Digests, Around, Promote),
    "acks": (Ack,),
    "looks": (StatusGet, Status, LookAt, CallOff, Seen, JournalGet, JournalPage),
}
"""The messages of an idle mesh, and of looking at it; all others are work. (An ACK answers a BEAT, or
work.)"""
_NAMED = frozenset(message.TAG for messages in CLASSES.values() for message in messages)
_TAGS = {name: tuple(message.TAG for message in messages) for name, messages in CLASSES.items()} | {
    "work": tuple(tag for tag in range(KINDS) if tag not in _NAMED)
}


class Traffic:
    __slots__ = ("heard", "heard_octets", "said", "said_octets")

    def __init__(self) -> None:
        self.said = [0] * KINDS
        self.said_octets = [0] * KINDS
        self.heard = [0] * KINDS
        self.heard_octets = [0] * KINDS

    def facts(self) -> dict[str, dict[str, int]]:
        """For `status`: class → figure → number."""
        return {
            name: {
                figure: sum(getattr(self, figure)[tag] for tag in tags)
                for figure in ("said", "said_octets", "heard", "heard_octets")
            }
            for name, tags in _TAGS.items()
        }
