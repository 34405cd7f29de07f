"""Every message comes back as it was, whatever its size, and ours are checked before they leave."""

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stealmesh_protocol import limits
from stealmesh_protocol.accounts import NO_WORD, BagAccount
from stealmesh_protocol.checks import CHECKS
from stealmesh_protocol.codec import Assembler, Decoded, decode, encode, split, write
from stealmesh_protocol.errors import LocalProtocolError
from stealmesh_protocol.field_checks import endpoint_fault
from stealmesh_protocol.journal_messages import JournalEntry
from stealmesh_protocol.messages import (
    MESSAGES,
    Abolish,
    Accepted,
    Ack,
    Around,
    Barred,
    Beat,
    Block,
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
    Finding,
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
    JobKind,
    JobLine,
    JobLoad,
    JobSpec,
    JournalGet,
    JournalPage,
    Keep,
    Kept,
    KeptUpto,
    Launch,
    Lease,
    LookAt,
    Member,
    Message,
    Nothing,
    Offer,
    Part,
    PeerState,
    Piece,
    Printed,
    PrintedGet,
    Promote,
    Pull,
    Refused,
    Reign,
    Report,
    Returned,
    Revoked,
    Role,
    Sated,
    Seek,
    Seen,
    Settled,
    Split,
    Standing,
    Status,
    StatusGet,
    Steal,
    Supply,
    Taken,
    Text,
    Topic,
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

JOB = bytes(range(20))
DIGEST = bytes(16)
SPEC = JobSpec(JOB, JobKind.SUBMIT, bytes(16), "f", DIGEST)

# ---------------------------------------------------------------- all that can be said

u64 = st.integers(0, 2**64 - 1)
index = st.integers(0, limits.INDEX_MAX)
incarnations = st.integers(0, limits.INCARNATION_MAX)
terms = st.integers(0, limits.TERM_MAX)
small = st.integers(0, 1000)
seconds = st.floats(0, 1e9)
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=12)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
peers = st.binary(min_size=16, max_size=16)
jobs = st.binary(min_size=20, max_size=20)
blobs = st.one_of(
    st.binary(max_size=40),
    st.integers(2040, 2060).map(lambda n: b"\x2a" * n),
    st.integers(2040, 40_000).map(os.urandom),
)
intervals = st.tuples(index, index).map(lambda pair: (min(pair), max(pair)))
apart = st.lists(index, max_size=5, unique=True).map(lambda cuts: list(pairwise(sorted(cuts))))
"""Intervals that do not overlap."""
endpoints = st.one_of(
    st.integers(1, 65535).map(lambda port: f"tcp://host-{port}.example:{port}"),
    st.integers(1, 65535).map(lambda port: f"tcp://[fe80::1%eth0]:{port}"),
    st.just("ipc:///tmp/a/b.sock"),
)
members = st.builds(
    Member, peers, names, names, st.sampled_from(Role), st.lists(endpoints, max_size=3), incarnations,
    st.sampled_from(PeerState), st.integers(0, 65535), small, names, st.booleans(), names,
)  # fmt: skip
leases = st.builds(lambda lid, i: Lease(lid, *i), u64, intervals)
one_item = st.builds(
    lambda lid, lo: Lease(lid, lo, lo + 1), u64, st.integers(0, limits.INDEX_MAX - 1)
)
bags = st.lists(
    st.builds(Lease, u64, st.just(0), st.integers(1, limits.STEP_ITEMS_MAX)), max_size=3
)
specs = st.builds(
    JobSpec, jobs, st.sampled_from(JobKind), peers, texts, peers, st.one_of(st.just(b""), peers),
    st.integers(-(2**63), 2**63), st.just(0), st.booleans(), st.integers(-5, 5), small, seconds,
    st.integers(1, 9), terms, index, names, st.one_of(st.just(b""), peers), index, texts, seconds,
)  # fmt: skip
loads = st.builds(
    JobLoad,
    jobs,
    st.lists(u64, max_size=5),
    st.lists(intervals, max_size=3),
)
entries = st.builds(
    lambda kind, words, about, peer, worker, items, detail: JournalEntry(
        0, 5.0, kind, words[:80], "", about, peer, worker, items[0], items[1], 1.0, 1, detail[:200]
    ),
    st.integers(0, 31), texts, jobs, peers, st.integers(-1, 9), intervals, texts,
)  # fmt: skip


