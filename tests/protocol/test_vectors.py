"""SPEC.md says the same as the code: test vectors both ways, limits, refusal codes.

Run as a program (``python tests/protocol/test_vectors.py``) it writes these parts of SPEC.md
anew. Do that only after changing the protocol on purpose, and read the difference.
"""

import json
import re
from pathlib import Path

import msgspec
import pytest

from stealmesh_protocol import given, limits
from stealmesh_protocol.accounts import BagAccount
from stealmesh_protocol.codec import Assembler, decode, split
from stealmesh_protocol.errors import REMEDIES
from stealmesh_protocol.journal_messages import JournalEntry, RingKind
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
from stealmesh_protocol.passes import KeyRole, Pass, life_id, own_id, proof_of, sealed

SPEC = Path(__file__).parents[2] / "protocol/SPEC.md"

ADA, BOB = bytes.fromhex("a0" * 16), bytes.fromhex("b0" * 16)
JOB = ADA + bytes.fromhex("00000007")
VALUE = ADA + bytes(7) + b"\x05"
DIGEST = bytes(range(16))
LEASE = 5 << 32
ada = Member(ADA, "ada", "h1", Role.CLIENT, [], 0, build="0.1.0")
bob = Member(
    BOB, "bob", "h2", Role.SUPER, ["tcp://10.0.0.2:7077"], 3, PeerState.ALIVE, 4, 4711,
    resources=(("GPU", 2),),
)  # fmt: skip
spec = JobSpec(
    JOB,
    JobKind.MAP,
    ADA,
    "squares",
    DIGEST,
    start=0,
    step=1,
    runtime="cpython-3.11",
    code=DIGEST,
    chunk_items=1,
    max_parallel=3,
    resources=(("GPU", 1), ("licence", 2)),
)
told = Pass(KeyRole.SUBMIT, "laptop", 1.75e9)
NONCE = bytes(range(16))
SEAL = sealed(bytes(range(32)), told)
PROOF = proof_of(told, SEAL, NONCE)
LIFE = bytes(range(32))
owner = Member(own_id(LIFE), "dan", "h4", Role.CLIENT, [], 0, build="0.1.0")
guest = Member(life_id(SEAL, NONCE), "cleo", "h3", Role.CLIENT, [], 0, build="0.1.0")
kept_spec = JobSpec(
    JOB, JobKind.MAP, BOB, "squares", DIGEST, term=17, submitter="ada@host:7", submitted=1.5e9,
    guest="laptop",
)  # fmt: skip
reign = Reign(17, 2, BOB, [(b"\x5e" * 16, BOB)])
tree = JobSpec(JOB, JobKind.EXPLORE, ADA, "tree", DIGEST, DIGEST, timeout=2.5)

