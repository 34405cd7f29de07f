"""The mesh key as a secret, as a file and as a token: what is believed and what is not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from stealmesh.host.security import JoinToken, KeyRefused, MeshKey, TokenRefused, default_key_path
from stealmesh.transport import curve_keys

KEY = MeshKey(bytes(range(32)))
SEEDS = ("tcp://10.0.0.5:7077", "tcp://[2001:db8::1]:7077")


def test_what_is_derived_never_changes() -> None:
    """Peers of different versions must come to the same secrets (RFC 5869 over our fixed salt)."""
    assert KEY.derive("server").hex() == (
        "b537c15ea68a3bfc79309bc5a57c204aa2508fd27653164c543c6c98d22c3e8c"
    )
    assert KEY.fingerprint() == "32a89c11"
    assert KEY.derive("server", 16) == KEY.derive("server")[:16]
    assert KEY.derive("server", 40)[:32] == KEY.derive("server")


def test_hkdf_is_that_of_rfc_5869(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test case 3 of the RFC has a key of 22 octets; only its length is unlike ours."""
    key = object.__new__(MeshKey)
    object.__setattr__(key, "secret", b"\x0b" * 22)
    monkeypatch.setattr("stealmesh.host.security._SALT", b"")
    assert key.derive("", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_labels_give_unrelated_secrets() -> None:
    keys = curve_keys(KEY)
    assert len({*keys}) == 4
    assert all(len(part) == 40 for part in keys)
    assert curve_keys(KEY) == keys
    assert not set(curve_keys(MeshKey(b"x" * 32))) & set(keys)


def test_a_key_does_not_show_itself() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in repr(JoinToken(KEY))


@pytest.mark.parametrize("octets", [0, 31, 33])
def test_a_key_of_another_length_is_refused(octets: int) -> None:
    with pytest.raises(KeyRefused, match="32 octets"):
        MeshKey(bytes(octets))


# ---------------------------------------------------------------- files


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "config" / "stealmesh" / "mesh.key"
    KEY.save(path)
    assert MeshKey.load(path) == KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(KeyRefused, match="exists already"):
        MeshKey.generate().save(path)
    assert MeshKey.load(path) == KEY
    other = MeshKey.generate()
    other.save(path, replace=True)
    assert MeshKey.load(path) == other
    assert os.listdir(path.parent) == ["mesh.key"], "no draft is left behind"


def test_load_or_create(tmp_path: Path) -> None:
    path = tmp_path / "k"
    made = MeshKey.load_or_create(path)
    assert MeshKey.load_or_create(path) == made


def test_of_two_starters_the_first_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "k"
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # both look before either writes
    first = MeshKey.load_or_create(path)
    assert MeshKey.load_or_create(path) == first


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[30] = ord("a") if content[30] != ord("a") else ord("b")
    path.write_bytes(content)


def _link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _replace(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (lambda path: path.chmod(0o644), "chmod 600"),
        (lambda path: path.chmod(0o620), "chmod 600"),
        (lambda path: path.unlink(), "stealmesh start"),
        (_link, "name the file itself"),
        (_fifo, "not a regular file"),
        (_replace(b""), "empty"),
        (_truncate, "damaged"),
        (_flip, "damaged"),
        (lambda path: path.write_bytes(path.read_bytes() * 2), "exactly one key"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")), "Windows"),
        (_replace(b"\xff\xfe\x00garbage"), "no key file"),
        (_replace(b"k" * 32), "no key file"),
        (_replace(b"x" * 5000), "no key file"),
        (_replace(b"stealmesh1-abc"), "no key file"),
        (_replace(b"stealmeshkey1-\n"), "damaged"),
    ],
    ids=[
        "readable", "writable", "missing", "symlink", "fifo", "empty", "cut", "flipped", "two lines",
        "crlf", "garbage", "raw octets", "huge", "token", "prefix only",
    ],
)  # fmt: skip
def test_a_doubtful_file_is_refused_with_a_remedy(
    tmp_path: Path, spoil: Callable[[Path], object], remedy: str
) -> None:
    path = tmp_path / "mesh.key"
    KEY.save(path)
    spoil(path)
    with pytest.raises(KeyRefused, match=remedy) as refused:
        MeshKey.load(path)
    assert "\n" not in str(refused.value), "one line"


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mesh.key"
    KEY.save(path)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(KeyRefused, match="not to you"):
        MeshKey.load(path)


def test_where_the_key_lives() -> None:
    assert default_key_path({"STEALMESH_KEY_FILE": "/k"}) == Path("/k")
    assert default_key_path({"XDG_CONFIG_HOME": "/c"}) == Path("/c/stealmesh/mesh.key")
    assert default_key_path({}) == Path.home() / ".config/stealmesh/mesh.key"


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("seeds", [(), SEEDS[:1], SEEDS])
def test_a_token_survives_the_terminal(seeds: tuple[str, ...]) -> None:
    token = JoinToken(KEY, seeds)
    text = token.encode()
    assert text.startswith("stealmesh1-")
    assert JoinToken.decode(text) == token
    folded = "\n  ".join(text[at : at + 40] for at in range(0, len(text), 40))
    assert JoinToken.decode(f"  {folded}\r\n") == token
    assert JoinToken.decode(text.upper()) == token


def test_every_typing_error_is_found() -> None:
    text = JoinToken(KEY, SEEDS).encode()
    start = len("stealmesh1-")
    for at in range(start, len(text)):
        for letter in "a7z1":
            if text[at] != letter:
                with pytest.raises(TokenRefused, match="typing error"):
                    JoinToken.decode(text[:at] + letter + text[at + 1 :])
        with pytest.raises(TokenRefused):
            JoinToken.decode(text[:at] + text[at + 1 :])  # one letter left out
        with pytest.raises(TokenRefused):
            JoinToken.decode(text[:at])  # the end cut off


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "paste the line"),
        ("hello", "paste the line"),
        ("grid1-abcdef", "paste the line"),
        ("stealmesh2-abcdef", "another version"),
        ("stealmesh-abcdef", "another version"),
        ("stealmeshkey1-abcdef", "--key-file"),
        ("stealmesh1-", "typing error"),
        ("stealmesh1-ümlaut", "typing error"),
    ],
)
def test_what_is_no_token_is_named(text: str, remedy: str) -> None:
    with pytest.raises(TokenRefused, match=remedy):
        JoinToken.decode(text)


def test_a_token_holds_only_so_many_addresses() -> None:
    with pytest.raises(TokenRefused, match="16"):
        JoinToken(KEY, ("tcp://a:1",) * 17).encode()
    with pytest.raises(TokenRefused):
        JoinToken(KEY, ("tcp://a:1\ntcp://b:1",)).encode()