def journal_page(found: list[JournalEntry]) -> st.SearchStrategy[JournalPage]:
    """Its entries follow each other."""
    told = [replace(entry, number=place) for place, entry in enumerate(found)]
    return st.builds(
        JournalPage, u64, st.just(5.0), seconds, st.just(len(told)), st.booleans(),
        st.lists(index, max_size=8), st.just(told),
    )  # fmt: skip


job_lines = st.builds(
    JobLine, jobs, st.sampled_from(JobKind), texts, names, *[small] * 7, st.booleans(), texts, seconds, seconds,
    st.lists(st.tuples(index, seconds, seconds | st.just(-1.0)), max_size=3).map(tuple), seconds, texts,
)  # fmt: skip


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    spec = draw(specs)
    cuts = sorted(draw(st.lists(index, min_size=2, max_size=6, unique=True)))
    some = [Lease(draw(u64), lo, hi) for lo, hi in pairwise(cuts)]
    if spec.kind is JobKind.EXPLORE:
        some = draw(bags)
        return Grant(spec, some, [], draw(u64), [draw(blobs) for _ in some])
    blocks = [Block(lo, hi, 1) for lo, hi in draw(apart)]
    return Grant(spec, some, blocks, draw(u64), [draw(blobs) for _ in blocks])


@st.composite
def reports(draw: st.DrawFn, kind: type[Report | InputPut] = Report) -> Report | InputPut:
    parts = [
        Part(draw(u64), lo, hi, draw(st.integers(0, 255)), draw(seconds), draw(small))
        for lo, hi in draw(st.lists(intervals, max_size=40))
    ]
    one = draw(blobs)
    return kind(draw(jobs), parts, [one for _ in parts])


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    children = draw(bags)
    said = [draw(blobs) for _ in range(2 + len(children))]
    lid, seq, items = draw(u64), draw(st.integers(1, 2**40)), draw(small)
    said[1] = b"rest" if items else b""
    return Commit(draw(jobs), lid, seq, items, children, draw(seconds), items, 0, said)


reigns = st.builds(
    Reign, terms, index, peers, st.lists(st.tuples(st.binary(max_size=32), peers), max_size=4)
)
kept = st.builds(
    lambda lo, n, codec: Kept(lo, lo + n, Part(7, lo, lo + n + 2, codec, 0.5)),
    st.integers(0, 2**60), st.integers(1, 1000), st.integers(0, 255),
)  # fmt: skip


def launch(spec: JobSpec, total: int, blob: bytes) -> Launch:
    kind = JobKind.REDUCE if spec.combine else JobKind.MAP
    count = 1 + bool(spec.combine) + bool(spec.code)
    return Launch(replace(spec, kind=kind), total, [blob] * count)


viewstamps = st.one_of(st.just(NO_WORD), st.tuples(terms, peers, index))
accounts = st.none() | st.builds(
    BagAccount, viewstamps, st.none() | viewstamps, index, st.booleans(), u64, st.booleans()
)


@st.composite
def keeps(draw: st.DrawFn) -> Keep:
    blocks = [Block(lo, hi, 1) for lo, hi in draw(apart)]
    results = draw(st.lists(kept, max_size=5))
    count = len(blocks) + len(results) + draw(st.integers(0, 3))
    one = draw(blobs)
    floor, total = draw(intervals)
    return Keep(
        draw(specs), draw(reigns), draw(index), total, draw(st.booleans()), draw(names),
        floor, blocks, results, [one] * count, draw(accounts),
    )  # fmt: skip


