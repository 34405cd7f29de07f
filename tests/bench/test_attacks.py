"""The measurements of attacks: what they count, and what they say of it. No figure decides anything here."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from stealmesh_bench import disturbed, encryption, strangers


def test_strangers_knock_and_see_who_hangs_up() -> None:
    """At something that hangs up on everybody at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            told = strangers.flood("127.0.0.1", server.getsockname()[1], 400, 0.4)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert 0 < told["connections"] <= 160
    assert 0 < told["ended by the node"] <= told["connections"]


@pytest.mark.parametrize(("during", "status"), [(0.9, 0), (0.5, 1)])
def test_a_share_below_the_bound_fails_the_run(
    during: float, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    newcomer = strangers.NewNode.__new__(strangers.NewNode)
    newcomer.node_seconds, newcomer.program_seconds, newcomer.fault = 1.0, 1.0, ""
    told = {"connections": 1000, "milliseconds": 1000}
    pairs = [(2.0, 1.0)], [(2.0 * during, 1.0)]
    assert strangers.report(*pairs, told, Counter(), newcomer, lives=True, grown=0) == status
    assert f"{100 * during:.0f} % of undisturbed" in capsys.readouterr().out
    newcomer.program_seconds = -1.0
    assert strangers.report(*pairs, told, Counter(), newcomer, lives=True, grown=0) == 1


def test_calls_beside_an_attack_are_told_from_those_around_it(tmp_path: Path) -> None:
    waits = tmp_path / "waits"
    lines = [
        ["tests/a.py::test_x[1] (call)", [1.0, 2.0, 3.0], 1, 2],
        ["tests/a.py::test_x[2] (call)", [4.0, 5.0], 0, 1],
    ]
    waits.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert disturbed.told_in(waits) == {"tests/a.py::test_x": ([2.0, 4.0], [1.0, 3.0, 5.0])}
    assert disturbed.p99([1.0, 9.0]) == 9.0
    assert disturbed.p99([1.0] * 990 + [9.0] * 10) < 9.0


def test_the_way_to_leave_encryption_out_still_fits_the_transport() -> None:
    source = Path(strangers.__file__).parents[2] / "nodes" / "stealmesh" / "transport"
    (line,) = [each for each in encryption.NO_KEYS.splitlines() if "keys = b" in each]
    assert line.split('b"')[1].rstrip('"') in (source / "transport.py").read_text()
