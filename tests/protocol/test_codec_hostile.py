"""Whatever comes in, only RemoteProtocolError comes out, and memory stays within its bounds.

The cases follow the list of bad inputs that the design was made against: frame counts, headers,
LZ4 and msgpack bombs, schemas, ranges; then chance adds its own.
"""

import os
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import encode as pack

from stealmesh_protocol import limits
from stealmesh_protocol.codec import (
    ENTRY,
    HEADER,
    Assembler,
    body_octets_max,
    decode,
    encode,
    split,
)
from stealmesh_protocol.conversation import LinkState, kinds_heard
from stealmesh_protocol.errors import RemoteProtocolError, Severity
from stealmesh_protocol.messages import (
    MESSAGES,
    Ack,
    Beat,
    Bye,
    Commit,
    FnPut,
    Grant,
    Hello,
    JobKind,
    JobSpec,
    Lease,
    Member,
    Message,
    Part,
    Piece,
    Refused,
    Report,
    Role,
    Status,
    Steal,
    View,
    Withdraw,
)

JOB = bytes(20)
DIGEST = bytes(16)
REPORT = Report(JOB, [Part(1, 0, 1, 1, 0.5), Part(1, 1, 2, 1, 0.5)], [b"x", b"\x2a" * 3000])
MIB = 1024 * 1024


def first_frame(
    kind: int,
    body: bytes,
    *,
    magic: bytes = b"SM",
    major: int = 1,
    flags: int = 0,
    entries: int | None = None,
    table: bytes = b"",
    seq: int = 0,
    ack: int = 0,
    octets: int | None = None,
) -> bytes:
    count = len(table) // ENTRY.size if entries is None else entries
    size = len(body) if octets is None else octets
    return HEADER.pack(magic, major, kind, flags, count, seq, ack, size) + table + body


def packed_frame(kind: int, body: bytes, *, octets: int | None = None, seq: int = 0) -> bytes:
    block = lz4.block.compress(body, store_size=False)
    return first_frame(
        kind, block, flags=1, octets=len(body) if octets is None else octets, seq=seq
    )


def said(cls: type[Message], *fields: Any) -> bytes:
    """A first frame whose body is this array, whatever the class would say to it."""
    body = pack(list(fields))
    return first_frame(cls.TAG, body, seq=1 if cls.CUSTODY else 0)


def report_frames(**changes: Any) -> list[bytes]:
    """A good REPORT with one blob outside its body, except for what is asked for."""
    body = pack([JOB, [[1, 0, 1, 1, 0.5], [1, 1, 2, 1, 0.5]], [b"x", b""]])
    table = changes.pop("table", ENTRY.pack(1, 0, 3000))
    buffers = changes.pop("buffers", [b"\x2a" * 3000])
    return [first_frame(34, changes.pop("body", body), table=table, seq=1, **changes), *buffers]


def test_the_good_frames_of_this_file_are_good() -> None:
    assert decode(report_frames()).message == REPORT
    assert decode([said(Beat, 1, 2)]).message == Beat(1, 2)
    assert decode([packed_frame(4, pack(["leaving" * 99]))]).message == Bye("leaving" * 99)


# ---------------------------------------------------------------- cases

ACK = encode(Ack())[0]
NESTED = b"\x91" * 2000 + b"\xc0"
ID = bytes(16)
MEMBER = [ID, "n", "h", 0, [], 0]
SPEC = [JOB, 1, ID, "f", DIGEST]
RANGED = [*SPEC, b"", 0, 1]
TREE = [JOB, 3, ID, "f", DIGEST]