versions = st.tuples(st.integers(1, 255), st.integers(1, 255)).map(lambda v: (min(v), max(v)))
pieces = st.builds(
    lambda i, n: Piece(i, i + 1, [b"\x01" * n]),
    st.integers(0, limits.PIECES_MAX - 1),
    st.integers(1, limits.PIECE_OCTETS),
)
values = st.binary(min_size=24, max_size=24)
SAYINGS: dict[type[Message], st.SearchStrategy[Message]] = {
    Hello: st.builds(Hello, versions, peers, members, st.one_of(st.just(b""), peers), names, u64),
    Welcome: st.builds(
        Welcome, st.integers(1, 255), members, peers, st.lists(members, max_size=4), names, u64
    ),
    Refused: st.builds(Refused, names, texts, seconds),
    Bye: st.builds(Bye, texts),
    Beat: st.builds(
        Beat, incarnations, u64, seconds, st.lists(loads, max_size=4), st.lists(job_lines, max_size=3),
        st.lists(st.tuples(jobs, u64, index, seconds, seconds | st.just(-1.0)), max_size=3),
    ),
    Ack: st.just(Ack()),
    View: st.builds(View, st.lists(members, max_size=5)),
    Vote: st.builds(Vote, peers, incarnations, st.sampled_from(list(Finding))),
    Digests: st.builds(Digests, st.lists(u64, min_size=8, max_size=8), st.booleans()),
    Around: st.builds(
        Around,
        u64,
        small,
        st.lists(peers, max_size=3),
        st.lists(peers, max_size=6),
        st.lists(members, max_size=4),
    ),
    Promote: st.just(Promote()),
    WhoIs: st.builds(WhoIs, st.lists(peers, max_size=9)),
    Steal: st.builds(Steal, u64, small, st.booleans()),
    Nothing: st.builds(Nothing, u64, st.booleans()),
    Sated: st.just(Sated()),
    Taken: st.builds(Taken, st.integers(0, limits.INDEX_MAX)),
    Grant: grants(),
    Split: st.builds(Split, jobs, st.lists(leases, max_size=4), peers, u64),
    Report: reports(),
    Commit: commits(),
    Returned: st.builds(Returned, jobs, st.lists(leases, max_size=4)),
    Declined: st.builds(Declined, jobs, st.lists(leases, max_size=4), texts),
    Revoked: st.builds(Revoked, jobs, st.lists(u64, max_size=9)),
    Withdraw: st.builds(Withdraw, jobs, st.lists(intervals, max_size=9)),
    Closed: st.builds(Closed, jobs),
    FnGet: st.builds(FnGet, peers),
    FnPut: st.builds(FnPut, peers, st.lists(blobs, max_size=1)),
    StatusGet: st.builds(StatusGet, u64),
    Status: st.builds(Status, u64, st.lists(blobs, max_size=1)),
    CallOff: st.builds(CallOff, u64, jobs),
    LookAt: st.builds(LookAt, u64, st.sampled_from(Topic), jobs, index, st.booleans()),
    Seen: st.builds(Seen, u64, st.lists(blobs, max_size=1)),
    Piece: pieces,
    Launch: st.builds(launch, specs, index, blobs),
    Supply: apart.flatmap(
        lambda found: st.builds(
            Supply,
            jobs,
            st.just([Block(lo, hi, 1) for lo, hi in found]),
            st.booleans(),
            st.lists(blobs, min_size=len(found), max_size=len(found)),
        )
    ),
    Accepted: st.builds(Accepted, jobs, index, st.booleans(), texts),
    Abolish: st.builds(Abolish, jobs, st.booleans()),
    Seek: st.builds(Seek, jobs),
    Here: st.builds(Here, jobs, st.sampled_from(Standing), reigns, peers, u64, texts),
    Keep: keeps(),
    KeptUpto: st.builds(KeptUpto, jobs, terms, index, peers),
    Offer: st.builds(
        Offer, jobs, peers, st.lists(intervals, max_size=4), st.lists(intervals, max_size=4),
        index, st.booleans(), names, st.just(0), small, st.booleans(), accounts,
    ),
    Pull: st.builds(
        Pull, jobs, st.lists(intervals, max_size=4), st.lists(intervals, max_size=4), st.booleans()
    ),
    Barred: st.sets(st.from_regex(r"[a-z0-9][a-z._-]{0,20}@[0-9a-f]{8}", fullmatch=True), max_size=9).map(
        lambda names: Barred(sorted(names))
    ),
    Forget: st.builds(Forget, jobs, terms),
    Settled: st.builds(Settled, jobs, st.lists(intervals, max_size=9)),
    Claim: reports().flatmap(
        lambda said: st.builds(
            Claim, jobs, st.lists(leases, max_size=4), st.just(said.parts), st.just(said.blobs)
        )
    ),
    ValueSeek: st.builds(ValueSeek, values, st.lists(peers, max_size=3)),
    ValueAt: st.builds(ValueAt, values, st.integers(1, limits.INDEX_MAX), peers),
    ValueGet: st.builds(ValueGet, values, index, st.integers(1, limits.VALUE_ASK_OCTETS)),
    ValuePut: st.builds(ValuePut, values, index, st.lists(st.binary(min_size=1), max_size=1)),
    ValueHeld: st.builds(ValueHeld, values, st.booleans()),
    ValueDrop: st.builds(ValueDrop, values),
    Printed: st.lists(
        st.tuples(st.builds(lambda pair, lost: Text(pair[0], pair[1], lost), intervals, u64), st.binary()),
        max_size=4,
    ).flatmap(
        lambda said: st.builds(
            Printed,
            jobs,
            st.just([text for text, _ in said]),
            st.just([blob for _, blob in said]),
        )
    ),
    Hire: st.builds(Hire, jobs, u64),
    Hired: st.builds(Hired, jobs, u64),
    HireOver: st.builds(HireOver, jobs, u64, st.lists(one_item, max_size=1)),
    Dismiss: st.builds(Dismiss, jobs, u64),
    InputGet: st.builds(InputGet, jobs, st.lists(st.tuples(st.integers(0, limits.INDEX_MAX - 1), u64), max_size=5)),
    InputPut: reports(InputPut),
    PrintedGet: st.builds(PrintedGet, jobs, st.integers(0, limits.INDEX_MAX - 1)),
    JournalGet: st.builds(JournalGet, u64, index, st.integers(0, 255), st.integers(1, limits.JOURNAL_OCTETS_MAX)),
    JournalPage: st.lists(entries, max_size=4).flatmap(journal_page),
    Fetch: st.builds(Fetch, jobs, u64, st.booleans()),
    Fetched: keeps().flatmap(
        lambda keep: st.builds(
            Fetched, jobs, u64, job_lines, st.just(keep.results), st.booleans(),
            st.lists(intervals, max_size=4), st.just([b"?"] * len(keep.results)),
        )
    ),
}  # fmt: skip


