"""A new mesh key while jobs run: nodes are restarted one after another, and nothing is lost or refused."""

from __future__ import annotations

import dataclasses
import signal
import time
from pathlib import Path

import pytest
from tests.real.durable_nodes import Nodes, nodes_of

import stealmesh
from stealmesh import JoinRefused
from stealmesh.cli.commands import dispatch
from stealmesh.host.issuing import issued
from stealmesh.host.security import JoinToken, MeshKey
from stealmesh_protocol.passes import KeyRole

pytestmark = pytest.mark.real


def square(x: int) -> int:
    return x * x


def slow_square(x: int) -> int:
    time.sleep(0.02)
    return x * x


def restart(nodes: Nodes, number: int) -> None:
    """As an operator does it: the first signal drains, then it is started again."""
    process = nodes.processes.pop(number)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    nodes.start(number)
    nodes.listening()


@pytest.mark.slow
def test_six_nodes_get_a_new_key_during_jobs(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 6)
    for number in range(6):
        nodes.start(number)
    try:
        nodes.listening()
        old = MeshKey.load(nodes.key)
        guest = issued(old, KeyRole.SUBMIT, "laptop")
        with (
            stealmesh.Mesh(nodes.addresses, key=old) as boss,
            stealmesh.Mesh(nodes.addresses, key=guest) as laptop,
        ):
            nodes.complete(boss)
            items = range(6000)
            ordinary = boss.map(slow_square, items, chunksize=5)
            durable = boss.launch(slow_square, range(3000))
            theirs = laptop.map(slow_square, range(2000), chunksize=5)
            assert dispatch(["rotate-key", "--window", "1h", "--key-file", str(nodes.key)]) == 0
            new = MeshKey.load(nodes.key)
            assert new.fingerprint() != old.fingerprint()
            assert new.mesh_id() == old.mesh_id()
            for number in range(6):
                restart(nodes, number)
                for key in (old, new):
                    with stealmesh.Mesh(nodes.addresses, key=key) as visitor:
                        assert visitor.submit(square, number).result() == number * number
                nodes.complete(boss)
            assert list(ordinary) == [x * x for x in items]
            assert list(theirs) == [x * x for x in range(2000)]
            assert list(durable.results()) == [x * x for x in range(3000)]
            counters = boss.status()["counters"]
            about_keys = {
                f"refused-{code}" for code in ("key", "mesh", "role", "expired", "revoked")
            }
            assert not about_keys & set(counters)
        with stealmesh.Mesh(nodes.addresses, key=new) as boss:
            nodes.complete(boss)
            assert boss.submit(square, 9).result() == 81
    finally:
        nodes.stop()


@pytest.mark.slow
def test_after_its_time_the_old_key_is_refused(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 1)
    old = MeshKey.load(nodes.key)
    lesser = issued(old, KeyRole.VIEW, "screen")
    new = old.rotated(time.time() + 3600.0)
    new.save(nodes.key, replace=True)
    nodes.start(0)
    try:
        nodes.listening()
        for key in (old, lesser, new):
            with stealmesh.Mesh(nodes.addresses[0], key=key) as mesh:
                assert len(nodes_of(mesh)) == 1
        # Its time is over, and the node is started again: it has nothing of the old key.
        assert new.former is not None
        new = dataclasses.replace(
            new, former=dataclasses.replace(new.former, until=time.time() - 1.0)
        )
        new.save(nodes.key, replace=True)
        restart(nodes, 0)
        for key in (old, lesser):
            with pytest.raises(JoinRefused, match="did not accept this mesh key") as refused:
                stealmesh.Mesh(nodes.addresses[0], key=key)
            assert refused.value.code == "key"
        line = JoinToken(new, tuple(nodes.addresses)).encode()
        with stealmesh.Mesh(line) as mesh:
            assert mesh.submit(square, 4).result() == 16
        assert dispatch(["rotate-key", "--finish", "--key-file", str(nodes.key)]) == 0
        alone = MeshKey.load(nodes.key)
        assert alone.former is None
        with stealmesh.Mesh(nodes.addresses[0], key=alone) as mesh:
            assert mesh.submit(square, 5).result() == 25
    finally:
        nodes.stop()
