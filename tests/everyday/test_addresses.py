"""What people write where an address, a key or a token belongs (rows 43, 44 and 48), without any mesh."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy
import pytest

import stealmesh
from stealmesh.host.addresses import address_towards
from stealmesh.host.entrance import TOKEN_VARIABLE, entrance
from stealmesh.host.interfaces import LOOPBACK, Address, choose, own_addresses, reachable_at
from stealmesh.host.node import _advertised
from stealmesh.host.security import JoinToken, MeshKey
from stealmesh_protocol.errors import JoinRefused

KEY = MeshKey.generate()
SEED = "tcp://10.1.2.3:7077"
TOKEN = JoinToken(KEY, (SEED,)).encode()
AT_ONCE_SECONDS = 3.0
"""Less than any attempt to dial takes before it is given up; much more than any of this takes."""


# ---------------------------------------------------------------- row 43: what a node advertises

LO = Address("127.0.0.1", "lo")
LO_TOO = Address("127.0.1.1", "lo")
ETH = Address("10.0.0.5", "eth0")
ALIAS = Address("10.0.0.6", "eth0")
WLAN = Address("192.168.1.5", "wlan0")
PUBLIC = Address("203.0.113.5", "eth1")
DOCKER = Address("172.17.0.1", "docker0", is_bridge=True)
DOWN = Address("10.9.9.9", "eth9", is_up=False)
ZEROCONF = Address("169.254.7.7", "eth2")
SIX = Address("2001:db8:1::5", "eth0")
SIX_LINK = Address("fe80::5", "eth0")
SIX_LO = Address("::1", "lo")


@pytest.mark.parametrize(
    ("have", "towards", "versions", "chosen"),
    [
        ([LO, ETH], ["10.0.0.5"], (4,), ["10.0.0.5"]),
        ([LO, LO_TOO, ETH], [], (4,), ["10.0.0.5"]),  # no route
        ([LO, LO_TOO], [], (4,), [LOOPBACK]),  # no network at all
        ([], [], (4,), [LOOPBACK]),  # the kernel does not tell
        ([LO, ETH, WLAN], ["192.168.1.5"], (4,), ["192.168.1.5", "10.0.0.5"]),
        ([LO, ETH, ALIAS], [], (4,), ["10.0.0.5"]),
        ([LO, DOCKER, ETH], [], (4,), ["10.0.0.5"]),
        ([LO, DOCKER], [], (4,), ["172.17.0.1"]),
        ([LO, DOCKER, WLAN], ["172.17.0.1"], (4,), ["172.17.0.1", "192.168.1.5"]),  # a real bridge
        ([LO, DOWN, ETH], [], (4,), ["10.0.0.5"]),
        ([LO, DOWN], [], (4,), ["10.9.9.9"]),
        ([LO, ZEROCONF, PUBLIC], [], (4,), ["203.0.113.5"]),
        ([LO, ZEROCONF], [], (4,), ["169.254.7.7"]),
        ([LO, SIX_LO, SIX_LINK, SIX], [], (4,), [LOOPBACK]),
        ([LO, SIX_LO, SIX_LINK, SIX, ETH], [], (4, 6), ["10.0.0.5", "2001:db8:1::5"]),
        ([LO, SIX_LO, SIX_LINK, SIX], [], (6,), ["2001:db8:1::5"]),
        ([Address(f"10.0.{n}.1", f"eth{n}") for n in range(9)], [], (4,), [f"10.0.{n}.1" for n in range(4)]),
    ],
)  # fmt: skip
def test_a_node_that_listens_everywhere_tells_the_addresses_of_its_interfaces(
    have: list[Address], towards: list[str], versions: tuple[int, ...], chosen: list[str]
) -> None:
    assert choose(have, towards, versions) == chosen


def test_this_very_host_tells_its_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is looked up: on main this is 127.0.1.1, or a traceback."""
    monkeypatch.setattr("socket.gethostbyname", lambda _: "127.0.1.1")
    own = {each.host for each in own_addresses()}
    assert LOOPBACK in own
    for wildcard in ("0.0.0.0", "[::]", "*"):
        advertised = _advertised([f"tcp://{wildcard}:7077", "ipc:///x"], [])
        assert advertised[0] == "ipc:///x"
        hosts = [each.removeprefix("tcp://").rpartition(":")[0] for each in advertised[1:]]
        assert set(hosts) <= {f"[{host}]" if ":" in host else host for host in own}
        if own - {LOOPBACK, "::1"}:
            assert LOOPBACK not in hosts
    assert reachable_at("tcp://10.0.0.5:7077") == ["tcp://10.0.0.5:7077"]
    assert _advertised(["tcp://0.0.0.0:1"], [SEED]) == [SEED]