CASES: dict[str, tuple[list[bytes], str]] = {
    # frames and header
    "no frames": ([], "frame-count"),
    "a hundred thousand frames": ([ACK] + [b""] * 100_000, "frame-count"),
    "one frame more than said": ([ACK, b""], "frame-count"),
    "one frame less than said": (report_frames(buffers=[]), "frame-count"),
    "an empty frame": ([b""], "header"),
    "27 octets": ([ACK[:27]], "header"),
    "header without a body": ([ACK[:28]], "size"),
    "first frame too long": ([ACK + bytes(limits.FRAME_OCTETS_MAX)], "header"),
    "table cut off": ([first_frame(34, b"", entries=30, seq=1), *[b"x"] * 30], "header"),
    "HTTP": ([b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"], "magic"),
    "other magic": ([first_frame(9, b"\x90", magic=b"ZM")], "magic"),
    "other major": ([first_frame(9, b"\x90", major=2)], "major"),
    "unknown kind": ([first_frame(200, b"\x90")], "kind"),
    "kind 0": ([first_frame(0, b"\x90")], "kind"),
    "unknown flag": ([first_frame(9, b"\x90", flags=4)], "flags"),
    "body too long": ([first_frame(9, bytes(limits.SMALL_BODY_OCTETS + 1))], "size"),
    "body claims too much": ([first_frame(34, b"", octets=2**32 - 1, seq=1)], "size"),
    "body claims one more": ([first_frame(9, b"\x90", octets=2)], "size"),
    "body claims one less": ([first_frame(9, b"\x90\x90", octets=1)], "size"),
    # numbers
    "custody without a number": ([first_frame(39, b"\x91\xc4\x14" + JOB)], "seq"),
    "control with a number": ([first_frame(9, b"\x90", seq=1)], "seq"),
    "number 2**64-1": ([first_frame(39, b"\x91\xc4\x14" + JOB, seq=2**64 - 1)], "seq"),
    "acknowledgement 2**64-1": ([first_frame(9, b"\x90", ack=2**64 - 1)], "seq"),
    # table and buffers
    "buffers on a kind without blobs": (
        [first_frame(9, b"\x90", table=ENTRY.pack(0, 0, 1)), b"x"],
        "table",
    ),
    "unknown codec of a buffer": (report_frames(table=ENTRY.pack(1, 9, 3000)), "table"),
    "place that is not there": (report_frames(table=ENTRY.pack(2, 0, 3000)), "table"),
    "place that is taken": (report_frames(table=ENTRY.pack(0, 0, 3000)), "table"),
    "a place twice": (
        report_frames(table=ENTRY.pack(1, 0, 3000) * 2, buffers=[b"\x2a" * 3000] * 2),
        "table",
    ),
    "empty buffer": (report_frames(table=ENTRY.pack(1, 0, 0), buffers=[b""]), "table"),
    "buffer shorter than said": (report_frames(table=ENTRY.pack(1, 0, 3001)), "size"),
    "buffer longer than said": (report_frames(table=ENTRY.pack(1, 0, 2999)), "size"),
    "buffer of 4 GiB": (report_frames(table=ENTRY.pack(1, 0, 2**32 - 1)), "size"),
    "packed buffer of 4 GiB": (report_frames(table=ENTRY.pack(1, 1, 2**32 - 1)), "size"),
    "packed buffer that is none": (report_frames(table=ENTRY.pack(1, 1, 3000)), "lz4"),
    "buffers beyond their sum": (
        [
            first_frame(
                34, b"\x90", table=b"".join(ENTRY.pack(i, 1, 60_000) for i in range(32)), seq=1
            ),
            *[b"x" * 400] * 32,
        ],
        "size",
    ),
    "pieces without an assembler": (
        [first_frame(34, b"\x90", table=ENTRY.pack(0, 0, 9), flags=2, seq=1)],
        "pieces",
    ),
    "pieces with buffers": (report_frames(flags=2), "frame-count"),
    # lz4
    "lz4 garbage": ([first_frame(4, os.urandom(64), flags=1, octets=700)], "lz4"),
    "lz4 empty": ([first_frame(4, b"", flags=1, octets=5)], "lz4"),
    "lz4 truncated": (
        [
            first_frame(
                4, lz4.block.compress(b"a" * 900, store_size=False)[:-1], flags=1, octets=900
            )
        ],
        "lz4",
    ),
    "lz4 trailing": (
        [
            first_frame(
                4, lz4.block.compress(b"a" * 900, store_size=False) + b"x", flags=1, octets=900
            )
        ],
        "lz4",
    ),
    "lz4 one more": ([packed_frame(4, b"a" * 900, octets=901)], "lz4"),
    "lz4 one less": ([packed_frame(4, b"a" * 900, octets=899)], "lz4"),
    "lz4 beyond its ratio": (
        [first_frame(4, b"xx", flags=1, octets=limits.SMALL_BODY_OCTETS)],
        "lz4",
    ),
    "lz4 beyond the cap": ([packed_frame(4, bytes(limits.SMALL_BODY_OCTETS + 1))], "size"),
    # msgpack
    "msgpack truncated": ([first_frame(4, b"\x91\xa5abc")], "msgpack"),
    "msgpack trailing": ([first_frame(9, b"\x90\x90")], "msgpack"),
    "msgpack 0xc1": ([first_frame(9, b"\xc1")], "msgpack"),
    "msgpack nothing": ([first_frame(9, b"")], "msgpack"),
    "msgpack depth 2000": ([first_frame(9, NESTED)], "msgpack"),
    "msgpack depth 2000 in an ignored field": ([first_frame(9, b"\x91" + NESTED)], "msgpack"),
    "msgpack depth 2000 in a field": ([first_frame(8, b"\x92\x01" + NESTED)], "schema"),
    "msgpack array of 2**32-1": ([first_frame(10, b"\x91\xdd\xff\xff\xff\xff")], "msgpack"),
    "msgpack octets of 2**32-1": ([first_frame(48, b"\x91\xc6\xff\xff\xff\xff")], "msgpack"),
    "bad UTF-8": ([first_frame(4, b"\x91\xa1\xff")], "msgpack"),
    "surrogate": ([first_frame(4, b"\x91\xa3\xed\xa0\x80")], "msgpack"),
    "extension": ([first_frame(8, b"\x92\xd4\x05\x00\x00")], "schema"),
    "timestamp of 3 octets": ([first_frame(8, b"\x92\xc7\x03\xffabc\x00")], "schema"),
    "negative where u64 belongs": ([said(Beat, -1, 0)], "range"),
    "NaN": ([said(Beat, 1, 2, float("nan"))], "number"),
    "infinity": ([said(Refused, "busy", "", float("inf"))], "number"),
    "negative seconds": ([said(Beat, 1, 2, -0.5)], "number"),
    "true for 1": ([said(Beat, True, 2)], "schema"),
    "1 for true": ([said(Steal, 1, 2, 1)], "schema"),
    "float for int": ([said(Beat, 1.5, 2)], "schema"),
    "null": ([said(Beat, None, 2)], "schema"),
    # schema
    "map at the top": ([first_frame(8, pack({"incarnation": 1, "view": 2}))], "schema"),
    "int keys at the top": ([first_frame(8, pack({1: 1, 2: 2}))], "schema"),
    "string at the top": ([first_frame(8, pack("beat"))], "schema"),
    "too few fields": ([said(Beat, 1)], "schema"),
    "text for octets": ([said(FnPut, "0123456789abcdef")], "schema"),
    "octets for text": ([said(Bye, b"leaving")], "schema"),
    "unknown role": ([said(View, [[ID, "n", "h", 9, [], 0]])], "schema"),
    "unknown state": ([said(View, [[*MEMBER, 9]])], "schema"),
    "unknown kind of job": ([said(Grant, [JOB, 9, ID, "f", DIGEST], [])], "schema"),
    "three versions": ([said(Hello, [1, 1, 1], b"", MEMBER, ID)], "schema"),
    # ranges and ids
    "reversed versions": ([said(Hello, [2, 1], b"", MEMBER, ID)], "range"),
    "peer id of 15": ([said(Hello, [1, 1], b"", MEMBER, bytes(15))], "id"),
    "job id of 2000": ([said(Withdraw, bytes(2000), [])], "id"),
    "reversed interval": ([said(Withdraw, JOB, [[9, 3]])], "range"),
    "interval beyond 2**63": ([said(Withdraw, JOB, [[0, 2**64 - 1]])], "range"),
    "negative interval": ([said(Withdraw, JOB, [[-5, 3]])], "range"),
    "overlapping leases": ([said(Grant, RANGED, [[1, 0, 9], [2, 5, 12]])], "range"),
    "a part less than blobs": ([said(Report, JOB, [], [b"x"])], "blobs"),
    "a blob less than parts": ([said(Report, JOB, [[1, 0, 1, 0, 0.5]], [])], "blobs"),
    "bag without items": ([said(Grant, TREE, [[1, 0, 9]])], "blobs"),
    "range with blocks": ([said(Grant, RANGED, [[1, 0, 9]], [[0, 9, 0]], 0, [b""])], "blobs"),
    "commit without rest": ([said(Commit, JOB, 1, 1, 0)], "blobs"),
    "300 members": ([said(View, [MEMBER] * 300)], "list"),
    "17,000 intervals": ([said(Withdraw, JOB, [[0, 1]] * 17_000)], "list"),
    "two functions": ([said(FnPut, DIGEST, [b"", b""])], "list"),
    "host of 5 kB": ([said(View, [[ID, "n", "h" * 5000, 0, [], 0]])], "text"),
    "escape sequence in a name": ([said(View, [[ID, "\x1b]0;x\x07", "h", 0, [], 0]])], "text"),
    "endpoint 0.0.0.0": ([said(View, [[ID, "n", "h", 0, ["tcp://0.0.0.0:1"], 0]])], "endpoint"),
    "endpoint inproc": ([said(View, [[ID, "n", "h", 0, ["inproc://x"], 0]])], "endpoint"),
    "endpoint port 70000": ([said(View, [[ID, "n", "h", 0, ["tcp://h:70000"], 0]])], "endpoint"),
    "piece 5 of 5": ([said(Piece, 5, 5, [b"x"])], "pieces"),
    "piece of 2**40": ([said(Piece, 0, 2**40, [b"x"])], "pieces"),
    "short piece in the middle": ([said(Piece, 0, 2, [b"x"])], "pieces"),
    "empty piece": ([said(Piece, 0, 1, [b""])], "pieces"),
    "piece with two blobs": ([said(Piece, 0, 1, [b"x", b"y"])], "blobs"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_message_is_refused_for_the_right_reason(case: str) -> None:
    frames, reason = CASES[case]
    with pytest.raises(RemoteProtocolError) as caught:
        decode(frames)
    assert caught.value.reason == reason
    may_go_on = case in ("unknown kind", "kind 0", "unknown flag")
    assert caught.value.severity is (Severity.DROP if may_go_on else Severity.QUARANTINE)


@pytest.mark.parametrize("case", CASES)
def test_an_assembler_is_no_weaker(case: str) -> None:
    frames, _ = CASES[case]
    with pytest.raises(RemoteProtocolError):
        Assembler().hear(frames)


def test_what_is_numbered_cannot_be_left_out() -> None:
    for frame in (first_frame(200, b"\x90", seq=5), first_frame(39, b"", flags=4, seq=5)):
        with pytest.raises(RemoteProtocolError) as caught:
            decode([frame])
        assert caught.value.severity is Severity.QUARANTINE


def test_a_later_version_may_append_fields() -> None:
    body = [1, 2, 0.5, [], [], [], "new", {"and": [1, 2, 3]}]
    assert decode([said(Beat, *body)]).message == Beat(1, 2, 0.5)


def test_missing_fields_get_their_defaults() -> None:
    assert decode([said(Beat, 1, 2)]).message == Beat(1, 2)


def test_before_ready_only_introductions_are_opened() -> None:
    allowed = kinds_heard(LinkState.ACCEPTED)
    bomb = packed_frame(34, bytes(limits.WORK_BODY_OCTETS), seq=1)
    with pytest.raises(RemoteProtocolError, match="out of place"):
        decode([bomb], allowed)
    hello = Hello((1, 1), b"", Member(ID, "", "", Role.PLAIN, [], 0), b"")
    assert decode(encode(hello), allowed).message == hello


# ---------------------------------------------------------------- pieces


def big_report(octets: int = 3 * MIB) -> Report:
    return Report(JOB, [Part(1, 0, 1, 1, 0.5)], [os.urandom(octets)])


Wrong = Callable[[list[list[bytes]]], list[list[bytes]]]
WRONG_SERIES: dict[str, Wrong] = {
    "one missing in the middle": lambda m: [*m[:3], *m[4:]],
    "first missing": lambda m: m[1:],
    "last missing": lambda m: [*m[:-2], m[-1]],
    "two swapped": lambda m: [*m[:2], m[3], m[2], *m[4:]],
    "one twice": lambda m: [*m[:3], m[2], *m[3:]],
    "started again": lambda m: [*m[:3], *m],
    "only the message": lambda m: m[-1:],
    "the message twice": lambda m: [*m, m[-1]],
    "another count": lambda m: [m[0], encode(Piece(1, 99, [bytes(limits.PIECE_OCTETS)])), *m[2:]],
}


def hear_all(link: Assembler, multiparts: list[list[bytes]]) -> None:
    for frames in multiparts:
        link.hear(frames)


@pytest.mark.parametrize("wrong", WRONG_SERIES)
def test_a_series_that_is_not_whole_is_refused_and_let_go(wrong: str) -> None:
    link = Assembler()
    multiparts = WRONG_SERIES[wrong](list(split(big_report(), 1)))
    with pytest.raises(RemoteProtocolError, match=r"^pieces"):
        hear_all(link, multiparts)
    assert link.held_octets == 0


@pytest.mark.parametrize("change", [-1, 1])
def test_sizes_have_to_be_those_of_the_pieces(change: int) -> None:
    *pieces, (last,) = split(big_report(), 1)
    start, end = HEADER.size, HEADER.size + ENTRY.size
    place, codec, octets = ENTRY.unpack(last[start:end])
    lie = last[:start] + ENTRY.pack(place, codec, octets + change) + last[end:]
    link = Assembler()
    for frames in pieces:
        link.hear(frames)
    with pytest.raises(RemoteProtocolError, match="pieces"):
        link.hear([lie])


def test_a_link_holds_no_more_than_its_bound() -> None:
    link = Assembler(octets_max=2 * MIB)
    *fitting, too_much = list(split(big_report(), 1))[:9]
    hear_all(link, fitting)
    assert link.held_octets == 2 * MIB
    with pytest.raises(RemoteProtocolError, match=r"^size"):
        link.hear(too_much)
    assert link.held_octets == 0


def test_pieces_survive_what_is_only_dropped() -> None:
    link = Assembler()
    report = big_report()
    heard = None
    for frames in split(report, 1):
        with pytest.raises(RemoteProtocolError) as caught:
            link.hear([first_frame(200, b"\x90")])
        assert caught.value.severity is Severity.DROP
        heard = link.hear(frames)
    assert heard is not None
    assert heard.message == report


# ---------------------------------------------------------------- memory


def peak_of(frames: list[bytes]) -> int:
    decode(encode(Ack()))
    tracemalloc.start()
    try:
        decode(frames)
    except RemoteProtocolError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def filled(head: bytes, item: bytes, size: int, tail: bytes = b"") -> bytes:
    """A body of `size` octets: head, an array32 of as many items as fit, tail."""
    count = (size - len(head) - len(tail) - 5) // len(item)
    return head + b"\xdd" + struct.pack(">I", count) + item * count + tail


def bombs() -> dict[str, tuple[int, bytes]]:
    work, control = limits.WORK_BODY_OCTETS, limits.CONTROL_BODY_OCTETS
    job = b"\xc4\x14" + JOB
    lease, part = b"\x93\0\0\0", b"\x96\0\0\0\0\0\0"
    load = b"\x92\xc4\0\x90"
    return {
        "empty maps for nothing": (34, filled(b"", b"\x80", work)),
        "empty arrays in an ignored field": (9, filled(b"\x91", b"\x90", limits.SMALL_BODY_OCTETS)),
        "leases": (36, filled(b"\x92" + job, lease, work)),
        "parts": (34, filled(b"\x92" + job, part, work)),
        "empty blobs": (34, filled(b"\x93" + job + b"\x90", b"\xc4\0", work)),
        "lease ids": (37, filled(b"\x92" + job, b"\xcd\x10\0", work)),
        "loads": (8, filled(b"\x94\x01\x02\x03", load, control)),
        "members": (10, filled(b"\x91", b"\x96\xc4\0\xa0\xa0\0\x90\0", control)),
    }


@pytest.mark.parametrize("bomb", bombs())
def test_a_bomb_stays_within_its_bound(bomb: str) -> None:
    kind, body = bombs()[bomb]
    cls = MESSAGES[kind]
    frame = packed_frame(kind, body, seq=1 if cls.CUSTODY else 0)
    assert len(frame) < len(body) / 100 + 200
    assert peak_of([frame]) < 24 * MIB
    assert peak_of([frame]) < 44 * body_octets_max(cls) + 64 * 1024


def test_a_claim_costs_nothing() -> None:
    """What is refused by its size is refused before memory is spent on that size."""
    for case in ("body claims too much", "lz4 beyond its ratio", "packed buffer of 4 GiB"):
        assert peak_of(CASES[case][0]) < 16 * 1024
    for case in ("msgpack array of 2**32-1", "msgpack octets of 2**32-1"):
        assert peak_of(CASES[case][0]) < 16 * 1024


# ---------------------------------------------------------------- chance

GOOD = [
    encode(Beat(3, 7, 1.5)),
    encode(Hello((1, 1), b"fp", Member(ID, "n", "h", Role.PLAIN, ["tcp://h:1"], 0), ID)),
    encode(REPORT, 4, 2),
    encode(Report(JOB, REPORT.parts, [b"y" * 60_000, os.urandom(2100)]), 4, 2, compress_bulk=True),
    encode(Bye("leaving " * 100)),
    encode(Grant(JobSpec(JOB, JobKind.MAP, ID, "f", DIGEST, step=2), [Lease(1, 0, 9)]), 1),
    encode(Status(4, [os.urandom(1500)])),
    encode(Piece(0, 1, [b"x" * 5000]), 0),
]


@settings(max_examples=600)
@given(st.lists(st.binary(max_size=80), max_size=4))
def test_noise(frames: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(frames)


@settings(max_examples=600)
@given(
    kind=st.sampled_from(sorted(MESSAGES)),
    body=st.binary(max_size=120),
    flags=st.integers(0, 3),
    seq=st.integers(0, 2),
    octets=st.one_of(st.none(), st.integers(0, 5000)),
    table=st.binary(max_size=14),
    buffers=st.lists(st.binary(max_size=40), max_size=2),
)
def test_noise_behind_a_good_header(
    kind: int,
    body: bytes,
    flags: int,
    seq: int,
    octets: int | None,
    table: bytes,
    buffers: list[bytes],
) -> None:
    frame = first_frame(
        kind, body, flags=flags, seq=seq, octets=octets, table=table, entries=len(buffers)
    )
    accept_or_refuse([frame, *buffers])


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats())
    | st.text(max_size=8)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=30,
)


@settings(max_examples=150)
@given(st.sampled_from(sorted(MESSAGES)), st.lists(json_like, max_size=8))
def test_any_msgpack_behind_a_good_header(kind: int, fields: list[Any]) -> None:
    custody = MESSAGES[kind].CUSTODY
    accept_or_refuse([first_frame(kind, pack(fields), seq=1 if custody else 0)])


@settings(max_examples=500)
@given(data=st.data())
def test_one_changed_octet(data: st.DataObject) -> None:
    frames = list(data.draw(st.sampled_from(GOOD)))
    number = data.draw(st.integers(0, len(frames) - 1))
    frame = bytearray(frames[number])
    at = data.draw(st.integers(0, len(frame) - 1) | st.integers(0, min(60, len(frame) - 1)))
    frame[at] ^= data.draw(st.integers(1, 255))
    accept_or_refuse([*frames[:number], bytes(frame), *frames[number + 1 :]])


@settings(max_examples=400)
@given(data=st.data())
def test_frames_cut_off_swapped_or_doubled(data: st.DataObject) -> None:
    frames = list(data.draw(st.sampled_from(GOOD)))
    match data.draw(st.sampled_from(["cut", "swap", "double", "grow"])):
        case "cut":
            at = data.draw(st.integers(0, len(frames) - 1))
            frames[at] = frames[at][: data.draw(st.integers(0, len(frames[at])))]
        case "swap":
            frames.reverse()
        case "double":
            frames += frames
        case "grow":
            at = data.draw(st.integers(0, len(frames) - 1))
            frames[at] += data.draw(st.binary(min_size=1, max_size=9))
    accept_or_refuse(frames)


def accept_or_refuse(frames: list[bytes]) -> None:
    """A message that passes is one that we could have said ourselves; nothing else gets through."""
    try:
        heard = decode(frames)
    except RemoteProtocolError:
        return
    assert type(heard.message) in MESSAGES.values()
    again = list(split(heard.message, heard.seq, heard.ack))
    assert decode(again[-1]).message == heard.message if len(again) == 1 else True
