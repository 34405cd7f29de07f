"""Tokens against real nodes: what their holders can do, what a raw client cannot, and how they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests.patience import PATIENCE_SECONDS
from tests.patience import until as eventually
from tests.protocol.test_vectors import VECTORS
from tests.real.durable_nodes import Nodes, nodes_of
from tests.transport.sides import Side, until

import stealmesh
from stealmesh import JobLost, JoinRefused, NotAllowed
from stealmesh.cli.commands import dispatch
from stealmesh.cli.exits import NOT_JOINED, USAGE
from stealmesh.host.guest_key import GuestKey
from stealmesh.host.identity import new_member, runtime
from stealmesh.host.issuing import issued
from stealmesh.host.security import JoinToken, KeyRefused, MeshKey
from stealmesh.transport import WireCodec
from stealmesh_engine.links.guests import CLOCKS_DIFFER_SECONDS
from stealmesh_protocol.conversation import INTRODUCTIONS
from stealmesh_protocol.key_roles import MAY_SAY
from stealmesh_protocol.messages import MESSAGES, Hello, Message, Refused, Role, Welcome
from stealmesh_protocol.passes import KeyRole

pytestmark = pytest.mark.real

M = TypeVar("M", bound=Message)
EXAMPLES = {type(message): message for _, message, _, _ in VECTORS}
AT_THE_TRANSPORT = {62, 63}
"""TAKEN and PIECE: the transports say them to each other."""


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("roles"), 2)
    for number in range(2):
        nodes.start(number)
    try:
        nodes.listening()
        with nodes.mesh() as boss:
            nodes.complete(boss)
        yield nodes
    finally:
        nodes.stop()


def token(nodes: Nodes, role: KeyRole, name: str, expires: float = 0.0) -> str:
    """As `stealmesh token` prints it."""
    key = MeshKey.load(nodes.key)
    return JoinToken(issued(key, role, name, expires), tuple(nodes.addresses)).encode()


def square(x: int) -> int:
    return x * x


def large(x: int) -> bytes:
    return bytes([x]) * 300_000


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


# ---------------------------------------------------------------- what each may do


@pytest.mark.parametrize("command", ["run builtins:abs --items 0:2", f"results {'f' * 40}"])
def test_a_command_that_a_view_token_does_not_allow_is_one_line(
    two_nodes: Nodes,
    command: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STEALMESH_TOKEN", token(two_nodes, KeyRole.VIEW, "eye"))
    assert dispatch(command.split()) == NOT_JOINED
    said = capfd.readouterr()
    assert not said.out
    assert said.err == (
        "stealmesh: this view token 'eye' does not allow to submit, collect or cancel: use one that "
        "`stealmesh token --role submit` has made\n"
    )


def test_a_submit_token_runs_jobs_and_gets_its_results(two_nodes: Nodes) -> None:
    with stealmesh.Mesh(token(two_nodes, KeyRole.SUBMIT, "laptop")) as mesh:
        assert mesh.submit(square, 12).result() == 144
        assert sum(mesh.map(square, range(2000))) == sum(x * x for x in range(2000))
        kept = mesh.options(keep=True).submit(large, 7)
        assert mesh.submit(len, kept).result() == 300_000
        assert kept.result() == large(7)
        assert mesh.gather(mesh.scatter(large(3))) == large(3)
        job = mesh.launch(square, range(50))
        assert list(job.results()) == [x * x for x in range(50)]
        assert [each["name"] for each in mesh.status()["nodes"]]
        ended = mesh.launch(sleep, [60.0] * 3)
        ended.stop()
        ended.wait()
    with two_nodes.mesh() as boss:
        counters = boss.status()["counters"]
        rude = [each for each in counters if each.startswith(("rude-guest", "rude-key-role"))]
        assert not rude, "an honest holder is never refused anything"


def test_results_are_for_the_token_that_launched_them(two_nodes: Nodes) -> None:
    with stealmesh.Mesh(token(two_nodes, KeyRole.SUBMIT, "laptop")) as mesh:
        job = mesh.launch(square, range(20))
        assert list(job.results()) == [x * x for x in range(20)]
        kept = mesh.launch(sleep, [30.0])
        assert eventually(lambda: kept.progress().total == 1 or None)
    with stealmesh.Mesh(token(two_nodes, KeyRole.SUBMIT, "ci")) as other:
        with pytest.raises(JobLost, match="another token"):
            list(other.attach(job.id).results())
        other.attach(kept.id).cancel()
        with pytest.raises(JobLost, match="another token"):
            list(other.attach(kept.id).results())
    with stealmesh.Mesh(token(two_nodes, KeyRole.SUBMIT, "laptop")) as again:
        assert list(again.attach(job.id).results()) == [x * x for x in range(20)]
        lines = {line["id"]: line["state"] for line in again.status()["jobs"]}
        assert lines[kept.id] == "running", "the other token has cancelled nothing"
        again.attach(kept.id).stop()
    with two_nodes.mesh() as boss:
        assert list(boss.attach(job.id).results()) == [x * x for x in range(20)]
        assert boss.status()["counters"]["guests-jobs-refused"] >= 2


def test_a_node_that_nobody_knows_is_wrong_usage_of_a_command(
    two_nodes: Nodes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEALMESH_TOKEN", token(two_nodes, KeyRole.VIEW, "eye"))
    for command in ("events --node nosuch", "stacks nosuch"):
        assert dispatch(command.split()) == USAGE
        assert "no node is called 'nosuch'" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["results", "cancel"])
def test_a_job_that_nobody_knows_is_wrong_usage_of_a_command(
    two_nodes: Nodes,
    command: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waited for a minute, in case that its primary was dead."""
    monkeypatch.setenv("STEALMESH_TOKEN", token(two_nodes, KeyRole.SUBMIT, "laptop"))
    assert dispatch([command, "f" * 40]) == USAGE
    assert f"no job of this mesh is called '{'f' * 40}'" in capfd.readouterr().err


