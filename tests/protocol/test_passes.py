"""A pass proves what it says for one process life, and nothing else; and each role has its messages."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from stealmesh_protocol import conversation
from stealmesh_protocol.conversation import A_CLIENT_MAY_SAY, INTRODUCTIONS, Direction, LinkState
from stealmesh_protocol.key_roles import (
    LOOKING,
    MAY_HEAR,
    MAY_SAY,
    ONLY_WITH_THE_MESH_KEY,
    role_may_hear,
    role_may_say,
)
from stealmesh_protocol.limits import PROOF_OCTETS_MAX
from stealmesh_protocol.messages import MESSAGES, Barred, Keep, Launch, Steal, Vote
from stealmesh_protocol.passes import (
    PROVES_ITSELF,
    KeyRole,
    Pass,
    is_name,
    life_id,
    may_be,
    own_id,
    proof_of,
    proved,
    sealed,
)

SECRET = b"s" * 32
OURS, OTHER = ("32a89c11", SECRET), ("00000000", b"o" * 32)
TOLD = Pass(KeyRole.SUBMIT, "laptop", 2e9)
SEAL, NONCE = sealed(SECRET, TOLD), bytes(16)
PROOF, ID = proof_of(TOLD, SEAL, NONCE), life_id(SEAL, NONCE)


def test_a_pass_is_proved_for_the_life_that_holds_it() -> None:
    assert proved(PROOF, (OURS,), ID) == (TOLD, "32a89c11")
    assert proved(PROOF, (OTHER, OURS), ID) == (TOLD, "32a89c11")
    assert proved(PROOF, (OTHER,), ID) is None
    assert proved(PROOF, (), ID) is None
    assert proved(PROOF, (OURS,), bytes(16)) is None, "an id that is not its own"
    longest = proof_of(Pass(KeyRole.VIEW, "x" * 64, 9e10), SEAL, NONCE)
    assert len(longest) <= PROOF_OCTETS_MAX


def test_an_id_of_its_own_is_proved_by_the_secret_that_it_follows_from() -> None:
    own = own_id(SECRET)
    assert len(own) == len(ID)
    assert own.endswith(PROVES_ITSELF)
    assert may_be(own, SECRET)
    for wrong in (b"", SECRET[:-1], SECRET + b"s", b"o" * 32, PROOF):
        assert not may_be(own, wrong)
    assert not may_be(bytes(13) + PROVES_ITSELF, SECRET)
    assert not may_be(own_id(b"short"), b"short"), "a secret that can be guessed proves nothing"
    assert may_be(bytes(16), b""), "an id without the mark is anybody's"


@pytest.mark.parametrize(
    "told",
    [
        Pass(KeyRole.SUBMIT, "laptop", 3e9),
        Pass(KeyRole.SUBMIT, "laptop2", 2e9),
        Pass(KeyRole.VIEW, "laptop", 2e9),
    ],
    ids=["later", "another name", "another role"],
)
def test_no_other_pass_has_this_seal(told: Pass) -> None:
    assert proved(proof_of(told, SEAL, NONCE), (OURS,), ID) is None


@pytest.mark.parametrize(
    "told",
    [Pass(KeyRole.PEER, "laptop"), Pass(KeyRole.VIEW, "two words"), Pass(KeyRole.VIEW, "x", -1.0)],
)
def test_what_no_token_says_is_not_believed_even_sealed(told: Pass) -> None:
    seal = sealed(SECRET, told)
    assert proved(proof_of(told, seal, NONCE), (OURS,), life_id(seal, NONCE)) is None


def test_garbage_proves_nothing() -> None:
    for at in range(len(PROOF)):
        assert proved(PROOF[:at], (OURS,), ID) is None
        flipped = PROOF[:at] + bytes([PROOF[at] ^ 4]) + PROOF[at + 1 :]
        assert proved(flipped, (OURS,), ID) is None
    assert proved(b"", (OURS,), ID) is None
    assert proved(b"\x93" * 300, (OURS,), ID) is None
    short = msgspec.msgpack.encode([TOLD, SEAL[:1], NONCE])
    assert proved(short, (OURS,), life_id(SEAL[:1], NONCE)) is None


@pytest.mark.parametrize("text", ["", "-x", ".x", "x" * 65, "a b", "ü", "a\n"])
def test_what_is_no_name(text: str) -> None:
    assert not is_name(text)
    assert is_name("ci.2_A-b")


# ---------------------------------------------------------------- the table


def test_every_message_has_a_place_in_the_table() -> None:
    """A new message that no one has placed is ONLY_WITH_THE_MESH_KEY if a client never says it. One that clients
    say belongs into LOOKING or _SUBMITTING, or into the list here."""
    not_for_tokens = {"FnGet", "Status", "JournalPage", "Barred", "CallOff"}
    left_out = A_CLIENT_MAY_SAY & ONLY_WITH_THE_MESH_KEY
    assert {MESSAGES[kind].__name__ for kind in left_out} == not_for_tokens


def test_roles_contain_each_other() -> None:
    assert MAY_SAY[KeyRole.VIEW] < MAY_SAY[KeyRole.SUBMIT] < MAY_SAY[KeyRole.PEER]
    assert MAY_SAY[KeyRole.SUBMIT] <= A_CLIENT_MAY_SAY, "a token makes no node"
    assert MAY_SAY[KeyRole.VIEW] >= LOOKING
    for role in (KeyRole.VIEW, KeyRole.SUBMIT):
        assert not MAY_SAY[role] & {Steal.TAG, Vote.TAG, Keep.TAG, Barred.TAG}
    assert Launch.TAG not in MAY_SAY[KeyRole.VIEW]


@pytest.mark.parametrize("role", KeyRole)
@pytest.mark.parametrize("state", LinkState)
def test_the_table_narrows_the_conversation(role: KeyRole, state: LinkState) -> None:
    for kind in MESSAGES:
        said, heard = role_may_say(role, state, kind), role_may_hear(role, state, kind)
        said_by_all = kind in conversation.TABLE.get((state, Direction.SAID), frozenset())
        heard_by_all = kind in conversation.TABLE.get((state, Direction.HEARD), frozenset())
        assert said == (said_by_all and kind in MAY_SAY[role])
        assert heard == (heard_by_all and kind in MAY_HEAR[role])
        if state is not LinkState.READY and kind in INTRODUCTIONS:
            assert (said, heard) == (said_by_all, heard_by_all), "all roles introduce themselves"


def test_the_page_says_the_same() -> None:
    names = {re.sub(r"(?<!^)(?=[A-Z])", "_", c.__name__).upper(): t for t, c in MESSAGES.items()}
    page = (Path(__file__).parents[2] / "protocol/SPEC.md").read_text()
    said: set[int] = set()
    for role in ("view", "submit"):
        row = re.search(rf"^\| {role} \| (.*) \|$", page, re.MULTILINE)
        assert row is not None
        said |= {names[word] for word in re.findall(r"[A-Z]{2,}(?:_[A-Z]+)*", row[1])}
        welcome = {2}  # only a listener says it
        assert said == MAY_SAY[KeyRole[role.upper()]] - welcome
