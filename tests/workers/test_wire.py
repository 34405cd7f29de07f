from __future__ import annotations

import select
import socket
import threading
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stealmesh.workers import wire
from stealmesh.workers.wire import FrameKind, FrameReader, FrameWriter, StreamEnded
from stealmesh_protocol.messages import JobKind

LARGE = 3 * wire.READ_OCTETS


def test_job_kinds_are_those_of_the_messages() -> None:
    assert tuple(JobKind) == (wire.SUBMIT, wire.MAP, wire.REDUCE, wire.EXPLORE)


@given(
    st.lists(st.binary(max_size=200) | st.just(b"x" * LARGE), min_size=1, max_size=8),
    st.lists(st.sampled_from([1, 4, 5, 6, 90, 205, 65_536, 200_000]), max_size=20),
)
def test_frames_arrive_whole_however_the_bytes_are_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(piece for payload in payloads for piece in wire.frame(FrameKind.PUT, payload))
    near, far = wire.streams()
    got: list[bytes] = []
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        reader = FrameReader(far)
        at = 0
        for cut in cycle([*cuts, wire.READ_OCTETS]):
            if at == len(data):
                break
            at += near.send(data[at : at + cut])
            try:
                while True:
                    got += [bytes(payload) for _, payload in reader.read()]
            except BlockingIOError:
                pass
    assert got == payloads


def test_the_writer_sends_everything_in_order_through_a_narrow_socket() -> None:
    near, far = wire.streams()
    payloads = [bytes([n]) * size for n, size in enumerate((1, 0, LARGE, 5, LARGE, 70_000))]
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.setblocking(False)
        writer, reader = FrameWriter(near), FrameReader(far)
        for payload in payloads:
            writer.put(FrameKind.PUT, payload[:3], payload[3:])
        got: list[bytes] = []
        while len(got) < len(payloads):
            writer.flush()
            got += [bytes(payload) for _, payload in reader.read()]
        assert got == payloads
        assert writer.frames == len(payloads)
        assert not writer.is_waiting


def test_a_writer_nobody_reads_from_says_so() -> None:
    near, far = wire.streams()
    with near:
        near.setblocking(False)
        writer = FrameWriter(near)
        far.close()
        writer.put(FrameKind.PUT, b"x" * LARGE)
        with pytest.raises(StreamEnded):
            writer.flush()
        assert not writer.is_waiting


def test_a_reader_tells_the_end_in_the_middle_of_a_large_frame() -> None:
    near, far = wire.streams()
    with far:
        reader = FrameReader(far)
        with near:
            near.sendall(wire.HEAD.pack(LARGE, FrameKind.RESULT) + b"part")
            assert reader.read() == []
        with pytest.raises(StreamEnded):
            reader.read()


def test_garbage_reserves_no_memory() -> None:
    near, far = wire.streams()
    with near, far:
        near.sendall(wire.HEAD.pack(wire.FRAME_OCTETS_MAX, 255))
        with pytest.raises(ValueError, match="255"):
            FrameReader(far).read()


def test_two_readers_of_one_packet_queue_get_each_packet_once() -> None:
    """What retracting relies on: the kernel gives an order to the worker or back to the node."""
    sender, receiver = wire.packets()
    got: list[list[bytes]] = [[], []]

    def read(mine: list[bytes]) -> None:
        while packet := receiver.recv(100):
            mine.append(packet)

    readers = [threading.Thread(target=read, args=(mine,)) for mine in got]
    with receiver:
        for reader in readers:
            reader.start()
        with sender:
            for number in range(2000):
                while not select.select([], [sender], [], 10)[1]:
                    pass
                sender.send(str(number).encode())
        for reader in readers:
            reader.join()
    assert sorted(map(int, got[0] + got[1])) == list(range(2000))