PAGE = JournalPage(
    12,
    90.5,
    1.7e9,
    42,
    True,
    [3, 0, 0, 0, 0, 0, 0, 0],
    [
        JournalEntry(40, 88.25, RingKind.CHUNK, "done", "square", JOB, b"", 1, 5, 6, 88.0, 0),
        JournalEntry(
            41,
            90.0,
            RingKind.VERDICT,
            "is declared dead",
            "n3",
            b"",
            BOB,
            detail="it is silent: n1",
        ),
    ],
)
VECTORS: list[tuple[str, Message, int, int]] = [
    ("HELLO", Hello((1, 1), b"fp", ada, BOB, "cpython 3.11", 99), 0, 0),
    ("HELLO with a proof", Hello((1, 1), b"fp", owner, BOB, "cpython 3.11", 99, LIFE), 0, 0),
    ("HELLO of a token", Hello((1, 1), b"fp", guest, BOB, "cpython 3.11", 99, PROOF), 0, 0),
    ("WELCOME", Welcome(1, bob, ADA, [bob], "cpython 3.11", 98), 0, 0),
    ("REFUSED", Refused("mesh", "another mesh: check the key file", 0.5), 0, 0),
    ("BYE", Bye("leaving"), 0, 3),
    ("BEAT, nothing held", Beat(3, 2**64 - 1), 0, 3),
    (
        "BEAT",
        Beat(
            3,
            7,
            1.5,
            [JobLoad(JOB, [LEASE, LEASE + 1], [(10, 20)])],
            [
                JobLine(
                    JOB,
                    JobKind.MAP,
                    "squares",
                    "running",
                    100,
                    40,
                    1,
                    20,
                    40,
                    0,
                    0,
                    False,
                    "ada@host:7",
                    1.5e9,
                    told=((10, 1.0, 4.0),),
                    rate=2.5,
                    error="item 3: ValueError: not 3",
                ),
            ],
            [(JOB, LEASE, 10, 1.0, -1.0)],
        ),
        0,
        3,
    ),
    ("ACK", Ack(), 0, 2**63 - 1),
    ("VIEW", View([ada, bob]), 0, 0),
    ("VOTE", Vote(BOB, 3, Finding.STALLED), 0, 0),
    ("DIGESTS", Digests([0, 1, 2, 3, 2**64 - 1, 5, 6, 7], True), 0, 0),
    ("AROUND", Around(7, 1000, [BOB], [BOB], [bob]), 0, 0),
    ("PROMOTE", Promote(), 0, 0),
    ("WHO_IS", WhoIs([BOB]), 0, 0),
    ("STEAL", Steal(77, 2, True, ["GPU"]), 0, 0),
    ("NOTHING", Nothing(77, True), 0, 0),
    ("SATED", Sated(), 0, 0),
    ("GRANT of a range", Grant(spec, [Lease(LEASE, 0, 1000)], nonce=77), 1, 0),
    (
        "GRANT with a block",
        Grant(
            JobSpec(JOB, JobKind.SUBMIT, ADA, "pow", DIGEST, together=100),
            [Lease(LEASE, 4, 6)],
            [Block(4, 6, 0)],
            0,
            [b"\x92\x92\x02\x0a\x92\x02\x0b"],
        ),
        2,
        0,
    ),
    ("GRANT of a bag", Grant(tree, [Lease(LEASE, 0, 3)], [], 0, [b"\x00\x93\x01\x02\x03"]), 3, 0),
    ("SPLIT", Split(JOB, [Lease(LEASE, 500, 1000)], BOB, 77), 1, 3),
    ("REPORT", Report(JOB, [Part(LEASE, 0, 3, 0, 0.25)], [b"\x93\x00\x01\x04"]), 2, 3),
    (
        "REPORT, one blob inside the body and one outside",
        Report(
            JOB,
            [Part(LEASE, 3, 4, 0, 0.25), Part(LEASE, 4, 5, 1, 0.25, 1)],
            [b"\xc0", b"\x2a" * 2049],
        ),
        3,
        3,
    ),
    (
        "COMMIT",
        Commit(
            JOB,
            LEASE,
            1,
            2,
            [Lease(LEASE + 1, 0, 1)],
            0.5,
            40,
            0,
            [b"\0\x28", b"\0\x92\1\2", b"\0\x91\3"],
        ),
        4,
        3,
    ),
    ("RETURNED", Returned(JOB, [Lease(LEASE, 3, 500)]), 5, 3),
    ("DECLINED", Declined(JOB, [Lease(LEASE, 500, 1000)], "no module named pandas"), 9, 5),
    ("REVOKED", Revoked(JOB, [LEASE, LEASE + 1]), 4, 5),
    ("WITHDRAW", Withdraw(JOB, [(10, 20), (30, 31)]), 5, 5),
    ("WITHDRAW, running too", Withdraw(JOB, [(10, 11)], True), 6, 5),
    ("CLOSED", Closed(JOB), 6, 5),
    ("FN_GET", FnGet(DIGEST), 0, 0),
    ("FN_PUT", FnPut(DIGEST, [b"\x80\x05N."]), 7, 5),
    ("FN_PUT, not there", FnPut(DIGEST), 8, 5),
    ("STATUS_GET", StatusGet(12), 0, 0),
    ("STATUS", Status(12, [b"\x80"]), 0, 0),
    ("LOOK_AT", LookAt(13, Topic.EXPLAIN, JOB, 417), 0, 0),
    ("LOOK_AT, workers", LookAt(14, Topic.STACKS), 0, 0),
    ("CALL_OFF", CallOff(15, JOB), 0, 0),
    ("SEEN", Seen(13, [b"\x81\xa2id\xa0"]), 0, 0),
    ("TAKEN", Taken(1_048_704), 0, 6),
    ("PIECE", Piece(0, 2, [b"\x2a" * limits.PIECE_OCTETS]), 0, 6),
    (
        "REPORT in pieces",
        Report(JOB, [Part(LEASE, 5, 6, 1, 3.0)], [b"\x2a" * (limits.MESSAGE_BUFFER_OCTETS + 2)]),
        9,
        6,
    ),
    (
        "LAUNCH",
        Launch(
            JobSpec(JOB, JobKind.REDUCE, ADA, "sum of squares", DIGEST, DIGEST, 0, 2),
            1000,
            [b"\x80\x05N.", b"\x80\x05M."],
        ),
        9,
        6,
    ),
    ("SUPPLY", Supply(JOB, [Block(4, 6, 0)], True, [b"\x92\x02\x0a"]), 10, 6),
    ("ACCEPTED", Accepted(JOB, 6, True), 10, 10),
    ("ACCEPTED, refused", Accepted(JOB, 0, refusal="no room"), 11, 10),
    ("ABOLISH", Abolish(JOB), 12, 10),
    ("ABOLISH, running too", Abolish(JOB, True), 13, 10),
    ("SEEK", Seek(JOB), 0, 0),
    ("HERE", Here(JOB, Standing.LEADS, reign, BOB, 2000), 0, 0),
    (
        "KEEP",
        Keep(
            kept_spec,
            reign,
            41,
            6,
            True,
            "",
            0,
            [Block(4, 6, 0)],
            [Kept(0, 3, Part(LEASE, 0, 4, 0, 0.25))],
            [b"\x92\x02\x0a", b"\x94\x00\x01\x04\x09"],
        ),
        13,
        10,
    ),
    (
        "KEEP, step of an explore job",
        Keep(
            kept_spec,
            reign,
            42,
            9,
            True,
            "",
            0,
            [Block(6, 9, 0)],
            [Kept(0, 6, Part(LEASE, 0, 6, 0, 0.25))],
            [b"\x01\x93", b"\x01\x07"],
            BagAccount((17, BOB, 42), (17, BOB, 41), 3),
        ),
        14,
        10,
    ),
    ("KEPT_UPTO", KeptUpto(JOB, 17, 41, b"\x5e" * 16), 1, 13),
    ("OFFER", Offer(JOB, b"\x5e" * 16, [(0, 3)], [(4, 6)], 6, True, "", 0, 1), 2, 13),
    ("PULL", Pull(JOB, [(0, 3)], [(4, 6)], True), 14, 2),
    ("FORGET", Forget(JOB, 17), 15, 2),
    ("SETTLED", Settled(JOB, [(0, 3)]), 16, 2),
    (
        "CLAIM",
        Claim(JOB, [Lease(LEASE, 4, 6)], [Part(LEASE, 3, 4, 0, 0.25)], [b"\x91\x09"]),
        3,
        16,
    ),
    ("FETCH", Fetch(JOB, 3), 0, 0),
    (
        "FETCHED",
        Fetched(
            JOB,
            3,
            JobLine(
                JOB,
                JobKind.MAP,
                "squares",
                "done",
                6,
                6,
                0,
                0,
                0,
                0,
                0,
                True,
                "ada@host:7",
                1.5e9,
                1.5e9 + 60,
            ),
            [Kept(3, 4, Part(LEASE, 3, 4, 0, 0.25))],
            True,
            [],
            [b"\x91\x09"],
        ),
        0,
        0,
    ),
    ("VALUE_SEEK", ValueSeek(VALUE, [BOB]), 0, 0),
    ("VALUE_AT", ValueAt(VALUE, 500_000_000, BOB), 0, 0),
    ("VALUE_AT, gone", ValueAt(VALUE, why="it was lost 4 times"), 0, 0),
    ("VALUE_GET", ValueGet(VALUE, 262_144, limits.VALUE_ASK_OCTETS), 0, 0),
    ("VALUE_PUT", ValuePut(VALUE, 262_144, [b"\x2a" * 3]), 17, 3),
    ("VALUE_PUT, not there", ValuePut(VALUE, 0), 18, 3),
    ("JOURNAL_GET", JournalGet(12, 40, 0b11, 65536), 0, 0),
    ("JOURNAL_PAGE", PAGE, 0, 0),
    ("VALUE_HELD", ValueHeld(VALUE), 4, 18),
    ("VALUE_DROP", ValueDrop(VALUE), 19, 4),
    ("HIRE", Hire(JOB, 3), 0, 0),
    ("HIRED", Hired(JOB, 3), 6, 4),
    ("HIRE_OVER", HireOver(JOB, 3, [Lease(LEASE, 7, 8)]), 7, 4),
    ("HIRE_OVER, there is none", HireOver(JOB, 4), 8, 4),
    ("DISMISS", Dismiss(JOB, 3), 5, 6),
    ("INPUT_GET", InputGet(JOB, [(4, LEASE), (7, LEASE + 1)]), 0, 0),
    ("INPUT_PUT", InputPut(JOB, [Part(LEASE, 4, 5, 0, 0.25)], [b"\x91\x09"]), 0, 0),
    ("PRINTED", Printed(JOB, [Text(7, 8), Text(0, 0, 12_345)], [b"half done\n", b"\xff"]), 0, 0),
    ("PRINTED, an answer", Printed(JOB, [Text(7, 8)], [b"once\n"], 7), 0, 0),
    ("PRINTED_GET", PrintedGet(JOB, 7), 0, 0),
    (
        "GRANT that needs values",
        Grant(
            JobSpec(JOB, JobKind.SUBMIT, ADA, "mean", DIGEST, needs=(VALUE,)),
            [Lease(LEASE, 4, 6)],
            [Block(4, 6, 0, (VALUE,))],
            0,
            [b"\x92\x92\x02\x0a\x92\x02\x0b"],
        ),
        20,
        4,
    ),
    (
        "GRANT of an item that follows another",
        Grant(
            JobSpec(JOB, JobKind.SUBMIT, ADA, "mean", DIGEST),
            [Lease(LEASE, 6, 7)],
            [Block(6, 7, 5, (), ((JOB, 4, LEASE),))],
            0,
            [given.item_apart((0, b"\x90"), 1, {})],
        ),
        21,
        4,
    ),
    (
        "GRANT of an item that waits for another node",
        Grant(
            JobSpec(JOB, JobKind.SUBMIT, ADA, "mean", DIGEST),
            [Lease(LEASE, 6, 7)],
            [Block(6, 7, 5, (), ((JOB, 4, LEASE), (JOB, 5, LEASE + 1)), (b"", BOB))],
            0,
            [given.item_apart((0, b"\x90"), 2, {})],
        ),
        22,
        4,
    ),
    ("BARRED", Barred(["ci.2@32a89c11", "laptop@32a89c11"]), 5, 3),
    ("BYE, body packed (decode only)", Bye("leaving " * 100), 0, 3),
]


