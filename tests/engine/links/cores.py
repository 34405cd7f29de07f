"""One core and the introductions that a test says to it."""

from __future__ import annotations

from random import Random

from msgspec import structs
from tests.engine.wire import Host

from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import Effect, Send
from stealmesh_engine.events import Join
from stealmesh_protocol.messages import (
    Hello,
    Member,
    Message,
    Role,
)


def member(name: str, role: Role = Role.PLAIN) -> Member:
    return Member(
        name.encode().ljust(16, b"\0"), name, name, role, [f"tcp://{name}:1"], 0, workers=1
    )


def core(name: str = "me", **more: object) -> NodeCore:
    node = NodeCore(member(name), config=Config(), rng=Random(1), audit=True, **more)  # type: ignore[arg-type]
    node.step(0.0, Join([]))
    return node


def said(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def hello(
    sender: Member, to: bytes = b"", *, versions: tuple[int, int] = (1, 1), mesh: bytes = b""
) -> Hello:
    return Hello(versions, mesh, sender, to, "", 7)


def replace_epoch(introduction: Hello, epoch: int) -> Hello:
    return structs.replace(introduction, epoch=epoch)


def lines_between(a: Host, b: Host) -> list[int]:
    return [link for link, line in a.core.links.lines.items() if line.peer == b.id]
