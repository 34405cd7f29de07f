"""What a peer says that holds the key and misbehaves: messages of the right types with wrong contents.

Decides how a message that was heard becomes a lie: numbers at their bounds, ids of other things, fields of
another message, lists that are cut, doubled or turned around. A lie is a function of what was heard before and
of one number, its recipe, so a list of recipes is a whole attack, and a shorter list is a smaller one. Refuses
to know who is told (`insider`) and what is right: whatever passes `checks` may be said.

Ideas: grammar-based mutation after AFL's splicing; recipes after Hypothesis, whose examples are numbers too.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from functools import lru_cache
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from stealmesh_protocol.checks import CHECKS
from stealmesh_protocol.conversation import INTRODUCTIONS
from stealmesh_protocol.field_checks import Fault
from stealmesh_protocol.messages import (
    MESSAGES,
    Abolish,
    Ack,
    Bye,
    FnGet,
    Message,
    Piece,
    Promote,
    Sated,
    StatusGet,
    Taken,
)

HEARD_OF_A_KIND = 24
THINGS_REMEMBERED = 64
TRIES = 12
INT_MAX = (1 << 64) - 1
EDGES = (
    *(0, 1, 2, 3, 15, 16, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 1),
    *((1 << 48) - 1, 1 << 48, 1 << 62, (1 << 63) - 2, (1 << 63) - 1, 1 << 63, INT_MAX - 16, INT_MAX - 1, INT_MAX),
)  # fmt: skip
SECONDS = (0.0, 1e-9, 0.5, 1.0, 60.0, 1e6, 1e18, 1e300, 1.7e308)
DULL = (Ack, Sated, Bye, Abolish, Promote, FnGet, StatusGet)
"""Nothing in them that could be wrong, or the end of all lies."""
TALK = [
    kind
    for tag, kind in sorted(MESSAGES.items())
    if tag not in INTRODUCTIONS and kind not in (Piece, Taken)
    for _ in range(1 if kind in DULL else 4)
]
"""What reaches a core: PIECE and TAKEN are the transport's own."""


@lru_cache(maxsize=128)
def _fields(kind: type[msgspec.Struct]) -> tuple[Any, ...]:
    return msgspec.structs.fields(kind)


@lru_cache(maxsize=64)
def _talk_of(may_say: frozenset[int]) -> list[type[Message]]:
    return [kind for kind in TALK if kind.TAG in may_say]


class Overheard:
    """What was said in this world: messages of each kind, and the things that they name, by their length."""

    def __init__(self) -> None:
        self.messages: dict[type[Message], deque[Message]] = {}
        self.names: dict[int, dict[bytes, None]] = {}
        self.numbers: deque[int] = deque(maxlen=THINGS_REMEMBERED)

    def hear(self, message: Message) -> None:
        heard = self.messages.get(type(message))
        if heard is None:
            heard = self.messages[type(message)] = deque(maxlen=HEARD_OF_A_KIND)
        heard.append(message)
        self._note(message)

    def _note(self, thing: Any) -> None:
        if isinstance(thing, msgspec.Struct):
            for name in thing.__struct_fields__:
                self._note(getattr(thing, name))
        elif isinstance(thing, list | tuple):
            for each in thing[:8]:
                self._note(each)
        elif isinstance(thing, bytes):
            if 4 <= len(thing) <= 32:
                known = self.names.setdefault(len(thing), {})
                known[thing] = None
                if len(known) > THINGS_REMEMBERED:
                    del known[next(iter(known))]
        elif type(thing) is int:
            self.numbers.append(thing)