def test_every_kind_has_a_vector() -> None:
    assert {type(message) for _, message, _, _ in VECTORS} == set(MESSAGES.values())


def test_the_page_lists_every_kind_with_its_number_and_fields() -> None:
    rows = re.findall(
        r"^\| ([A-Z_]+) \| (\d+) \| (C?) ?\| (.*?) \|", SPEC.read_text(), re.MULTILINE
    )
    said = {int(tag): (name.replace("_", "").lower(), c == "C", f) for name, tag, c, f in rows}
    meant = {
        tag: (cls.__name__.lower(), cls.CUSTODY, ", ".join(cls.__struct_fields__) or "–")
        for tag, cls in MESSAGES.items()
    }
    assert said == meant


@pytest.mark.parametrize(("title", "message", "seq", "ack"), VECTORS, ids=[v[0] for v in VECTORS])
def test_the_code_makes_the_frames_on_the_page(
    title: str, message: Message, seq: int, ack: int
) -> None:
    _, written = vectors_on_the_page()[title]
    made = list(split(message, seq, ack))
    if "decode only" not in title:
        assert [[shown(frame) for frame in frames] for frames in made] == written


@pytest.mark.parametrize(("title", "message", "seq", "ack"), VECTORS, ids=[v[0] for v in VECTORS])
def test_the_code_understands_the_frames_on_the_page(
    title: str, message: Message, seq: int, ack: int
) -> None:
    fields, written = vectors_on_the_page()[title]
    link = Assembler()
    multiparts = [[octets_of(frame) for frame in frames] for frames in written]
    if len(multiparts) == 1 and not isinstance(message, Piece):
        heard = decode(multiparts[0])
    elif isinstance(message, Piece):
        heard = decode(multiparts[0])
        assert link.hear(multiparts[0]) is None
    else:
        *pieces, last = multiparts
        assert [link.hear(piece) for piece in pieces] == [None] * len(pieces)
        complete = link.hear(last)
        assert complete is not None
        heard = complete
    assert (heard.message, heard.seq, heard.ack) == (message, seq, ack)
    assert heard.octets == sum(len(frame) for frames in multiparts for frame in frames)
    assert fields == fields_of(message)


