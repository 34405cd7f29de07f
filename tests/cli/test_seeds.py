from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from stealmesh.host.addresses import address_towards, is_loopback, is_own
from stealmesh.host.seeds import SeedsUnknown, checked, expand_nodelist, resolve, split


def no_lookup(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
    raise AssertionError("nothing here may look a name up")


def look(*seeds: str, **environment: str) -> list[str]:
    return resolve(seeds, environment, no_lookup)


def test_an_address_is_itself() -> None:
    assert look("tcp://10.0.0.5:7000", "ipc:///tmp/x") == ["tcp://10.0.0.5:7000", "ipc:///tmp/x"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("tcp://host", "tcp://host:7077"),
        ("tcp://host:1", "tcp://host:1"),
        ("tcp://[::1]", "tcp://[::1]:7077"),
        ("tcp://[::1]:9", "tcp://[::1]:9"),
        ("slurm://", "slurm://:7077"),
        ("slurm://:9", "slurm://:9"),
        ("dns://mesh.local", "dns://mesh.local:7077"),
        ("file:///x/y", "file:///x/y"),
    ],
)
def test_a_port_may_be_left_out(written: str, meant: str) -> None:
    assert checked(written) == meant


@pytest.mark.parametrize(
    "seed",
    [
        "host:7077", "http://host:1", "tcp://", "tcp://host:port", "tcp://host:99999", "tcp://:7077",
        "tcp://fe80::1:2", "file://", "env://", "dns://", "",
    ],
)  # fmt: skip
def test_nonsense_is_refused(seed: str) -> None:
    with pytest.raises(ValueError):
        checked(seed)


def test_commas_and_white_space_separate() -> None:
    assert split("a,b, c\n d,,") == ["a", "b", "c", "d"]


def test_the_same_address_counts_once() -> None:
    assert look("tcp://a:1", "tcp://b:1", "tcp://a:1") == ["tcp://a:1", "tcp://b:1"]


# ---------------------------------------------------------------- file


def test_a_file_is_read_anew_at_every_look(tmp_path: Path) -> None:
    file = tmp_path / "seeds"
    file.write_text("# ours\ntcp://a:1\n\n  tcp://b:2  # the old one\n")
    assert look(f"file://{file}") == ["tcp://a:1", "tcp://b:2"]
    file.write_text("tcp://c\n")
    assert look(f"file://{file}") == ["tcp://c:7077"]


def test_a_file_that_is_not_there_yet_is_unknown_for_now(tmp_path: Path) -> None:
    with pytest.raises(SeedsUnknown, match="check the path"):
        look(f"file://{tmp_path}/none")
    (tmp_path / "empty").write_text("# nothing yet\n")
    with pytest.raises(SeedsUnknown, match="names no address"):
        look(f"file://{tmp_path}/empty")


def test_what_is_unknown_is_passed_over_when_something_else_is_known(tmp_path: Path) -> None:
    assert look(f"file://{tmp_path}/none", "tcp://a:1") == ["tcp://a:1"]


def test_a_file_does_not_lead_to_files(tmp_path: Path) -> None:
    (tmp_path / "loop").write_text(f"file://{tmp_path}/loop\n")
    with pytest.raises(ValueError, match="the addresses themselves"):
        look(f"file://{tmp_path}/loop")


# ---------------------------------------------------------------- env


def test_a_variable_holds_a_list() -> None:
    assert look("env://PEERS", PEERS="tcp://a:1,tcp://b") == ["tcp://a:1", "tcp://b:7077"]


def test_a_variable_that_is_not_set_never_will_be() -> None:
    with pytest.raises(ValueError, match="PEERS is not set"):
        look("env://PEERS")
    with pytest.raises(ValueError):
        look("env://PEERS", PEERS="env://PEERS")


# ---------------------------------------------------------------- dns


def test_a_name_stands_for_all_its_addresses() -> None:
    def lookup(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        assert (host, port) == ("mesh.local", 7000)
        four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 7000))
        six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 7000, 0, 0))
        return [four, six, four]

    found = resolve(["dns://mesh.local:7000"], {}, lookup)
    assert found == ["tcp://10.0.0.1:7000", "tcp://[fd00::1]:7000"]


def test_a_name_without_addresses_is_unknown_for_now() -> None:
    def lookup(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(SeedsUnknown, match=r"mesh\.local"):
        resolve(["dns://mesh.local"], {}, lookup)


# ---------------------------------------------------------------- slurm


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("one", ["one"]),
        ("a,b", ["a", "b"]),
        ("tux[1-3]", ["tux1", "tux2", "tux3"]),
        ("tux[08-11]", ["tux08", "tux09", "tux10", "tux11"]),
        ("tux[01-02,7]-ib,login", ["tux01-ib", "tux02-ib", "tux7-ib", "login"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
    ],
)
def test_a_slurm_list_is_expanded(text: str, hosts: list[str]) -> None:
    assert expand_nodelist(text) == hosts


@pytest.mark.parametrize(
    "text", ["", "a[1-", "a]", "a[x]", "a[1-2-3]", "a[]", "a[1-999999999]", "a[0-999]b[0-999]"]
)
def test_a_slurm_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        expand_nodelist(text)


def test_slurm_hosts_become_addresses() -> None:
    found = look("slurm://:7000", SLURM_JOB_NODELIST="n[1-2]")
    assert found == ["tcp://n1:7000", "tcp://n2:7000"]
    with pytest.raises(ValueError, match="inside a Slurm job"):
        look("slurm://")
    with pytest.raises(ValueError, match="come from Slurm"):
        look("slurm://host:1", SLURM_JOB_NODELIST="n1")


# ---------------------------------------------------------------- this host


def test_loopback_is_reached_from_loopback() -> None:
    assert address_towards("tcp://127.0.0.1:7077") == "127.0.0.1"
    assert is_loopback("tcp://127.0.0.1:7077")
    assert not is_loopback("tcp://10.0.0.1:7077")


def test_a_node_knows_its_own_address_among_the_seeds() -> None:
    assert is_own("tcp://127.0.0.1:7077", "tcp://127.0.0.1:7077")
    assert is_own("tcp://localhost:7077", "tcp://127.0.0.1:7077")
    assert is_own("tcp://127.0.0.1:7077", "tcp://0.0.0.0:7077")
    assert is_own("tcp://mesh.example:1", "tcp://127.0.0.1:2", ["tcp://mesh.example:1"])
    assert not is_own("tcp://127.0.0.1:7078", "tcp://127.0.0.1:7077")
    assert not is_own("tcp://192.0.2.7:7077", "tcp://0.0.0.0:7077")