def test_a_view_token_looks_and_does_nothing_else(two_nodes: Nodes) -> None:
    with two_nodes.mesh() as boss:
        job = boss.launch(square, range(5))
        assert list(job.results()) == [0, 1, 4, 9, 16]
    key = token(two_nodes, KeyRole.VIEW, "screen")
    with stealmesh.Mesh(two_nodes.addresses, key=key) as mesh:
        assert len(nodes_of(mesh)) == 2
        assert job.id in [line["id"] for line in mesh.status()["jobs"]]
        asked: list[Callable[[], object]] = [
            lambda: mesh.submit(square, 1),
            lambda: mesh.map(square, [1]),
            lambda: mesh.map_reduce(square, [1], max),
            lambda: mesh.launch(square, [1]),
            lambda: mesh.attach(job.id),
            lambda: mesh.scatter(b"x"),
            mesh.jobs,
        ]
        for ask in asked:
            with pytest.raises(NotAllowed, match=r"view token 'screen' .*--role submit") as refused:
                ask()
            assert "\n" not in str(refused.value)


def test_a_token_makes_no_node_and_no_local_mesh(two_nodes: Nodes, tmp_path: Path) -> None:
    text = token(two_nodes, KeyRole.SUBMIT, "laptop")
    guest = JoinToken.decode(text).key
    assert isinstance(guest, GuestKey)
    secret = MeshKey.load(two_nodes.key).secret
    assert secret not in guest.packed()
    assert secret.hex() not in repr(guest)
    file = tmp_path / "token"
    file.write_text(text + "\n")
    file.chmod(0o600)
    with pytest.raises(KeyRefused, match="stealmesh join"):
        MeshKey.load(file)
    with pytest.raises(NotAllowed, match="the mesh key"):
        stealmesh.Mesh(None, key=str(file))
    with stealmesh.Mesh(two_nodes.addresses, key=str(file)) as mesh:
        assert mesh.submit(square, 3).result() == 9, "a token may also be kept in a file"


def nested(x: int) -> int:
    mesh = stealmesh.here()
    return sum(mesh.map(square, range(x)))


def test_tasks_in_tasks_go_with_a_token_and_not_with_the_key(two_nodes: Nodes) -> None:
    with two_nodes.mesh() as boss:
        assert boss.submit(nested, 40).result() == sum(x * x for x in range(40))


# ---------------------------------------------------------------- a raw client


class Raw:
    """A client that says what it likes, over the real wire."""

    def __init__(self, key: GuestKey, address: str) -> None:
        self.side = Side(key=key, codec=WireCodec())
        self.life, self.proof = key.new_life()
        self.me = new_member(Role.CLIENT, "raw", [], 0, life=self.life)
        self.mesh = key.mesh_id()
        self.link = self.side.dial(address)
        until(lambda: self.side.is_up(self.link), self.side)
        self._hello(b"")
        (welcome,) = self.heard(Welcome)
        self._hello(welcome.sender.id)
        until(lambda: len(self.heard(Welcome)) == 2, self.side)

    def _hello(self, to: bytes) -> None:
        self.say(Hello((1, 1), self.mesh, self.me, to, runtime(), 1, self.proof))
        until(lambda: self.heard(Welcome) or self.heard(Refused), self.side)

    def say(self, message: Message, seq: int = 0) -> None:
        self.side.transport.send(self.link, message, seq)
        self.side.pump()

    def heard(self, kind: type[M]) -> list[M]:
        return [e.message for e in self.side.heard(self.link) if isinstance(e.message, kind)]

    def close(self) -> None:
        self.side.transport.close(0.0)