def test_the_page_has_no_other_vectors() -> None:
    assert list(vectors_on_the_page()) == [title for title, *_ in VECTORS]


@pytest.mark.parametrize("part", ["limits", "refusals"])
def test_tables_on_the_page_are_the_code_s(part: str) -> None:
    assert _part(SPEC.read_text(), part).strip() == PARTS[part]().strip()


# ---------------------------------------------------------------- how the page shows things


def shown(octets: bytes) -> str:
    """Hex, with long runs of one octet as hh*n."""
    text = []
    for run in re.finditer(rb"(?s)(.)\1{31,}|.(?:(?!(.)\2{31}).)*", octets):
        found = run[0]
        text.append(f"{found[:1].hex()}*{len(found)}" if run[1] is not None else found.hex())
    return " ".join(text)


def octets_of(text: str) -> bytes:
    parts = []
    for word in text.split():
        octet, _, times = word.partition("*")
        parts.append(bytes.fromhex(octet) * int(times or 1))
    return b"".join(parts)


def fields_of(message: Message) -> str:
    def plain(value: object) -> object:
        if isinstance(value, bytes):
            return f"x'{shown(value)}'"
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        return value

    return json.dumps(plain(msgspec.to_builtins(message, builtin_types=(bytes,))))


def vector_text(title: str, message: Message, seq: int, ack: int) -> str:
    lines = [f"{title}", f"kind {message.TAG} seq {seq} ack {ack}", f"fields {fields_of(message)}"]
    for number, frames in enumerate(split(message, seq, ack)):
        lines += [f"multipart {number}"] if number else []
        lines += [f"frame {shown(frame)}" for frame in frames]
    return "\n".join(lines)