class Liar:
    """Makes lies of what was overheard."""

    def __init__(self, overheard: Overheard) -> None:
        self.overheard = overheard
        self.mine: list[bytes] = []
        """Names of our own: what a liar says of itself is believed most easily."""
        self.told: bytes = b""
        """Who hears the next lie."""

    def lie(self, rng: Random, may_say: frozenset[int]) -> Message | None:
        """A message that passes the checks of its form; None: nothing came to mind."""
        kinds = _talk_of(may_say)
        heard = self.overheard.messages
        for _ in range(TRIES):
            kind = rng.choice(kinds)
            if not heard.get(kind):
                made = self._from_nothing(kind, rng)
            else:
                made = rng.choice(heard[kind])
            if rng.random() < 0.4:
                made = self._as_mine(made)
            changes = rng.choice((0, 1, 1, 1, 2, 2, 3))
            said = self._sayable(made, changes, rng)
            if said is not None:
                return said
        return None

    def changed(self, message: Message, rng: Random) -> Message | None:
        """This message with one or two other fields, if that passes the checks."""
        for _ in range(TRIES):
            said = self._sayable(message, rng.choice((0, 1, 2)), rng)
            if said is not None:
                return said
        return None

    def _sayable(self, made: Message, changes: int, rng: Random) -> Message | None:
        """This message with changed fields, as it comes off the wire; None: it would not pass the checks."""
        kind = type(made)
        try:
            for _ in range(changes):
                made = self._struct(made, rng)
            said: Message = msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=kind)
            CHECKS[kind](said)
        except (Fault, msgspec.MsgspecError, OverflowError, ValueError, TypeError):
            return None
        return said

    def _from_nothing(self, kind: type[msgspec.Struct], rng: Random) -> Any:
        """Of a kind that was not heard yet: its fields from here and there."""
        fields = {
            field.name: self._value_of(field.type, field.name, rng)
            for field in _fields(kind)
            if field.required
        }
        return kind(**fields)

    def _value_of(self, type_: Any, name: str, rng: Random) -> Any:
        """Something of this type, if possible from a field of the same name."""
        like = self._donated(name, rng)
        if like is not None:
            return like
        if type_ is int:
            return self._int(0, rng)
        if type_ is bytes:
            return self._bytes(bytes(rng.choice((16, 20))), rng)
        if type_ is str:
            return ""
        if isinstance(type_, type) and issubclass(type_, Enum):
            return rng.choice(list(type_))
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            return self._from_nothing(type_, rng)
        return []

    def _donated(self, name: str, rng: Random) -> Any:
        givers: list[Any] = [
            heard[at]
            for kind, heard in self.overheard.messages.items()
            if name in kind.__struct_fields__
            for at in range(max(0, len(heard) - 3), len(heard))
        ]
        return getattr(rng.choice(givers), name) if givers else None

    def _as_mine(self, made: Any) -> Any:
        """The same, as if we owned or led what it is about."""
        if not self.mine:
            return made
        if hasattr(made, "spec"):
            made = replace(made, spec=replace(made.spec, owner=self.mine[0]))
        if hasattr(made, "reign"):
            made = replace(made, reign=replace(made.reign, primary=self.mine[0]))
        return made

    # ------------------------------------------------------------ changes

    def _struct(self, thing: Any, rng: Random) -> Any:
        """One field is another."""
        if not thing.__struct_fields__:
            return thing
        name = rng.choice(thing.__struct_fields__)
        value = getattr(thing, name)
        if rng.random() < 0.2:
            other = self._donated(name, rng)
            if other is not None:
                return replace(thing, **{name: other})
        return replace(thing, **{name: self._changed(value, rng)})

    def _changed(self, value: Any, rng: Random) -> Any:
        if isinstance(value, msgspec.Struct):
            return self._struct(value, rng)
        if isinstance(value, bool):
            return not value
        if isinstance(value, Enum):
            return rng.choice(list(type(value)))
        if isinstance(value, int):
            return self._int(value, rng)
        if isinstance(value, float):
            return rng.choice((*SECONDS, value * 2, value / 2))
        if isinstance(value, bytes):
            return self._bytes(value, rng)
        if isinstance(value, str):
            return rng.choice(
                ("", "x" * 200, value + value, value[1:], "idle", "rebuilt", "cancelled", "expired")
            )
        if isinstance(value, list | tuple):
            return type(value)(self._list(list(value), rng))
        return value

    def _int(self, value: int, rng: Random) -> int:
        luck = rng.random()
        if luck < 0.4:
            return rng.choice(EDGES)
        if luck < 0.7:
            return max(0, value + rng.choice((-1, 1, 2, -2, 16, 1 << 32, -(1 << 32))))
        if luck < 0.9 and self.overheard.numbers:
            return rng.choice(self.overheard.numbers)
        return rng.getrandbits(64)

    def _bytes(self, value: bytes, rng: Random) -> bytes:
        luck = rng.random()
        own = [name for name in (*self.mine, self.told) if len(name) == len(value)]
        if own and luck < 0.3:
            return rng.choice(own)
        known = list(self.overheard.names.get(len(value), ()))
        if known and luck < 0.7:
            return rng.choice(known)
        if value and luck < 0.9:
            at = rng.randrange(len(value))
            return value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :]
        return rng.choice((b"", value + value, value[: len(value) // 2], rng.randbytes(len(value))))

    def _list(self, values: list[Any], rng: Random) -> list[Any]:
        luck = rng.random()
        if not values:
            return values
        at = rng.randrange(len(values))
        if luck < 0.6:
            values[at] = self._changed(values[at], rng)
        elif luck < 0.7:
            del values[at]
        elif luck < 0.8:
            values.insert(at, values[at])
        elif luck < 0.9:
            values.reverse()
        else:
            values += values
        return values
