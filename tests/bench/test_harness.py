"""The bench harness: every measurement works at tiny size, and its figures mean what they say.

No figure is judged here: how fast something is depends on the machine, that it is right does not.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stealmesh.examples import primes
from stealmesh_bench import __main__ as command
from stealmesh_bench import exact, metg, printed_lines, record, single, startup
from stealmesh_bench.compare import Plan, alternate, rows
from stealmesh_bench.memory import Sampler, family, peak_mib, resident_mib
from stealmesh_bench.peers import PPE, STANDARD, STEALMESH
from stealmesh_bench.record import Row, Target
from stealmesh_bench.stand import BenchError, Stand, WrongResult
from stealmesh_bench.suite import SUITE
from stealmesh_bench.table import as_table, short
from stealmesh_bench.workloads import logged, residues

# ---------------------------------------------------------------- every measurement, tiny


@pytest.mark.real
@pytest.mark.parametrize("name", SUITE)
def test_a_measurement_works(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.jsonl"
    assert command.main([name, "--quick", "--json", "--record", str(file)]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == [json.loads(line) for line in file.read_text().splitlines()]
    assert {"workload", "peer", "value", "unit", "ratio_to_ppe", "runs"} <= printed[0].keys()
    assert all(each["runs"] == 1 and math.isfinite(each["value"]) for each in printed)
    aims = [each["met"] for each in printed if each["peer"] == STEALMESH]
    assert aims
    assert name == "virtual" or any(met is not None for met in aims), "pure alone has no aim there"


@pytest.mark.real
def test_printed_lines_are_all_accounted_for(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--lines", "20000", "--items", "8", "--micros", "1", "--pairs", "1", "--workers", "2"]
    assert printed_lines.main(argv) == 0
    assert "lost or in disorder: 0" in capsys.readouterr().out


# ---------------------------------------------------------------- stands


def test_a_stand_answers() -> None:
    with Stand() as plain:
        assert plain.run(repr) == "None"  # no peer was asked for
        assert plain.pid != os.getpid()


def test_what_is_printed_over_there_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with Stand() as plain:
        assert plain.run(print, end="talk") is None
        assert plain.run(repr) == "None"
    assert "talk" in capfd.readouterr().err


def test_a_failure_over_there_is_told_here() -> None:
    with Stand() as plain:
        with pytest.raises(BenchError, match="TypeError"):
            plain.run(len)
        assert plain.run(repr) == "None"


def test_a_stand_that_dies_is_noticed() -> None:
    with Stand() as plain, pytest.raises(BenchError, match="died"):
        plain.run(sys.exit)


def test_a_stand_that_says_nothing_is_ended() -> None:
    with Stand() as plain:
        plain.ask(input)  # waits for a line that never comes
        with pytest.raises(BenchError, match="no answer"):
            plain.answer(seconds_max=0.2)


def test_a_wrong_result_is_no_figure() -> None:
    class Liar:
        def gather(self, function: object, items: range) -> list[int]:
            return list(items)

    with pytest.raises(WrongResult):
        single.tasks_per_second(Liar(), 10)  # type: ignore[arg-type]


@pytest.mark.real
@pytest.mark.parametrize("name", STANDARD)
def test_a_peer_leaves_nobody_behind(name: str) -> None:
    with Stand(name) as one:
        one.run(single.tasks_per_second, tasks=4)
        members = family(one.pid)
        assert len(members) >= 3
    assert not [pid for pid in members if _is_alive(pid)]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# ---------------------------------------------------------------- rounds and rows


def test_rounds_alternate_strictly() -> None:
    order: list[str] = []
    said = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(each) for name, each in said.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_the_median_of_neighbours() -> None:
    ours, ppe = rows("w", "u", {STEALMESH: [10.0, 80.0, 30.0], PPE: [10.0, 40.0, 10.0]})
    assert (ours.value, ours.ratio_to_ppe) == (30.0, 2.0)  # not 30 / 10
    assert (ppe.value, ppe.ratio_to_ppe) == (10.0, 1.0)


def test_without_ppe_there_is_no_ratio() -> None:
    (ours,) = rows("w", "u", {STEALMESH: [10.0]}, Target("ratio", "least", 1))
    assert ours.ratio_to_ppe is None
    assert ours.is_met is False


def test_the_target_is_ours_alone() -> None:
    ours, ppe = rows("w", "u", {STEALMESH: [3.0], PPE: [1.0]}, Target("ratio", "most", 2))
    assert ours.is_met is False
    assert ppe.is_met is None


@pytest.mark.parametrize(
    ("at", "value", "met"),
    [("least", 2.0, True), ("least", 1.9, False), ("most", 2.0, True), ("most", 2.1, False)],
)
def test_a_target_includes_its_bound(at: Any, value: float, met: bool) -> None:
    assert Row("w", STEALMESH, "u", [value], target=Target("value", at, 2)).is_met is met


@pytest.mark.parametrize(("summary", "value"), [("median", 0.0), ("max", 2.0), ("sum", 3.0)])
def test_one_wrong_answer_does_not_vanish(summary: Any, value: float) -> None:
    assert Row("w", STEALMESH, "wrong", [0, 0, 0, 1, 2], summary=summary).value == value


@pytest.mark.real
def test_an_answer_other_than_the_published_one_is_counted_as_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _undisturbed("1000")["wrong"] == 0
    monkeypatch.setitem(primes.PI, 1000, 169)
    assert _undisturbed("1000")["wrong"] == 1


def _undisturbed(job: str) -> dict[str, float]:
    return exact.ended(None, job, victims=0, respawn=True, moments=[], seed=0)


def test_a_wrong_answer_is_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Row("w", STEALMESH, exact.UNIT, [0, 1], summary="sum")
    monkeypatch.setitem(SUITE, "single", lambda plan: [found])
    assert command.main(["single", "--json", "--no-record"]) == 1
    assert json.loads(capsys.readouterr().out)["value"] == 1


def test_a_measurement_that_fails_does_not_stop_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(plan: Plan) -> list[Row]:
        raise WrongResult("[nonsense]")

    monkeypatch.setitem(SUITE, "single", fails)
    monkeypatch.setitem(SUITE, "latency", lambda plan: [Row("w", STEALMESH, "u", [1.0])])
    assert command.main(["single", "latency", "--json", "--no-record"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["workload"] == "w"
    assert "[nonsense]" in said.err


@pytest.mark.parametrize("wrong", [["nonsense"], ["--peers", "nobody"], ["--repeats", "0"]])
def test_wrong_usage(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(wrong)
    assert ended.value.code == 2


def test_what_is_recorded_says_where_it_was_made(tmp_path: Path) -> None:
    setting = record.Setting(record.machine(), "abc", 0.1, 0.2, quick=False)
    file = tmp_path / "results.jsonl"
    for value in (1.0, 2.0):
        record.append(record.as_objects([Row("w", PPE, "u", [value])], setting), file)
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["value"], second["value"]) == (1.0, 2.0)
    assert first["commit"] == "abc"
    assert first["machine"].keys() == {
        "cpu", "cores", "kernel", "python", "load_before", "load_after",
    }  # fmt: skip


def test_results_live_in_the_clone() -> None:
    assert record.default_path() == Path(__file__).parents[2] / "bench" / "results.jsonl"


def test_a_table_names_everything() -> None:
    screen = Console(width=140, record=True, file=io.StringIO())
    met = Row("w", STEALMESH, "µs", [1.5], ratios=[2.0], target=Target("value", "most", 2))
    screen.print(as_table([met], "title"))
    text = screen.export_text()
    assert all(
        word in text for word in ("title", "w", STEALMESH, "1.5", "µs", "2 (2 … 2)", "≤ 2 ✓")
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (45.67, "45.7"), (12_345.6, "12,346"), (4_312_000, "4.31 M")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


# ---------------------------------------------------------------- METG


def test_metg_is_where_efficiency_falls_through_half() -> None:
    """A peer that costs 40 µs a task is half efficient with tasks of 40 µs."""
    points = metg.curve(lambda seconds: seconds / (seconds + 40e-6), 3.2e-3)
    assert metg.crossing(points) == pytest.approx(40e-6, rel=0.03)


def test_metg_looks_for_longer_tasks_where_the_first_is_too_short() -> None:
    points = metg.curve(lambda seconds: seconds / (seconds + 5e-3), 3.2e-3)
    assert metg.crossing(points) == pytest.approx(5e-3, rel=0.03)


def test_metg_takes_no_hiccup_for_the_crossing() -> None:
    def efficiency(seconds: float) -> float:
        return 0.1 if 0.7e-3 < seconds < 0.9e-3 else seconds / (seconds + 40e-6)

    assert metg.crossing(metg.curve(efficiency, 3.2e-3)) == pytest.approx(40e-6, rel=0.03)


def test_metg_of_a_peer_without_costs_or_without_work() -> None:
    assert metg.crossing(metg.curve(lambda seconds: 1.0, 32e-6)) is None
    assert metg.crossing(metg.curve(lambda seconds: 0.0, 32e-6)) is None


# ---------------------------------------------------------------- memory, residues, traces


def test_memory_of_this_process() -> None:
    held = resident_mib(os.getpid())
    assert held is not None
    assert 5 < held <= peak_mib()


def test_a_sampler_sees_growth() -> None:
    with Sampler(os.getpid(), interval_seconds=0.001) as sampler:
        seen = sampler.seen[os.getpid()]
        while len(seen) < 10:
            time.sleep(0.001)
        much = b"x" * (64 << 20)
        until = len(seen) + 20
        while len(seen) < until:
            time.sleep(0.001)
    assert sampler.growth_mib > (len(much) >> 20) - 8


@pytest.mark.parametrize("n", [0, 1, 1009, 1_022_117, 1_022_118, 3_000_000])
def test_residues_agree_with_arithmetic(n: int) -> None:
    assert residues.count_alike(range(n)) == residues.expected(n)


def test_residues_in_parts_add_up() -> None:
    assert sum(
        residues.count_alike(range(lo, lo + 250_000)) for lo in range(0, 10**6, 250_000)
    ) == residues.expected(10**6)


def test_executions_are_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    for index in (0, 1, 1):
        assert logged.logged_sleep(path, index, 0.0) == index
    assert logged.executions(path) == {0: 1, 1: 2}


def test_an_import_is_timed_in_a_fresh_interpreter() -> None:
    said = startup.import_milliseconds("import json", dict(os.environ))
    assert said["ms"] > 0
    assert not said[startup.NUMPY]


def test_numpy_is_noticed() -> None:
    assert startup.import_milliseconds("import numpy", dict(os.environ))[startup.NUMPY]