def vectors_on_the_page() -> dict[str, tuple[str, list[list[str]]]]:
    """Title → (fields, frames of each multipart)."""
    found = {}
    text = _part(SPEC.read_text(), "vectors")
    for block in re.findall(r"```\n(.*?)\n```", text, re.DOTALL):
        title, _, fields, *rest = block.split("\n")
        multiparts: list[list[str]] = [[]]
        for line in rest:
            if line.startswith("multipart"):
                multiparts.append([])
            else:
                multiparts[-1].append(line.removeprefix("frame "))
        found[title] = (fields.removeprefix("fields "), multiparts)
    return found


def _part(page: str, part: str) -> str:
    found = re.search(rf"<!-- {part} -->\n(.*?)<!-- /{part} -->", page, re.DOTALL)
    assert found is not None
    return found[1]


def _vectors_text() -> str:
    return "\n\n".join(f"```\n{vector_text(*vector)}\n```" for vector in VECTORS)


def _limits_text() -> str:
    """The table, from the source: the sentence under a limit, or its name in words."""
    source = Path(limits.__file__).read_text()
    pattern = r'^([A-Z0-9_]+) = [^\n]+\n(?:"""(.*?)"""\n)?'
    rows = []
    for name, sentence in re.findall(pattern, source, re.MULTILINE | re.DOTALL):
        if name not in ("KIB", "MIB"):
            words = " ".join(sentence.split())
            rows.append(f"| {name} | {getattr(limits, name)} | {words} |")
    return "\n".join(rows)


def _refusals_text() -> str:
    return "\n".join(f"| `{code}` | {SENSES[code]} | {does} |" for code, does in REMEDIES.items())


SENSES = {
    "version": "no common version",
    "mesh": "another mesh key",
    "self": "you have dialled yourself",
    "wrong-node": "`to` is not who lives here",
    "no-session": "talk on a connection that is not remembered",
    "role": "your role may not do this",
    "runtime": "our Pythons do not understand each other's functions",
    "busy": "too much at the moment",
    "key": "your pass was not made with a key of this mesh, or is another's",
    "expired": "the date of your token, or of the key before this one, is past",
    "revoked": "your token counts no more",
    "limits": "more than the protocol or this peer allows",
    "shutting-down": "this peer is leaving",
    "duplicate": "your id is in use by another process",
}
PARTS = {"limits": _limits_text, "refusals": _refusals_text, "vectors": _vectors_text}


def rewrite() -> None:
    page = SPEC.read_text()
    for part, text in PARTS.items():
        old = _part(page, part)
        page = page.replace(
            f"<!-- {part} -->\n{old}<!-- /{part} -->",
            f"<!-- {part} -->\n{text()}\n<!-- /{part} -->",
        )
    SPEC.write_text(page)


if __name__ == "__main__":
    rewrite()