def test_every_message_can_be_drawn_and_checked() -> None:
    assert set(SAYINGS) == set(MESSAGES.values()) == set(CHECKS)


@pytest.mark.parametrize("cls", list(SAYINGS), ids=lambda cls: cls.__name__)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seq=st.integers(1, limits.SEQ_MAX), ack=st.integers(0, limits.SEQ_MAX))
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_said_is_heard(
    cls: type[Message], data: st.DataObject, seq: int, ack: int, compress: bool
) -> None:
    message = data.draw(SAYINGS[cls])
    seq = seq if message.CUSTODY else 0
    multiparts = list(split(message, seq, ack, compress_bulk=compress))
    heard = hear_all(multiparts) if cls is not Piece else decode(multiparts[0])
    assert (heard.message, heard.seq, heard.ack) == (message, seq, ack)
    assert all(type(blob) is bytes for blob in getattr(heard.message, "blobs", []))
    for frames in multiparts:
        assert len(frames) <= 1 + limits.BUFFERS_MAX
        assert all(len(frame) <= limits.FRAME_OCTETS_MAX for frame in frames)
        buffers = sum(len(frame) for frame in frames[1:])
        assert buffers <= limits.MESSAGE_BUFFER_OCTETS


def hear_all(multiparts: list[list[bytes]]) -> Decoded:
    link = Assembler()
    *pieces, last = multiparts
    assert all(link.hear(frames) is None for frames in pieces)
    decoded = link.hear(last)
    assert decoded is not None
    assert link.held_octets == 0
    return decoded