def test_a_host_whose_name_is_loopback_listens_where_others_reach_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--seed tcp://thishost:7077` with 127.0.1.1 in /etc/hosts."""
    monkeypatch.setattr("stealmesh.host.addresses.best_address", lambda: "10.0.0.5")
    real = __import__("socket").getaddrinfo

    def lookup(host: str, *more: Any, **named: Any) -> Any:
        return real("127.0.1.1" if host == "thishost" else host, *more, **named)

    monkeypatch.setattr("socket.getaddrinfo", lookup)
    assert address_towards("tcp://thishost:7077") == "10.0.0.5"
    assert address_towards("tcp://no-such-host.invalid:7077") == "10.0.0.5"
    assert address_towards("tcp://127.0.0.1:7077") == LOOPBACK, (
        "written as loopback, meant as loopback"
    )


# ---------------------------------------------------------------- row 44: tokens


@pytest.mark.parametrize(
    "pasted",
    [
        "{t}", " {t}\n", "stealmesh join {t}", "$ stealmesh join {t}", '"{t}"', "'{t}'", "`{t}`",
        'stealmesh.Mesh("{t}")', 'mesh = stealmesh.Mesh("{t}")', "export STEALMESH_TOKEN={t}",
        "> {t}", "\ufeff{t}", "\u200b{t}\u200b",
    ],
)  # fmt: skip
def test_a_token_is_understood_whatever_is_around_it(pasted: str) -> None:
    way = entrance(pasted.format(t=TOKEN), environment={})
    assert (way.addresses, way.key, way.key_path) == ([SEED], KEY, "")


@pytest.mark.parametrize("put", ["\n", "\r\n", " ", "\\\n", "\n  ", "\n> ", "\xa0", "\u00ad"])
def test_a_token_is_understood_whatever_breaks_it(put: str) -> None:
    assert JoinToken.decode(TOKEN[:40] + put + TOKEN[40:80] + put + TOKEN[80:]).seeds == (SEED,)
    assert JoinToken.decode(TOKEN[:5] + put + TOKEN[5:]).key == KEY
    assert JoinToken.decode(TOKEN.upper()).key == KEY