@pytest.mark.parametrize("role", [KeyRole.SUBMIT, KeyRole.VIEW])
def test_a_raw_client_tries_everything_that_its_role_may_not_say(
    two_nodes: Nodes, role: KeyRole
) -> None:
    key = issued(MeshKey.load(two_nodes.key), role, f"raw-{role.name.lower()}")
    forbidden = [
        kind for kind in MESSAGES if kind not in MAY_SAY[role] | INTRODUCTIONS | AT_THE_TRANSPORT
    ]
    with two_nodes.mesh(0) as boss:
        before = boss.status()["counters"].get("rude-key-role", 0)
        honest = boss.map(square, range(20_000))
        for kind in forbidden:
            message = EXAMPLES[MESSAGES[kind]]
            raw = Raw(key, two_nodes.addresses[0])
            for number in range(1, 5):
                raw.say(message, number if message.CUSTODY else 0)
            until(lambda raw=raw: raw.heard(Refused), raw.side)  # type: ignore[misc]
            assert [each.code for each in raw.heard(Refused)] == ["role"], MESSAGES[kind]
            raw.close()
        assert sum(honest) == sum(x * x for x in range(20_000))
        counters = boss.status()["counters"]
        assert counters["rude-key-role"] - before == 4 * len(forbidden)
        nodes = nodes_of(boss)
        assert [node["state"] for node in nodes] == ["alive", "alive"]
        assert not any(line["state"] == "cancelled" for line in boss.status()["jobs"] if line["total"] == 20_000)  # fmt: skip
    assert all(process.poll() is None for process in two_nodes.processes.values())


def test_a_raw_client_cannot_come_as_another_or_as_a_node(two_nodes: Nodes) -> None:
    mesh_key = MeshKey.load(two_nodes.key)
    key = issued(mesh_key, KeyRole.SUBMIT, "raw")
    with two_nodes.mesh(0) as boss:
        victim = boss._driver.core.me
        for me, proof in (
            (victim, b""),
            (None, b""),
            (None, issued(mesh_key, KeyRole.VIEW, "v").new_life()[1]),
        ):
            side = Side(key=key, codec=WireCodec())
            life, own = key.new_life()
            me = me or new_member(Role.CLIENT, "raw", [], 0, life=life)
            proof = own if me is victim else proof
            link = side.dial(two_nodes.addresses[0])
            until(lambda side=side, link=link: side.is_up(link), side)  # type: ignore[misc]
            hello = Hello((1, 1), key.mesh_id(), me, b"", runtime(), 1, proof)
            side.transport.send(link, hello)
            until(lambda side=side, link=link: side.heard(link), side)  # type: ignore[misc]
            (answer,) = [each.message for each in side.heard(link)]
            assert isinstance(answer, Refused)
            assert answer.code == "key"
            side.transport.close(0.0)
        assert boss.submit(square, 5).result() == 25


# ---------------------------------------------------------------- how a token ends


def test_an_expired_token_ends_in_a_running_mesh(two_nodes: Nodes) -> None:
    soon = time.time() - CLOCKS_DIFFER_SECONDS + 2.0
    text = token(two_nodes, KeyRole.SUBMIT, "brief", soon)
    with stealmesh.Mesh(text) as mesh:
        assert mesh.submit(square, 4).result() == 16
        with pytest.raises(JoinRefused, match=r"'brief' has expired .*stealmesh token") as refused:
            mesh.submit(sleep, 60.0).result(timeout=PATIENCE_SECONDS)
        assert refused.value.code == "expired"
    with pytest.raises(JoinRefused, match="has expired"):
        stealmesh.Mesh(text)


def revoke(nodes: Nodes, name: str) -> int:
    """As a person does it."""
    return dispatch(
        ["token", "--revoke", name, "--key-file", str(nodes.key), "--seed", nodes.addresses[0]]
    )


def test_a_revoked_token_ends_in_a_running_mesh(
    two_nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    text = token(two_nodes, KeyRole.SUBMIT, "lost")
    with two_nodes.mesh() as boss, stealmesh.Mesh(text) as mesh:
        assert mesh.submit(square, 4).result() == 16
        running = mesh.submit(sleep, 60.0)
        assert revoke(two_nodes, "lost") == 0
        assert "2 of 2 nodes know it, 2 of them keep it on disk" in capsys.readouterr().err
        with pytest.raises(JoinRefused, match=r"'lost' was revoked .*ask") as refused:
            running.result(timeout=PATIENCE_SECONDS)
        assert refused.value.code == "revoked"
        assert boss.submit(square, 6).result() == 36
    with pytest.raises(JoinRefused, match="was revoked"):
        stealmesh.Mesh(text)


@pytest.mark.slow
def test_a_revoked_token_is_refused_after_a_restart_of_all(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 2)
    for number in range(2):
        nodes.start(number)
    try:
        nodes.listening()
        with nodes.mesh() as boss:
            nodes.complete(boss)
        assert revoke(nodes, "laptop") == 0
        for number in range(2):
            nodes.kill(number)
        for number in range(2):
            nodes.start(number)
        nodes.listening()
        for address in nodes.addresses:
            with pytest.raises(JoinRefused, match="was revoked"):
                stealmesh.Mesh(address, key=token(nodes, KeyRole.SUBMIT, "laptop"))
        with stealmesh.Mesh(token(nodes, KeyRole.SUBMIT, "other")) as mesh:
            assert mesh.submit(square, 7).result() == 49
            assert [node["revoked"] for node in nodes_of(mesh)] == [["laptop"]] * 2
    finally:
        nodes.stop()
