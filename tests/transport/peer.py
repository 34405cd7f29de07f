"""A process with a transport, for tests that kill or stop one: python -m tests.transport.peer.

KEY listen ENDPOINT   says where it listens, answers each message with itself
KEY record ENDPOINT   says where it listens, then prints the nonce of each STEAL that it hears
KEY dial ENDPOINT     dials, sends one STEAL with its pid as the nonce, and waits to be killed
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import sys

from tests.transport.standin import StandInCodec

from stealmesh.host.security import MeshKey
from stealmesh.transport import Transport
from stealmesh_engine.events import Event, Heard, LinkUp
from stealmesh_protocol.messages import Steal


def say(text: str) -> None:
    print(json.dumps(text), flush=True)


def main() -> None:
    faulthandler.enable()  # SIGABRT shows where we are
    key_hex, mode, endpoint = sys.argv[1:]
    key = MeshKey(bytes.fromhex(key_hex))
    transport = Transport(key, [] if mode == "dial" else [endpoint], codec=StandInCodec())
    if mode == "dial":
        transport.dial(0, endpoint)
    say(endpoint if mode == "dial" else transport.endpoints[0])
    transport.epoll.register(0, select.EPOLLIN)
    while True:
        wait = min(transport.wait_seconds(), 3600.0)
        events: list[Event] = []
        for fd, _ in transport.epoll.poll(wait):
            if fd == 0:
                return  # the process that started us is gone
            events += transport.ready(fd)
        events += transport.settle()
        for event in events:
            if isinstance(event, LinkUp):
                transport.send(event.link, Steal(os.getpid(), 1))
            elif isinstance(event, Heard) and mode == "listen":
                transport.send(event.link, event.message, event.seq, event.ack)
            elif isinstance(event, Heard) and mode == "ids":
                say(transport._links[event.link].routing_id.hex())
            elif isinstance(event, Heard) and isinstance(event.message, Steal):
                say(str(event.message.nonce))


if __name__ == "__main__":
    main()
