"""A proxy in front of every node: it delays, cuts, half-opens, resets and corrupts.

Does: listens at one loopback port for each node and hands everything on to the node's inbox, under
rules that can be changed while it runs. Decides nothing. It has a process of its own
(`python -m stealmesh_bench.chaos.proxy`), told what to do in lines of JSON, so that no node
and no program pays for it or can stop it.

Who has dialled is found out from the kernel's tables: the other end of an accepted connection
belongs to one of the processes that the proxy was told about. What user space cannot do is to
lose a SYN from one caller only: through a cut a connection opens, and then nothing is ever said.

Idea: toxiproxy (Shopify), without a server of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

LOOPBACK = "127.0.0.1"
PIECE_OCTETS = 65536
PIECES_WAITING_MAX = 64
CALLERS_IN_QUEUE = 3


@dataclass(eq=False)
class Pair:
    """One connection through the proxy: the dialler's side and the node's."""

    source: int | None
    """None: dialled by a stranger."""
    target: int
    front: asyncio.StreamWriter
    back: asyncio.StreamWriter | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    torn: bool = False
    """One side is gone and the other is not told."""

    def touches(self, nodes: set[int]) -> bool:
        return self.target in nodes or self.source in nodes

    def break_off(self) -> None:
        """Both sides are reset."""
        for task in self.tasks:
            task.cancel()
        for writer in (self.front, self.back):
            if writer is not None:
                _reset(writer)


@dataclass
class Door:
    """The port of one node."""

    node: int
    port: int
    inbox: int
    server: asyncio.Server | None = None
    deaf: list[socket.socket] = field(default_factory=list)
    """While the machine is off: a listener that is not served, and the callers that fill its queue."""


class Proxy:
    """All doors, all connections, and the rules of the moment."""

    def __init__(self) -> None:
        self.doors: dict[int, Door] = {}
        self.pids: dict[int, int] = {}
        self.pairs: set[Pair] = set()
        self.shut: dict[tuple[int, int], int] = {}
        """(from, to) → how many faults keep this direction shut."""
        self.late: dict[int, float] = {}
        self.spoilt: dict[int, int] = {}
        """Node → how many pieces on their way to it are still to be corrupted."""
        self._mended = asyncio.Condition()

    # ------------------------------------------------------------ doors

    async def door(self, node: int, inbox: int) -> int:
        """Give a node a door; returns its port."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        listener.close()
        self.doors[node] = Door(node, port, inbox)
        await self.open(node)
        return port

    async def open(self, node: int) -> None:
        """The node lives: every caller is let in."""
        door = self.doors[node]
        if door.server is None:
            door.server = await asyncio.start_server(self._caller(node), LOOPBACK, door.port)

    async def close(self, node: int) -> None:
        """The node is dead: connections to its door are refused, as its kernel would."""
        self._leave(self.doors[node])
        for pair in [pair for pair in self.pairs if pair.target == node]:
            pair.break_off()
        await asyncio.sleep(0)

    async def deafen(self, node: int) -> None:
        """The machine is off: a caller gets no answer at all. (The kernel drops calls to a
        listener with a full queue.)"""
        door = self.doors[node]
        self._leave(door)
        await asyncio.sleep(0)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, door.port))
        listener.listen(0)
        door.deaf.append(listener)
        for _ in range(CALLERS_IN_QUEUE):
            caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            caller.setblocking(False)
            caller.connect_ex((LOOPBACK, door.port))
            door.deaf.append(caller)

    def _leave(self, door: Door) -> None:
        if door.server is not None:
            door.server.close()
            door.server = None
        for each in door.deaf:
            each.close()
        door.deaf.clear()

    def know(self, node: int, pid: int) -> None:
        """This process is that node, or that program."""
        self.pids[pid] = node

    # ------------------------------------------------------------ faults

    def cut(self, nodes: list[int], others: list[int]) -> None:
        """Nothing gets from `nodes` to `others`; what was said meanwhile arrives after the mending."""
        for a in nodes:
            for b in others:
                self.shut[a, b] = self.shut.get((a, b), 0) + 1

    async def mend(self, nodes: list[int], others: list[int]) -> None:
        for a in nodes:
            for b in others:
                left = self.shut.get((a, b), 0) - 1
                if left > 0:
                    self.shut[a, b] = left
                else:
                    self.shut.pop((a, b), None)
        async with self._mended:
            self._mended.notify_all()

    def delay(self, nodes: list[int], seconds: float) -> None:
        """Delay all that these nodes say and hear by this many seconds; 0: no more delay."""
        for node in nodes:
            if seconds:
                self.late[node] = seconds
            else:
                self.late.pop(node, None)

    def reset(self, nodes: list[int]) -> None:
        """All connections from and to these nodes break, and both sides are told."""
        for pair in [pair for pair in self.pairs if pair.touches(set(nodes))]:
            pair.break_off()

    def half_open(self, nodes: list[int]) -> None:
        """The nodes' side of their connections is reset; the other side is never told."""
        for pair in [pair for pair in self.pairs if pair.touches(set(nodes))]:
            pair.torn = True
            if pair.target in nodes and pair.back is not None:
                _reset(pair.back)
            elif pair.target not in nodes:
                _reset(pair.front)

    def corrupt(self, nodes: list[int], pieces: int = 1) -> None:
        """One octet in each of the next pieces on their way to these nodes is flipped."""
        for node in nodes:
            self.spoilt[node] = self.spoilt.get(node, 0) + pieces

    # ------------------------------------------------------------ one connection

    def _caller(
        self, node: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def called(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            source = self._who(writer.get_extra_info("peername")[1], self.doors[node].port)
            pair = Pair(source, node, writer)
            self.pairs.add(pair)
            try:
                await self._serve(pair, reader)
            finally:
                self.pairs.discard(pair)

        return called

    async def _serve(self, pair: Pair, reader: asyncio.StreamReader) -> None:
        this = asyncio.current_task()
        assert this is not None
        pair.tasks.append(this)
        with contextlib.suppress(asyncio.CancelledError):  # broken off on purpose
            await self._passable(pair.source, pair.target)
            try:
                inbox = self.doors[pair.target].inbox
                answers, pair.back = await asyncio.open_connection(LOOPBACK, inbox)
            except OSError:
                _reset(pair.front)  # no node is there: answer as its kernel would
                return
            there = asyncio.create_task(
                self._carry(pair, reader, pair.back, pair.source, pair.target)
            )
            back = asyncio.create_task(
                self._carry(pair, answers, pair.front, pair.target, pair.source)
            )
            pair.tasks += [there, back]
            await asyncio.gather(there, back, return_exceptions=True)
        if not pair.torn:
            for writer in (pair.front, pair.back):
                if writer is not None:
                    writer.close()
        else:
            await self._hold(pair)

    async def _hold(self, pair: Pair) -> None:
        """Keep the untold side open until its owner gives it up."""
        for writer in (pair.front, pair.back):
            if writer is not None and not writer.is_closing():
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await writer.wait_closed()

    async def _carry(
        self,
        pair: Pair,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: int | None,
        target: int | None,
    ) -> None:
        """One direction, in order, late by what the rules say, until either side ends."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES_WAITING_MAX)
        drain = asyncio.create_task(self._drain(under_way, writer, source, target, pair))
        try:
            while data := await reader.read(PIECE_OCTETS):
                due = time.monotonic() + self._lateness(source, target)
                await under_way.put((due, data))
        except OSError:
            pass  # reset: the other side is told below
        finally:
            if pair.torn:
                drain.cancel()
            else:
                with contextlib.suppress(asyncio.CancelledError):
                    await under_way.put((0.0, b""))
                    await drain

    async def _drain(
        self,
        under_way: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        source: int | None,
        target: int | None,
        pair: Pair,
    ) -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._passable(source, target)
            if pair.torn:
                continue
            try:
                if not data:
                    writer.close()
                    return
                writer.write(self._spoil(data, target))
                await writer.drain()
            except OSError:
                return

    async def _passable(self, source: int | None, target: int | None) -> None:
        """Wait until nothing keeps this direction shut."""
        if source is None or target is None or (source, target) not in self.shut:
            return
        async with self._mended:
            await self._mended.wait_for(lambda: (source, target) not in self.shut)

    def _lateness(self, source: int | None, target: int | None) -> float:
        return max(self.late.get(n, 0.0) for n in (source, target) if n is not None)

    def _spoil(self, data: bytes, target: int | None) -> bytes:
        if target is None or not self.spoilt.get(target):
            return data
        self.spoilt[target] -= 1
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 0x40]) + data[middle + 1 :]

    def _who(self, port: int, ours: int) -> int | None:
        """Which of the processes we know has this port, connected to ours?"""
        inode = _inode(port, ours)
        if inode is None:
            return None
        wanted = f"socket:[{inode}]"
        for pid, node in reversed(self.pids.items()):
            try:
                with os.scandir(f"/proc/{pid}/fd") as descriptors:
                    for each in descriptors:
                        if os.readlink(each.path) == wanted:
                            return node
            except OSError:
                continue  # this process has ended, or a descriptor was closed while we looked
        return None


def _inode(port: int, peer_port: int) -> str | None:
    local, remote = f":{port:04X}", f":{peer_port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            words = line.split()
            if words[1].endswith(local) and words[2].endswith(remote):
                return words[9]
    return None


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the peer is sent a reset, not an end of file."""
    its_socket = writer.get_extra_info("socket")
    if its_socket is not None and not writer.is_closing():
        with contextlib.suppress(OSError):  # its peer was faster
            its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# ---------------------------------------------------------------- the process


async def serve() -> None:
    """Obey lines of JSON on standard input, answer each, end with it."""
    proxy = Proxy()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        told: dict[str, Any] = json.loads(line)
        answer = getattr(proxy, told.pop("do"))(**told)
        if asyncio.iscoroutine(answer):
            answer = await answer
        sys.stdout.write(json.dumps({"is": answer}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve())
