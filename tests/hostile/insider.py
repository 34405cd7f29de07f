"""A holder of the mesh key that speaks the protocol, as badly as it is told to. Row (b) of the attackers.

Decides nothing: it introduces itself like a node or a program, says messages and frames, and keeps what it
hears. It sends through a plain DEALER, so no check of ours stands between a test and the wire.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, TypeVar

import msgspec
import zmq
from msgspec.msgpack import encode as pack
from zmq.utils.monitor import recv_monitor_message

from stealmesh.host.identity import runtime
from stealmesh.host.security import MeshKey
from stealmesh.transport import curve_keys
from stealmesh.transport.flow import ReceiveFlow
from stealmesh_protocol import codec
from stealmesh_protocol.ids import JobId, digest_of, job_id
from stealmesh_protocol.messages import (
    Beat,
    Bye,
    Closed,
    FnGet,
    FnPut,
    Grant,
    Hello,
    JobKind,
    JobSpec,
    Lease,
    Member,
    Message,
    PeerState,
    Refused,
    Report,
    Role,
    Status,
    StatusGet,
    Taken,
    View,
    Welcome,
)

PATIENCE_SECONDS = 60.0
"""Far beyond what anything here takes: only a hang gets there."""
BEAT_SECONDS = 0.3
M = TypeVar("M", bound=Message)


class HungUp(Exception):
    """The node has ended the connection."""


def untrue(cls: type[Message], *fields: Any, seq: int = 0) -> list[bytes]:
    """A message whose body is this array, whatever its class would say to that."""
    body = pack(list(fields))
    number = seq or int(cls.CUSTODY)
    return [codec.HEADER.pack(codec.MAGIC, codec.MAJOR, cls.TAG, 0, 0, number, 0, len(body)) + body]


class Insider:
    """One connection to a node, and one process life as far as the mesh knows."""

    def __init__(
        self, endpoint: str, key: MeshKey, *, member: Member | None = None, routing_id: bytes = b"",
        proof: bytes = b"", **facts: Any,
    ) -> None:  # fmt: skip
        self.key = key
        self.mesh = key.mesh_id()
        self.proof = proof
        """That the member's id is its own; an id that does not end in the mark needs none."""
        self.member = member or Member(
            **{
                "id": os.urandom(16), "name": "insider", "host": "elsewhere", "role": Role.CLIENT,
                "endpoints": [], "incarnation": 1, "runtime": runtime(), **facts,
            }
        )  # fmt: skip
        self.node: Member | None = None
        self.heard: list[Message] = []
        self.ack = 0
        """The last of the node's custody messages that we acknowledge."""
        self.beats = False
        """Whether it gives signs of life while it listens, as an honest node that was welcomed does."""
        self._beat_at = 0.0
        self._welcomed = False
        self._seq = 0
        self._asked = 1000
        self._flow = ReceiveFlow()
        self._jobs = iter(range(1, 1 << 20))
        self._assembler = codec.Assembler()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.socket.setsockopt(zmq.ROUTING_ID, routing_id or b"\x01" + os.urandom(16))
        keys = curve_keys(key)
        self.socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
        self.socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.peer_public)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, keys.peer_secret)
        self._monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(endpoint)

    # ------------------------------------------------------------ saying

    def frames(self, frames: list[bytes]) -> None:
        self.socket.send_multipart(frames)

    def say(self, message: Message, *, seq: int | None = None, ack: int | None = None) -> int:
        """Say it as an honest peer would, under the next number; returns the number."""
        if seq is None:
            self._seq += int(message.CUSTODY)
            seq = self._seq if message.CUSTODY else 0
        for frames in codec.split(message, seq, self.ack if ack is None else ack):
            self.frames(frames)
        return seq

    def introduce(self, **changes: Any) -> Message:
        """HELLO as any peer says it, but for the changes; returns the answer to it."""
        if "to" not in changes and self.node is None:
            asked = self._hello(to=b"")
            assert isinstance(asked, Welcome), asked
            self.node = asked.sender
        answer = self._hello(**changes)
        self._welcomed = isinstance(answer, Welcome)
        self.beats = self._welcomed and self.member.role is Role.PLAIN
        return answer

    def _hello(self, **changes: Any) -> Message:
        to = b"" if self.node is None else self.node.id
        fields = {
            "versions": (1, 1), "mesh": self.mesh, "sender": self.member, "to": to,
            "runtime": runtime(), "epoch": 1, "proof": self.proof, **changes,
        }  # fmt: skip
        self.say(Hello(**fields))
        return self.hears(Welcome, Refused)

    def job(self) -> JobId:
        """The id of another job of ours."""
        return job_id(self.member.id, next(self._jobs))

    def own(self, function: bytes, **facts: Any) -> JobSpec:
        """A new job of ours over a range of numbers."""
        return JobSpec(
            **{
                "job": self.job(), "kind": JobKind.MAP, "owner": self.member.id, "name": "hostile",
                "function": digest_of(function), "step": 1, "runtime": runtime(), **facts,
            }
        )  # fmt: skip

    def run(self, function: bytes, *leases: Lease, **facts: Any) -> list[Report]:
        """Have the node run a job of ours, as an honest owner would; returns its reports."""
        spec = self.own(function, **facts)
        leases = leases or (Lease(1 << 32, 0, 1),)
        self.say(Grant(spec, list(leases)))
        return self.reports(spec.job, function, sum(each.hi - each.lo for each in leases))

    def reports(self, job: JobId, function: bytes, items: int) -> list[Report]:
        """Hand over the function if it is asked for, and wait until this many items are reported."""
        told: list[Report] = []
        while items > 0:
            message: Message = self.hears(FnGet, Report)
            if isinstance(message, FnGet):
                self.say(FnPut(message.digest, [function]))
            elif isinstance(message, Report) and message.job == job:
                told.append(message)
                items -= sum(part.hi - part.lo for part in message.parts)
        self.say(Closed(job))
        return told

    def is_answered(self) -> bool:
        """Does the node still listen to this connection? Whatever it has said by now is heard."""
        self._asked += 1
        self.say(StatusGet(self._asked))
        try:
            while True:
                answer: Message = self.hears(Status, Refused)
                if isinstance(answer, Refused):
                    return False
                if isinstance(answer, Status) and answer.nonce == self._asked:
                    return True
        except HungUp:
            return False

    # ------------------------------------------------------------ hearing

    def hears(self, *kinds: type[M]) -> M:
        """Wait for the next message of one of these kinds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        while True:
            left = deadline - time.monotonic()
            assert left > 0, f"never heard {kinds}, but {self.heard[-5:]}"
            ready = dict(poller.poll(int(min(left, BEAT_SECONDS) * 1000) + 1))
            if self.beats and time.monotonic() >= self._beat_at:
                self._beat_at = time.monotonic() + BEAT_SECONDS
                self.say(Beat(self.member.incarnation, 0))
            if self.socket in ready:
                message = self._take()
                if isinstance(message, kinds):
                    return message
            elif self._monitor in ready:
                raise HungUp

    def hangs_up(self) -> None:
        """Wait until the node has ended the connection."""
        try:
            self.hears(_Nothing)  # type: ignore[type-var]
        except HungUp:
            return

    def is_cut_off(self) -> bool:
        """Has the node ended the connection by now?"""
        return bool(self._monitor.poll(0)) and bool(recv_monitor_message(self._monitor))

    def _take(self) -> Message | None:
        frames = self.socket.recv_multipart()
        if self._flow.take(sum(map(len, frames))) and self.node is not None:
            self.say(Taken(self._flow.octets))
        decoded = self._assembler.hear(frames)
        if decoded is None:
            return None
        if decoded.seq:
            self.ack = max(self.ack, decoded.seq)
        self.heard.append(decoded.message)
        return decoded.message

    def close(self) -> None:
        if self._welcomed:  # it leaves in order, so that nobody waits for its answers
            gone = msgspec.structs.replace(
                self.member, state=PeerState.LEFT, incarnation=self.member.incarnation + 1
            )
            self.socket.setsockopt(zmq.SNDTIMEO, 0)
            with contextlib.suppress(zmq.Again):  # a connection that has ended takes nothing more
                self.say(View([gone]))
                self.say(Bye("over"))
            self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close()
        self._context.term()

    def __enter__(self) -> Insider:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Nothing:
    """A kind that no message has."""
