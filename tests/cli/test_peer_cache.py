"""Peers are remembered from one life to the next, and found again by programs whose node has died."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path
from random import Random

import pytest
from tests.cli.conftest import PATIENCE_SECONDS, Shell
from tests.cli.test_real import look_until_nodes

import stealmesh
from stealmesh.host import peer_cache as peercache
from stealmesh.host.peer_cache import PEERS_MAX, PeerCache, addresses_of, cache_path
from stealmesh_bench.workloads.logged import logged_sleep
from stealmesh_protocol.messages import Member, Role

DAY = 86400.0
NOW = 1_800_000_000.0
A, B, C = (f"tcp://10.0.0.{n}:7077" for n in (1, 2, 3))


def cache(directory: Path, now: float = NOW) -> PeerCache:
    return PeerCache(directory / "peers" / "one.json", lambda: now)


def written(directory: Path, content: object) -> PeerCache:
    made = cache(directory)
    made.path.parent.mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    made.path.write_text(text)
    return made


# ---------------------------------------------------------------- the file


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    cache(tmp_path).save([A, B])
    again = cache(tmp_path, NOW + DAY)
    assert again.load() == [A, B]
    assert again.refused == {}
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o600
    assert os.listdir(again.path.parent) == ["one.json"], "no draft is left"


def test_the_first_life_remembers_nothing(tmp_path: Path) -> None:
    first = cache(tmp_path)
    assert first.load() == []
    assert first.refused == {}


def test_who_lives_now_comes_first_and_who_lived_before_is_kept(tmp_path: Path) -> None:
    cache(tmp_path).save([A, B])
    second = cache(tmp_path, NOW + DAY)
    second.load()
    second.save([C, B])
    assert cache(tmp_path, NOW + 2 * DAY).load() == [C, B, A]
    third = cache(tmp_path, NOW + 7.5 * DAY)
    assert third.load() == [C, B], "A was not seen for a week"
    assert third.refused == {"peer-cache-stale": 1}


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    many = [f"tcp://10.0.1.{n}:7077" for n in range(100)]
    one = cache(tmp_path)
    one.save([A])
    one.save(many)
    assert cache(tmp_path).load() == many[:PEERS_MAX]


def test_nobody_is_not_worth_remembering(tmp_path: Path) -> None:
    one = cache(tmp_path)
    one.save([A])
    one.save([])
    assert cache(tmp_path).load() == [A]


def test_nothing_is_written_as_long_as_nothing_changes(tmp_path: Path) -> None:
    one = cache(tmp_path)
    one.save([A, B])
    one.path.unlink()
    one.save([B, A])
    assert not one.path.exists()
    one.save([A, B, C])
    assert cache(tmp_path).load() == [A, B, C]


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "[1]", '{"peers": 5}', '{"peers": {"a": 1}}', "\x00" * 99, "[" * 9999,
        "9" * (peercache.FILE_OCTETS_MAX + 1),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_file_without_sense_is_passed_over_and_replaced(tmp_path: Path, content: str) -> None:
    bad = written(tmp_path, content)
    assert bad.load() == []
    assert bad.refused == {"peer-cache-garbled": 1}
    bad.save([A])
    assert cache(tmp_path).load() == [A]


def test_a_bad_entry_does_not_spoil_the_others(tmp_path: Path) -> None:
    bad = [
        5, "x", [A], [A, "yesterday"], [A, None], [7, NOW], ["tcp://a b:1", NOW], ["tcp://a", NOW],
        ["tcp://a:0", NOW], ["tcp://a:65536", NOW], ["ipc:///tmp/x", NOW], ["tcp://a:1/..", NOW],
        ["tcp://" + "a" * 300 + ":1", NOW], [A, float("nan")], [A, 10**400],
    ]  # fmt: skip
    made = written(tmp_path, {"peers": [*bad, [C, NOW], ["tcp://[fe80::1]:7077", NOW]]})
    assert made.load() == [C, "tcp://[fe80::1]:7077"]
    assert sum(made.refused.values()) == len(bad)


def test_an_address_from_the_future_is_not_kept_for_ever(tmp_path: Path) -> None:
    made = written(tmp_path, {"peers": [[A, NOW + DAY], [B, NOW + 60]]})
    assert made.load() == [B]
    assert made.refused == {"peer-cache-stale": 1}


def test_a_place_that_cannot_be_written_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "peers").write_text("not a directory")
    one = cache(tmp_path)
    assert one.load() == []
    one.save([A])
    one.save([A, B])
    assert one.refused == {"peer-cache-unreadable": 1, "peer-cache-unwritable": 2}
    assert capsys.readouterr().err.count("cannot remember peers") == 1


def test_each_mesh_host_and_address_has_its_own_file() -> None:
    environment = {"XDG_STATE_HOME": "/state"}
    named = [
        ("k1", "h", "tcp://0.0.0.0:1"), ("k2", "h", "tcp://0.0.0.0:1"),
        ("k1", "g", "tcp://0.0.0.0:1"), ("k1", "h", "tcp://0.0.0.0:2"),
    ]  # fmt: skip
    paths = {cache_path(*each, environment) for each in named}
    assert len(paths) == len(named)
    assert {path.parent for path in paths} == {Path("/state/stealmesh/peers")}


def test_supernodes_are_remembered_first() -> None:
    def member(number: int, role: Role, *endpoints: str) -> Member:
        return Member(bytes([number]) * 16, f"n{number}", "host", role, list(endpoints), 1)

    me = member(0, Role.PLAIN, A)
    plain = [member(n, Role.PLAIN, f"ipc:///{n}", f"tcp://10.0.2.{n}:1") for n in range(1, 100)]
    of_note = [member(200 + n, Role.SUPER, f"tcp://10.0.3.{n}:1") for n in range(3)]
    deaf = member(250, Role.PLAIN, "ipc:///x")
    found = addresses_of([me, *plain, *of_note, deaf], me, Random(1))
    assert len(found) == PEERS_MAX
    assert sorted(found[:3]) == [member.endpoints[0] for member in of_note]
    assert A not in found
    assert all(address.startswith("tcp://") for address in found)


# ---------------------------------------------------------------- real nodes


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def remembers(shell: Shell, listen: str, *addresses: str) -> None:
    """Wait until the node that listens there has written down these peers."""
    port = listen.rpartition(":")[2]
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = list((shell.directory / "state" / "stealmesh" / "peers").glob(f"*_{port}.json"))
        if found and all(address in found[0].read_text() for address in addresses):
            return
        assert time.monotonic() < until, f"{listen} has not written down {addresses}"
        threading.Event().wait(0.05)


@pytest.mark.real
@pytest.mark.usefixtures("key")
def test_a_mesh_starts_again_without_its_seed(shell: Shell) -> None:
    seed, *others = (free_address() for _ in range(3))
    first = shell.node("--listen", seed)
    first.address()
    nodes = [shell.node("--listen", each, "--seed", seed) for each in others]
    for node in nodes:
        node.address()
    remembers(shell, others[0], others[1])
    remembers(shell, others[1], others[0])
    for each in (first, *nodes):
        each.process.send_signal(signal.SIGKILL)
        each.process.wait(PATIENCE_SECONDS)
    again = [shell.node("--listen", each, "--seed", seed) for each in others]
    for node in again:
        node.address()
    found = look_until_nodes(shell, 2, "--seed", others[0])
    assert {node["pid"] for node in found} == {node.process.pid for node in again}
    assert {node["sees"] for node in found} == {2}


@pytest.mark.real
@pytest.mark.usefixtures("key")
def test_a_node_that_shall_not_remember_does_not(shell: Shell) -> None:
    seed, other = free_address(), free_address()
    shell.node("--listen", seed).address()
    second = shell.node("--listen", other, "--seed", seed, "--no-peer-cache")
    second.address()
    look_until_nodes(shell, 2, "--seed", other)
    second.process.terminate()
    assert second.end() == 0
    remembered = list((shell.directory / "state").rglob("*.json"))
    assert not [path for path in remembered if other.rpartition(":")[2] in path.name]


@pytest.mark.real
@pytest.mark.usefixtures("key")
def test_a_local_mesh_leaves_nothing_in_the_state_directory(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = shell.directory / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        assert mesh.submit(pow, 2, 3).result(timeout=PATIENCE_SECONDS) == 8
    assert not state.exists()


@pytest.mark.real
def test_a_program_outlives_the_only_node_that_it_was_told_of(shell: Shell, key: Path) -> None:
    first = shell.node("--listen", "tcp://127.0.0.1:0")
    seed = first.address()
    others = [shell.node("--seed", seed, "--listen", "tcp://127.0.0.1:0") for _ in range(2)]
    for node in others:
        node.address()
    look_until_nodes(shell, 3, "--seed", seed)
    with stealmesh.Mesh(seed, key=key) as mesh:
        doze = functools.partial(logged_sleep, os.devnull, seconds=0.01)
        results = mesh.map(doze, range(600), ordered=False)
        came = [next(results) for _ in range(60)]
        first.process.kill()
        came += results
        assert sorted(came) == list(range(600))
        assert mesh.submit(pow, 2, 5).result(timeout=PATIENCE_SECONDS) == 32
        pids = {node["pid"] for node in mesh.status()["nodes"] if node["role"] != "client"}
    assert pids == {node.process.pid for node in others}
