"""`stealmesh token` and `rotate-key` without a mesh: what they print, store and refuse, each in one line."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

import stealmesh
from stealmesh.cli.commands import dispatch
from stealmesh.host.entrance import entrance
from stealmesh.host.guest_key import GuestKey
from stealmesh.host.issuing import issued
from stealmesh.host.security import JoinToken, KeyRefused, MeshKey, TokenRefused, load_key
from stealmesh.store.revoked import RevokedFile
from stealmesh_protocol.errors import CannotStart, JoinRefused
from stealmesh_protocol.passes import KeyRole

SEED = "tcp://127.0.0.1:1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("STEALMESH_TOKEN", "STEALMESH_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config" / "stealmesh" / "mesh.key"


@pytest.fixture
def key(home: Path) -> MeshKey:
    return MeshKey.load_or_create(home)


def guest_of(line: str) -> GuestKey:
    found = JoinToken.decode(line).key
    assert isinstance(found, GuestKey)
    return found


# ---------------------------------------------------------------- printing


def test_a_token_is_one_line_to_paste(key: MeshKey, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["token", "--role", "submit", "--name", "laptop", "--expires", "7d", "--seed", SEED]
    assert dispatch(argv) == 0
    said = capsys.readouterr()
    assert said.out.startswith("stealmesh join --key-only stealmesh1-")
    assert len(said.out.splitlines()) == 1
    guest = guest_of(said.out)
    assert (guest.role, guest.told.name) == (KeyRole.SUBMIT, "laptop")
    assert abs(guest.told.expires - time.time() - 7 * 86_400) < 60
    assert JoinToken.decode(said.out).seeds == (SEED,)
    assert guest.fingerprint() == key.fingerprint()
    assert key.fingerprint() in said.err, "the fingerprint is shown on this side, too"
    assert "--revoke laptop" in said.err


def test_a_token_without_a_name_gets_one_of_its_own(
    key: MeshKey, capsys: pytest.CaptureFixture[str]
) -> None:
    names = set()
    for _ in range(2):
        assert dispatch(["token", "--role", "view", "--seed", SEED]) == 0
        names.add(guest_of(capsys.readouterr().out).told.name)
    assert len(names) == 2
    assert all(name.startswith("view-") for name in names)
    assert key


def test_a_peer_token_is_the_line_of_start(
    key: MeshKey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["token", "--role", "peer", "--seed", SEED]) == 0
    assert JoinToken.decode(capsys.readouterr().out) == JoinToken(key, (SEED,))


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["--role", "peer", "--name", "x", "--seed", SEED], 2, "rotate-key"),
        (["--role", "submit", "--name", "two words", "--seed", SEED], 2, "64 letters"),
        (["--role", "submit", "--name", "worker", "--seed", SEED], 2, "choose another"),
        (["--role", "submit", "--expires", "soon", "--seed", SEED], 2, "12h, 7d or 4w"),
        (["--role", "submit"], 2, "--seed"),
        (["--revoke", "worker"], 2, "no token"),
        (["--revoke", "x", "--seed", SEED], 3, "check the address"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    argv: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["token", *argv]) == status
    said = capsys.readouterr()
    assert words in said.err.splitlines()[-1]
    assert not said.out


# ---------------------------------------------------------------- keeping


def test_a_kept_token_serves_programs_and_commands_and_no_node(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh_key = MeshKey.generate()
    line = JoinToken(issued(mesh_key, KeyRole.VIEW, "screen"), (SEED,)).encode()
    assert dispatch(["join", line]) == 3
    assert "--key-only" in capsys.readouterr().err
    assert not home.exists(), "nothing is stored before it is known to be of use"
    assert dispatch(["join", "--key-only", line]) == 0
    assert (
        f"view token 'screen' of the mesh key {mesh_key.fingerprint()}" in capsys.readouterr().err
    )
    assert home.stat().st_mode & 0o777 == 0o600
    assert load_key(home) == guest_of(line)
    assert entrance(SEED).key == guest_of(line)
    for argv in (["start"], ["node", "--seed", SEED], ["token", "--role", "view", "--seed", SEED]):
        assert dispatch(argv) == 3
        (said,) = capsys.readouterr().err.splitlines()
        assert "a node needs" in said
    assert dispatch(["status", "--seed", SEED]) == 3
    assert "connection refused" in capsys.readouterr().err
    # The mesh key itself is another matter, and is not put in its place unasked.
    peer = JoinToken(mesh_key, (SEED,)).encode()
    assert dispatch(["join", "--key-only", peer]) == 2
    assert "--replace" in capsys.readouterr().err


def test_a_mesh_takes_a_token_as_its_key(key: MeshKey, home: Path) -> None:
    guest = issued(key, KeyRole.SUBMIT, "laptop")
    line = JoinToken(guest, ("tcp://127.0.0.1:9",)).encode()
    assert entrance(SEED, line).key == guest
    assert entrance(SEED, line).addresses == [SEED], "the address says where"
    assert entrance(SEED, f"stealmesh join --key-only {line}").key == guest
    assert entrance(SEED, guest).key == guest
    assert entrance(line).addresses == ["tcp://127.0.0.1:9"]
    with pytest.raises(TokenRefused, match="typing error"):
        entrance(SEED, line[:-3])
    with pytest.raises(JoinRefused, match="connection refused"):
        stealmesh.Mesh(SEED, key=line)
    assert home.exists()


def test_every_typing_error_in_a_token_is_found(key: MeshKey) -> None:
    text = JoinToken(issued(key, KeyRole.SUBMIT, "laptop", 2e9), (SEED,)).encode()
    start = len("stealmesh1-")
    for at in range(start, len(text)):
        for letter in "a7z1":
            if text[at] != letter:
                with pytest.raises(TokenRefused, match="typing error"):
                    JoinToken.decode(text[:at] + letter + text[at + 1 :])
        with pytest.raises(TokenRefused):
            JoinToken.decode(text[:at])
    ring = JoinToken(key.rotated(2e9), (SEED,)).encode()
    assert JoinToken.decode(ring).encode() == ring


@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_a_token_that_others_can_read_is_refused(key: MeshKey, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text(JoinToken(issued(key, KeyRole.VIEW, "x")).encode() + "\n")
    file.chmod(mode)
    with pytest.raises(JoinRefused, match="chmod 600"):
        entrance(SEED, file)
    file.chmod(0o600)
    assert entrance(SEED, file).key_path == str(file)


# ---------------------------------------------------------------- a new key


def test_a_new_key_brings_the_old_one_for_a_while(
    key: MeshKey, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["rotate-key", "--window", "2h", "--seed", SEED]) == 0
    said = capsys.readouterr()
    new = MeshKey.load(home)
    assert new.former is not None
    assert new.former.secret == key.secret
    assert abs(new.former.until - time.time() - 7200) < 60
    assert new.mesh_id() == key.mesh_id(), "state and durable jobs are found again"
    assert new.mesh_mark() == key.fingerprint()
    assert new.fingerprint() in said.err
    assert key.fingerprint() in said.err
    assert JoinToken.decode(said.out).key == new
    for argv, words in (
        (["rotate-key"], "still counts"),
        (["rotate-key", "--finish"], "after that"),
    ):
        assert dispatch(argv) == 2
        assert words in capsys.readouterr().err
    assert MeshKey.load(home) == new

    # Another host of this user pastes the line: the old key's place is taken without --replace.
    other = home.with_name("other.key")
    key.save(other)
    assert dispatch(["join", "--key-only", said.out, "--key-file", str(other)]) == 0
    assert MeshKey.load(other) == new

    over = dataclasses.replace(new, former=dataclasses.replace(new.former, until=1.0))
    over.save(home, replace=True)
    assert dispatch(["rotate-key", "--finish"]) == 0
    alone = MeshKey.load(home)
    assert alone == new.alone()
    assert alone.mesh_id() == key.mesh_id()
    assert dispatch(["rotate-key", "--finish"]) == 0
    assert dispatch(["rotate-key", "--seed", SEED]) == 0
    assert MeshKey.load(home).mesh_id() == key.mesh_id()


def test_a_new_key_survives_its_file_and_its_octets(tmp_path: Path) -> None:
    first = MeshKey.generate()
    for each in (first, first.rotated(2e9), first.rotated(2e9).alone()):
        file = tmp_path / os.urandom(4).hex()
        each.save(file)
        assert MeshKey.load(file) == MeshKey.unpacked(each.packed()) == each
        assert first.secret.hex() not in repr(each)
    with pytest.raises(KeyRefused):
        MeshKey.unpacked(bytes(47))


# ---------------------------------------------------------------- what is kept on disk


def test_names_of_revoked_tokens_survive_and_damage_is_noticed(tmp_path: Path) -> None:
    ours, theirs = (("32a89c11", b"s" * 32),), (("00000000", b"o" * 32),)
    names = ["ci@32a89c11", "laptop@32a89c11"]
    file = RevokedFile(tmp_path, ours)
    assert file.load() == []
    file.save(["ci@32a89c11"])
    file.save(names)
    assert file.load() == RevokedFile(tmp_path, theirs + ours).load() == names
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["revoked"]
    assert RevokedFile(tmp_path, theirs).load() == [], "of a key that no node takes any more"
    whole = file.path.read_bytes()
    for spoiled in (
        whole[:-1],
        whole.replace(b"laptop", b"laptoq"),
        whole.replace(b"laptop@32a89c11\n", b""),
        b"",
        b"garbage\n",
    ):
        file.path.write_bytes(spoiled)
        with pytest.raises(CannotStart, match=r"damaged.*--revoke") as refused:
            file.load()
        assert "\n" not in str(refused.value)
    file.path.unlink()
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotStart, match="cannot be read"):
        file.load()
