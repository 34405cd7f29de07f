"""Nodes that listen everywhere, on hosts whose names and routes are of no use (row 43).

No host here has a default route, and none of their names can be looked up, unless a test says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.namespaces.net import Net, Process, run
from tests.namespaces.scene import PORT, Scene

from stealmesh.host.security import JoinToken

pytestmark = pytest.mark.real

Stage = Callable[[int, int], Scene]

USES = """
import json, sys, stealmesh
with stealmesh.Mesh() as mesh:
    print(json.dumps(sorted(mesh.map(abs, range(-40, 0)))), flush=True)
    while len([n for n in mesh.status()["nodes"] if n["role"] != "client"]) < int(sys.argv[1]):
        pass
    print(json.dumps([n["address"] for n in mesh.status()["nodes"] if n["role"] != "client"]), flush=True)
"""


def stealmesh(
    scene: Scene, host: int, *argv: str, hosts_file: Path | None = None, **environment: str
) -> Process:
    command = [sys.executable, "-m", "stealmesh", *argv]
    if hosts_file is not None:
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mount, str(hosts_file), *command]
    own = {
        "XDG_CONFIG_HOME": str(scene.directory / f"config{host}"),
        "XDG_STATE_HOME": str(scene.directory / f"state{host}"),
    }
    return scene.net.start(host, command, scene._environment | own | environment, scene.directory)


def token_of(start: Process) -> JoinToken:
    return JoinToken.decode(start.wait_for(lambda line: line.startswith("stealmesh join ")))


def uses(scene: Scene, host: int, token: JoinToken, nodes: int) -> list[str]:
    """A program on this host has work done, and says where the nodes are."""
    environment = scene._environment | {"STEALMESH_TOKEN": token.encode()}
    argv = [sys.executable, "-c", USES, str(nodes)]
    process = scene.net.start(host, argv, environment, scene.directory)
    process.wait_for(lambda line: line == json.dumps(list(range(1, 41))) + "\n")
    found: list[str] = json.loads(process.wait_for(lambda line: line.startswith('["tcp')))
    return found


def second_network(scene: Scene, host: int, address: str) -> None:
    """An interface more, in a network where nobody else is."""
    name = scene.net.name(host)
    run("ip", "-n", name, "link", "add", "eth1", "type", "veth", "peer", "name", "eth1-far")
    run("ip", "-n", name, "address", "add", address, "dev", "eth1")
    for end in ("eth1", "eth1-far"):
        run("ip", "-n", name, "link", "set", end, "up")


@pytest.mark.parametrize("name", ["unknown", "loopback"])
@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:7077", "tcp://*:7077", "tcp://[::]:7077"])
def test_everywhere_is_where_others_reach_it(stage: Stage, name: str, listen: str) -> None:
    """On main: a traceback (socket.gaierror), or 127.0.1.1."""
    scene = stage(3, 0)
    hosts_file = scene.directory / "hosts"
    hosts_file.write_text("127.0.0.1 localhost\n" + "127.0.1.1 host1\n" * (name == "loopback"))
    start = stealmesh(
        scene, 1, "start", "--listen", listen, "--nworkers", "1", hosts_file=hosts_file
    )
    token = token_of(start)
    assert token.seeds[0] == Scene.address(1)
    join = stealmesh(scene, 2, "join", token.encode(), "--nworkers", "1")
    join.wait_for(lambda line: f"listens at tcp://{Net.address(2)}:" in line)
    found = uses(scene, 3, token, 2)
    assert Scene.address(1) in found


def test_start_without_a_word_needs_no_route(stage: Stage) -> None:
    """On main it listens on loopback, and says that its line is for this machine only."""
    scene = stage(2, 0)
    start = stealmesh(scene, 1, "start", "--nworkers", "1")
    token = token_of(start)
    assert token.seeds == (Scene.address(1),)
    assert uses(scene, 2, token, 1) == [Scene.address(1)]


def test_a_node_whose_seed_is_its_own_host_s_name_is_reached_by_others(stage: Stage) -> None:
    """127.0.1.1 in /etc/hosts: towards that seed its address is loopback, for others it is not."""
    scene = stage(2, 0)
    hosts_file = scene.directory / "hosts"
    hosts_file.write_text("127.0.1.1 host1\n")
    token = token_of(
        stealmesh(scene, 1, "start", "--listen", f"tcp://0.0.0.0:{PORT}", "--nworkers", "1")
    )
    node = stealmesh(
        scene, 1, "node", "--seed", f"tcp://host1:{PORT}", "--nworkers", "1", hosts_file=hosts_file
    )
    node.wait_for(lambda line: f"listens at tcp://{Net.address(1)}:" in line)
    assert len(uses(scene, 2, token, 2)) == 2


@pytest.mark.parametrize("order", [("10.88.0", "10.77.0"), ("10.77.0", "10.88.0")])
def test_a_host_in_two_networks_is_reached_from_each(stage: Stage, order: tuple[str, str]) -> None:
    """Whatever stands first in its list: the other network's address leads to nobody, or to another."""
    scene = stage(3, 0)
    for host in (1, 2):
        # Both have this address: one dials itself there when it means the other.
        second_network(scene, host, "10.88.0.1/24")
    advertise = [f"tcp://{each}.1:{PORT}" for each in order]
    options = [word for each in advertise for word in ("--advertise", each)]
    start = stealmesh(
        scene, 1, "start", "--listen", f"tcp://0.0.0.0:{PORT}", "--nworkers", "1", *options
    )
    token = token_of(start)
    assert token.seeds == tuple(advertise)
    for host in (2, 3):
        # They know the one address at which they reach it.
        argv = ("node", "--listen", f"tcp://0.0.0.0:{PORT}", "--seed", Scene.address(1), "--nworkers", "1")  # fmt: skip
        node = stealmesh(scene, host, *argv, STEALMESH_TOKEN=token.encode())
        node.wait_for(lambda line: "listens at" in line)
    found = uses(scene, 3, JoinToken(token.key, (Scene.address(1),)), 3)
    assert len(found) == 3


def test_both_addresses_of_a_host_in_two_networks_are_told(stage: Stage) -> None:
    scene = stage(1, 0)
    second_network(scene, 1, "192.168.7.1/24")
    run("ip", "-n", scene.net.name(1), "link", "add", "docker0", "type", "bridge")
    run("ip", "-n", scene.net.name(1), "address", "add", "172.17.0.1/16", "dev", "docker0")
    run("ip", "-n", scene.net.name(1), "link", "set", "docker0", "up")
    start = stealmesh(scene, 1, "start", "--listen", f"tcp://0.0.0.0:{PORT}", "--nworkers", "1")
    assert token_of(start).seeds == (Scene.address(1), f"tcp://192.168.7.1:{PORT}")