@pytest.mark.parametrize(
    ("spoiled", "remedy"),
    [
        (TOKEN[:-1], "copy the whole line"),
        (TOKEN[: len(TOKEN) // 2], "copy the whole line"),
        ("stealmesh1-", "copy the whole line"),
        (TOKEN + "x", "copy the whole line"),
        (TOKEN[:30] + "0" + TOKEN[31:], "copy the whole line"),
        ("steelmesh1-" + TOKEN[11:], "begins with stealmesh1-"),
        (TOKEN[3:], "begins with stealmesh1-"),
        (TOKEN[20:], "begins with stealmesh1-"),
        (TOKEN[:40] + "…" + TOKEN[50:], "copy the whole line"),
        ("stealmesh2-" + TOKEN[11:], "same version"),
        ("stealmeshkey1-abc", "key file"),
        (JoinToken(KEY).encode(), "names no node"),
        (f"{TOKEN},{TOKEN}", "more than one token"),
    ],
    ids=itertools.count(),  # the key is another one in each process
)
def test_a_spoiled_token_is_one_line_with_the_remedy_and_no_secret(
    spoiled: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=remedy) as refused:
        stealmesh.Mesh(spoiled)
    assert "\n" not in str(refused.value)
    assert spoiled[11:30] not in str(refused.value) or len(spoiled) < 30
    monkeypatch.setenv(TOKEN_VARIABLE, spoiled)
    with pytest.raises(ValueError, match=remedy):
        stealmesh.Mesh()


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    """Said in the call, else the environment's token, else its key file, else the user's."""
    other, file = MeshKey.generate(), tmp_path / "mesh.key"
    MeshKey.generate().save(file)
    token, path = {TOKEN_VARIABLE: TOKEN}, {"STEALMESH_KEY_FILE": str(file)}
    assert entrance(SEED, other, token).key == other
    assert entrance(SEED, str(file), token).key_path == str(file)
    assert entrance(SEED, environment=token | path).key == KEY
    assert entrance(SEED, environment=path).key_path == str(file)
    assert entrance([TOKEN, "tcp://10.9.9.9"], environment={}).addresses == [
        SEED,
        "tcp://10.9.9.9:7077",
    ]
    with pytest.raises(JoinRefused, match="join --key-only"):
        entrance(SEED, environment={"XDG_CONFIG_HOME": str(tmp_path)})
    with pytest.raises(ValueError, match="its own key"):
        entrance(TOKEN, file, {})


@pytest.mark.real
def test_none_is_a_local_mesh_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with stealmesh.Mesh(None) as mesh:
        assert mesh.submit(pow, 2, 10).result() == 1024
    with stealmesh.Mesh(workers=numpy.int64(1)) as mesh:
        assert mesh.address.startswith("tcp://127.0.0.1:")


# ---------------------------------------------------------------- row 48: what makes no sense


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        (5, TypeError, "tcp://host:port"),
        (0, TypeError, "tcp://host:port"),
        (True, TypeError, "tcp://host:port"),
        (float("nan"), TypeError, "tcp://host:port"),
        (b"tcp://a:1", TypeError, "tcp://host:port"),
        (Path("/x"), TypeError, "file:///x"),
        ({"a": 1}, TypeError, "tcp://host:port"),
        ([None], TypeError, "address 0"),
        ([SEED, 7], TypeError, "address 1"),
        ([b"tcp://a:1"], TypeError, "address 0"),
        ("", ValueError, "no address"),
        (" ", ValueError, "no address"),
        (",", ValueError, "no address"),
        ([], ValueError, "no address"),
        (iter(()), ValueError, "no address"),
        ("host:7077", ValueError, "tcp://host:7077"),
        ("10.0.0.5", ValueError, "tcp://10.0.0.5:7077"),
        ("myhost", ValueError, "tcp://host:port"),
        ("http://host:1", ValueError, "tcp://host:1"),
        ("tcp:/host:1", ValueError, "tcp://"),
        ("tcp//host:1", ValueError, "tcp://"),
        ("tcp://", ValueError, "nothing"),
        ("tcp://:7077", ValueError, "no host"),
        ("tcp://host:99999", ValueError, "'99999'"),
        ("tcp://host:-1", ValueError, "'-1'"),
        ("tcp://host:0", ValueError, "port 0"),
        ("tcp://host:port", ValueError, "'port'"),
        ("tcp://host:٣", ValueError, "not a port"),
        ("tcp://user@host:1", ValueError, "host"),
        ("tcp://host:1?x=2", ValueError, "port"),
        ("tcp://fe80::1:7077", ValueError, "brackets"),
        ("tcp://no-such-host.invalid:7077", JoinRefused, "spelling"),
        ("TCP://no-such-host.invalid,", JoinRefused, "spelling"),
        ("tcp://" + "x" * 70 + ":1", JoinRefused, "spelling"),
        ("dns://no-such-host.invalid", JoinRefused, "check the name"),
        ("file:///no/such/file", JoinRefused, "check the path"),
        ("env://NO_SUCH_VARIABLE", ValueError, "not set"),
    ],
)
def test_an_address_that_means_nothing_is_one_line_at_once(
    address: Any, error: type[Exception], words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(error, match=r".") as refused:
        stealmesh.Mesh(address, key=KEY)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert Path(refused.traceback[-1].path).name in {"entrance.py", "seeds.py", "mesh.py"}, (
        "not from deep inside"
    )
    assert time.monotonic() - began < AT_ONCE_SECONDS


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"workers": "2"}, TypeError, "workers must be a whole number"),
        ({"workers": 2.0}, TypeError, "workers must be a whole number"),
        ({"workers": True}, TypeError, "workers must be a whole number"),
        ({"max_workers": float("nan")}, TypeError, "max_workers must be a whole number"),
        ({"workers": [2]}, TypeError, "workers must be a whole number"),
        ({"workers": 0}, ValueError, "greater than 0"),
        ({"workers": -3}, ValueError, "greater than 0"),
        ({"workers": numpy.int64(-3)}, ValueError, "greater than 0"),
        ({"nodes": "1"}, TypeError, "nodes must be a whole number"),
        ({"nodes": 0}, ValueError, "greater than 0"),
        ({"address": SEED, "nodes": 2}, ValueError, "only a local mesh"),
        ({"key": b"x" * 32}, TypeError, "path of a key file"),
        ({"key": 5}, TypeError, "path of a key file"),
        ({"key": ""}, ValueError, "leave it out"),
        ({"key": TOKEN}, ValueError, "as the address"),
        ({"key": "stealmeshkey1-abc"}, ValueError, "file's path"),
        ({"key": "/"}, JoinRefused, "is a directory"),
        ({"key": "/no/such/key"}, JoinRefused, "no mesh key"),
        ({"key": "/dev/null"}, JoinRefused, "not a regular file"),
        ({"config": 5}, TypeError, "stealmesh.Config"),
        ({"config": "mesh.toml"}, TypeError, "STEALMESH_CONFIG_FILE"),
        ({"config": {"beat_second": 1}}, ValueError, "did you mean beat_seconds?"),
        ({"config": {3: 4}}, ValueError, "unknown setting 3"),
        ({"config": {"beat_seconds": float("nan")}}, ValueError, "must be a number"),
        ({"config": {"beat_seconds": "soon"}}, ValueError, "must be a number"),
        ({"config": {"slice_items": 2.5}}, ValueError, "must be a whole number"),
        ({"config": {"replicas": True}}, ValueError, "must be a whole number"),
    ],
)
def test_an_argument_that_means_nothing_is_one_line_at_once(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as refused:
        stealmesh.Mesh(**arguments)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_key_that_its_user_may_not_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    file = tmp_path / "mesh.key"
    KEY.save(file)
    file.chmod(0)
    with pytest.raises(JoinRefused, match="check its owner"):
        stealmesh.Mesh(SEED, key=file)


def test_a_config_has_no_nan() -> None:
    with pytest.raises(ValueError, match="beat_seconds"):
        stealmesh.Config(beat_seconds=float("nan"))