# ---------------------------------------------------------------- sizes


def report_of(*said: bytes) -> Report:
    return Report(JOB, [Part(1, n, n + 1, 1, 0.5) for n in range(len(said))], list(said))


def test_a_small_message_is_one_frame() -> None:
    assert len(encode(report_of(os.urandom(limits.INLINE_BLOB_OCTETS)), 1)) == 1


def test_a_longer_blob_is_a_frame_of_its_own_and_not_copied() -> None:
    blob = os.urandom(limits.INLINE_BLOB_OCTETS + 1)
    frames = encode(report_of(b"x", blob, b""), 1)
    assert len(frames) == 2
    assert frames[1] is blob
    heard = decode(frames).message
    assert isinstance(heard, Report)
    assert heard.blobs[1] is blob


def test_the_sender_s_message_keeps_its_blobs() -> None:
    report = report_of(b"x", os.urandom(5000), os.urandom(2 * limits.MESSAGE_BUFFER_OCTETS))
    before = [*report.blobs]
    list(split(report, 1))
    assert report.blobs == before


@pytest.mark.parametrize(
    "sizes",
    [
        [limits.MESSAGE_BUFFER_OCTETS + 1],
        [3000] * (limits.BUFFERS_MAX + 1),
        [1000] * 100,
        [0, 5, 2 * limits.PIECE_OCTETS, 0, 4 * limits.PIECE_OCTETS, 7, 0],
        [limits.PIECE_OCTETS] * 5,
        [limits.PIECE_OCTETS - 1, 4 * limits.PIECE_OCTETS, 2, limits.PIECE_OCTETS - 2, 3],
        [300_000] * 40,
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_too_much_for_one_multipart_travels_in_pieces(
    sizes: list[int], compress: bool
) -> None:
    report = report_of(*(bytes([n % 251]) * size for n, size in enumerate(sizes)))
    written = write(report, 9, 4, compress_bulk=compress)
    assert not isinstance(written, list)
    multiparts = list(written)
    assert len(multiparts) == 1 + -(-sum(sizes) // limits.PIECE_OCTETS)
    heard = hear_all(multiparts)
    assert (heard.message, heard.seq, heard.ack) == (report, 9, 4)
    assert heard.octets == sum(len(frame) for frames in multiparts for frame in frames)
    if compress:
        assert heard.octets < sum(sizes) or sum(sizes) < limits.COMPRESS_BULK_OCTETS_MIN


def test_encode_refuses_what_needs_pieces() -> None:
    with pytest.raises(LocalProtocolError, match="pieces"):
        encode(report_of(bytes(limits.MESSAGE_BUFFER_OCTETS + 1)), 1)


def test_a_beat_may_pass_between_pieces() -> None:
    report = report_of(os.urandom(3 * limits.PIECE_OCTETS), os.urandom(2 * limits.PIECE_OCTETS))
    link = Assembler()
    heard: list[Message] = []
    for frames in split(report, 1):
        for said in (encode(Beat(1, 2), 0, 7), frames):
            decoded = link.hear(said)
            heard += [decoded.message] if decoded else []
    assert heard == [Beat(1, 2)] * 6 + [report]


def test_a_link_can_carry_one_series_after_another() -> None:
    link = Assembler()
    for number in (1, 2):
        report = report_of(os.urandom(2 * limits.MESSAGE_BUFFER_OCTETS))
        heard = [link.hear(frames) for frames in split(report, number)]
        assert heard[-1] is not None
        assert heard[-1].message == report


def test_bulk_is_packed_only_when_asked_and_when_it_pays() -> None:
    text, noise = b"stealmesh " * 10_000, os.urandom(100_000)
    assert len(encode(report_of(text), 1)[1]) == len(text)
    assert len(encode(report_of(text), 1, compress_bulk=True)[1]) < len(text) // 10
    assert encode(report_of(noise), 1, compress_bulk=True)[1] is noise
    short = b"ab" * 4000
    assert encode(report_of(short), 1, compress_bulk=True)[1] is short


def test_a_compressible_body_is_packed() -> None:
    assert len(encode(Bye("leaving " * 500))[0]) < 200
    assert len(encode(Revoked(JOB, list(range(2**40, 2**40 + 2000))), 1)[0]) < 18_000


# ---------------------------------------------------------------- our own faults


def our_faults() -> Iterator[tuple[str, Message, int, str]]:
    ours = Member(bytes(16), "me", "here", Role.PLAIN, [], 0)

    def me(**changes: object) -> View:
        fields = {name: getattr(ours, name) for name in Member.__struct_fields__}
        return View([Member(**{**fields, **changes})])

    part = Part(1, 0, 5, 1, 0.5)
    yield "custody without a number", Closed(JOB), 0, "seq"
    yield "control with a number", Ack(), 1, "seq"
    yield "number too large", Closed(JOB), 2**63, "seq"
    yield "names out of order", Barred(["b@00000000", "a@00000000"]), 1, "list"
    yield "a name twice", Barred(["a@00000000"] * 2), 1, "list"
    yield "a name without its key", Barred(["a"]), 1, "text"
    yield "no name of a token", Barred(["a b@00000000"]), 1, "text"
    yield "more names than bound", Barred([f"n{n:05}@00000000" for n in range(1025)]), 1, "list"
    yield (
        "a long proof",
        Hello((1, 1), b"", Member(JOB[:16], "x", "h", Role.CLIENT, [], 0), b"", proof=bytes(257)),
        0,
        "size",
    )
    yield "short job id", Closed(bytes(16)), 1, "id"
    yield "short digest", FnGet(b"abc"), 0, "id"
    yield "short peer id", Split(JOB, [], b"bob"), 1, "id"
    yield "reversed interval", Withdraw(JOB, [(5, 4)]), 1, "range"
    yield "negative interval", Withdraw(JOB, [(-1, 4)]), 1, "range"
    yield "interval beyond", Withdraw(JOB, [(0, 2**63)]), 1, "range"
    yield "reversed lease", Returned(JOB, [Lease(1, 5, 4)]), 1, "range"
    yield "negative lease id", Revoked(JOB, [4, -1]), 1, "range"
    yield "lease id of 65 bits", Revoked(JOB, [2**64]), 1, "schema"
    yield "not a number", Beat(0, 0, float("nan")), 0, "number"
    yield "for ever", Refused("busy", "", float("inf")), 0, "number"
    yield "negative seconds", Report(JOB, [Part(1, 0, 5, 1, -0.5)], [b""]), 1, "number"
    yield "part without a blob", Report(JOB, [part], []), 1, "blobs"
    yield "blob without a part", Report(JOB, [part], [b"", b""]), 1, "blobs"
    yield "commit without rest", Commit(JOB, 1, 1, 0, blobs=[b""]), 1, "blobs"
    yield "commit number 0", Commit(JOB, 1, 0, 0, blobs=[b"", b""]), 1, "range"
    yield "two functions", FnPut(DIGEST, [b"", b""]), 1, "list"
    yield "block without a blob", Grant(SPEC, [Lease(1, 0, 5)], [Block(0, 5, 0)]), 1, "blobs"
    overlapping = [Lease(1, 0, 5), Lease(2, 7, 9), Lease(3, 4, 7)]
    yield "overlapping leases", Grant(SPEC, overlapping), 1, "range"
    tree = JobSpec(JOB, JobKind.EXPLORE, bytes(16), "f", DIGEST)
    yield "bag without items", Grant(tree, [Lease(1, 0, 5)]), 1, "blobs"
    yield "bag with blocks", Grant(tree, [], [Block(0, 5, 0)], 0, [b""]), 1, "blobs"
    ranged = JobSpec(JOB, JobKind.MAP, bytes(16), "f", DIGEST, step=1)
    yield "range with blocks", Grant(ranged, [], [Block(0, 5, 0)], 0, [b""]), 1, "blobs"
    yield "no attempts", Grant(JobSpec(JOB, JobKind.MAP, bytes(16), "f", DIGEST, attempts_max=0), []), 1, "range"  # fmt: skip
    crossing = [Block(0, 5, 0), Block(4, 9, 0)]
    yield "overlapping blocks", Supply(JOB, crossing, blobs=[b"", b""]), 1, "range"
    blocks = [Block(n, n + 1, 0) for n in range(limits.LIST_MAX + 1)]
    yield "too many blocks", Supply(JOB, blocks, blobs=[b""] * len(blocks)), 1, "list"
    yield "resources in another order", me(resources=(("b", 1), ("a", 1))), 0, "text"
    yield "a resource twice", me(resources=(("a", 1), ("a", 1))), 0, "text"
    yield "a resource without a name", me(resources=(("", 1),)), 0, "text"
    names = tuple((f"r{n:02}", 1) for n in range(limits.RESOURCES_MAX + 1))
    yield "too many resources", me(resources=names), 0, "list"
    actor = JobSpec(JOB, JobKind.MAP, bytes(16), "f", DIGEST, step=1, life=1)
    yield "a map with a life", Grant(actor, [Lease(1, 0, 5)]), 1, "actor"
    yield "texts without blobs", Printed(JOB, [Text(0, 1)]), 1, "blobs"
    yield "long text", Printed(JOB, [Text()], [bytes(limits.TEXT_OCTETS_MAX + 1)]), 1, "size"
    many_texts = [bytes(limits.TEXT_OCTETS_MAX)] * 5
    yield "many texts", Printed(JOB, [Text()] * 5, many_texts), 1, "size"
    yield "two items of one worker", HireOver(JOB, 1, [Lease(1, 0, 1), Lease(2, 1, 2)]), 1, "range"
    yield "too many strangers", WhoIs([bytes(16)] * (limits.STRANGERS_MAX + 1)), 0, "list"
    yield "a stranger without a name", WhoIs([b""]), 0, "id"
    yield "an input below all", InputGet(JOB, [(-1, 1)]), 0, "range"
    yield "too many inputs", InputGet(JOB, [(1, 1)] * (limits.INPUTS_ASKED_MAX + 1)), 0, "list"
    yield "inputs without blobs", InputPut(JOB, [Part(1, 0, 1, 0, 0.1)]), 0, "blobs"
    call = Block(0, 1, 5, (), ((bytes(20), 0, 0),), (bytes(16),))
    yield "a maker of a durable call", Supply(JOB, [call], blobs=[b""]), 1, "list"
    yield (
        "makers of nothing",
        Supply(JOB, [Block(0, 1, 5, makers=(bytes(16),))], blobs=[b""]),
        1,
        "list",
    )
    calls = JobSpec(JOB, JobKind.SUBMIT, JOB[:16], "f", DIGEST)
    for what, makers in {
        "a maker too many": (b"", b""),
        "no peer makes it": (b"\x01",),
    }.items():
        block = Block(1, 2, 5, (), ((JOB, 0, 1),), makers)
        yield what, Grant(calls, [Lease(2, 1, 2)], [block], 0, [b""]), 1, "list"
    yield "a worker at two items", HireOver(JOB, 1, [Lease(1, 0, 2)]), 1, "range"
    yield "text of no items", Printed(JOB, [Text(2, 1)], [b""]), 1, "range"
    yield "short value id", ValueDrop(JOB), 1, "id"
    twice = Block(0, 5, 0, (bytes(24), bytes(24)))
    yield "a value needed twice", Grant(SPEC, [Lease(1, 0, 5)], [twice], 0, [b""]), 1, "list"
    many = tuple(bytes([n]) * 24 for n in range(limits.NEEDS_MAX + 1))
    needy = JobSpec(JOB, JobKind.MAP, bytes(16), "f", DIGEST, step=1, needs=many)
    yield "too many values", Grant(needy, [Lease(1, 0, 5)]), 1, "list"
    yield "a value without a source", ValueAt(bytes(24), 7), 0, "range"
    yield "a source of nothing", ValueAt(bytes(24), 0, bytes(16)), 0, "range"
    yield "no octets of a value", ValueGet(bytes(24), 0, 0), 0, "range"
    beyond = limits.VALUE_ASK_OCTETS + 1
    yield "much of a value", ValueGet(bytes(24), 0, beyond), 0, "range"
    yield "an empty piece", ValuePut(bytes(24), 0, [b""]), 1, "size"
    large = bytes(limits.VALUE_PIECE_OCTETS + 1)
    yield "a large piece", ValuePut(bytes(24), 0, [large]), 1, "size"
    yield "wildcard endpoint", me(endpoints=["tcp://0.0.0.0:7077"]), 0, "endpoint"
    yield "too many endpoints", me(endpoints=["tcp://a:1"] * 17), 0, "list"
    yield "name with an escape", me(name="\x1b[2J"), 0, "text"
    yield "name with a line end", me(host="a\nb"), 0, "text"
    yield "endless name", me(build="x" * 300), 0, "text"
    yield "endless text", Bye("x" * 5000), 0, "text"
    yield "lone surrogate", Bye("\ud800"), 0, "schema"
    yield "no number of buckets", Digests([1, 2, 3]), 0, "list"
    yield "no buckets", Digests([]), 0, "list"
    yield "a lifeline that is nobody", Around(1, 1, [], [b"x"], []), 0, "id"
    yield "crowd", View([ours] * 257), 0, "list"
    yield "too many lease ids", Revoked(JOB, [1] * (limits.LIST_MAX + 1)), 1, "list"
    crowded = [JobLoad(JOB, list(range(2**40, 2**40 + 16_000)))] * 3
    yield "body beyond its cap", Beat(0, 0, 0.0, crowded), 0, "size"
    yield "wrong type", Steal("x", 1), 0, "schema"  # type: ignore[arg-type]
    yield "more than all pieces", Status(1, [bytes(limits.MESSAGE_OCTETS_MAX + 1)]), 0, "size"
    yield "no message", Message(), 0, "kind"


FAULTS = {title: (message, seq, reason) for title, message, seq, reason in our_faults()}


@pytest.mark.parametrize("title", FAULTS)
def test_our_own_faults_are_found_before_they_leave(title: str) -> None:
    message, seq, reason = FAULTS[title]
    with pytest.raises(LocalProtocolError) as caught:
        write(message, seq)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("endpoint", "is_good"),
    [
        ("tcp://10.0.0.1:7077", True),
        ("tcp://node-1.example:1", True),
        ("tcp://[fe80::1]:65535", True),
        ("tcp://[fe80::1%eth0]:65535", True),
        ("ipc:///run/user/0/stealmesh/x", True),
        ("ipc://@abstract", True),
        ("tcp://0.0.0.0:7077", False),
        ("tcp://[::]:7077", False),
        ("tcp://*:7077", False),
        ("tcp://host:0", False),
        ("tcp://host:70000", False),
        ("tcp://host:７０", False),
        ("tcp://host", False),
        ("tcp://:80", False),
        ("tcp://a b:80", False),
        ("tcp://a:80\n", False),
        ("tcp://a;b:80", False),
        ("inproc://x", False),
        ("udp://a:1", False),
        ("ipc://", False),
        ("ipc:///a\nb", False),
        ("", False),
        ("tcp://" + "a" * 300 + ":80", False),
    ],
)
def test_endpoints(endpoint: str, is_good: bool) -> None:
    assert (endpoint_fault(endpoint) == "") is is_good
