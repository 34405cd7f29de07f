"""Chaos on real processes, small: it passes, it bites, and it leaves no process behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.patience import until

from stealmesh.examples import uts
from stealmesh.store.logfile import SURE
from stealmesh.store.records import read
from stealmesh_bench.chaos import jobs, postmortem, real, seats
from stealmesh_bench.chaos.real_durable import RealDurableStage
from stealmesh_bench.chaos.scenario import Bounds, ChaosFault, Scenario

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 60.0

JOBS = """
import time

def slow_square(x):
    time.sleep(0.01)
    return x * x

def squares(mesh):
    return sum(mesh.map(slow_square, range(300)))

squares.expected = sum(x * x for x in range(300))

def reference(mesh):
    return len(set(mesh.map(slow_square, range(200))))

def wrong(mesh):
    return sum(mesh.map(slow_square, range(100))) + 1

wrong.expected = sum(x * x for x in range(100))

def failing(mesh):
    return sum(mesh.map(len, [1]))

failing.expected = 0
"""


def chaos(*words: str, cwd: Path | None = None) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "stealmesh", "chaos", "--json", "--seed", "3", *words],
        capture_output=True,
        cwd=cwd,
        timeout=PATIENCE_SECONDS,
    )
    assert done.stdout, done.stderr.decode()
    said: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, said


def test_one_of_three_dies(tmp_path: Path) -> None:
    picture = tmp_path / "run.svg"
    status, said = chaos(
        "--nodes", "3", "--target", "victim", "--seconds", "4.5", "--plot", str(picture)
    )
    # The clock of a busy machine is no witness: what must not happen is.
    slow = ("recovered", "detection", "agreed")
    assert [breach for breach in said["verdict"] if not breach.startswith(slow)] in (
        [],
        list("pass"),
    )
    assert status in (0, 1)
    assert (said["killed"], said["lost"], said["duplicated"], said["stuck"]) == (1, 0, 0, 0)
    assert said["accepted"] > 100
    assert said["detection_p50_s"] is not None
    assert said["sim"] is False
    assert "victim" in picture.read_text()


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("wrong", 1),
        pytest.param("squares", 0, marks=pytest.mark.slow),
        pytest.param("reference", 0, marks=pytest.mark.slow),
        pytest.param("failing", 1, marks=pytest.mark.slow),
    ],
)
def test_a_users_own_job_is_compared_with_its_answer(
    tmp_path: Path, name: str, verdict: int
) -> None:
    (tmp_path / "mine.py").write_text(JOBS)
    status, said = chaos(
        "--scenario", "bootstrap", "--nodes", "2", "--seconds", "1", "--job", f"mine:{name}",
        cwd=tmp_path,
    )  # fmt: skip
    assert status == verdict, said
    assert said["workload"] == f"mine:{name}"
    assert said["wrong"] == (said["accepted"] if name == "wrong" else 0)
    assert said["lost"] == (1 if name == "failing" else 0)
    assert said["replay"].endswith(f"--job mine:{name}")


@pytest.mark.slow
def test_a_job_that_cannot_end_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """All nodes die and none comes back: the run notices, says so, and does not wait for ever."""
    monkeypatch.setattr(real, "PATIENCE_SECONDS", 3.0)
    fault = ChaosFault(1.0, "kill", (0, 1))
    scenario = Scenario("kill-one", 1, 2, (fault,), 3.0, Bounds(), agreement_from=1.0)
    report = real.play(scenario, "again")
    assert report.stuck == 1
    assert any(breach.startswith("progress") for breach in report.breaches)
    assert report.lost == 0


def test_what_a_worker_is_at_can_be_told() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert "State:" in postmortem.doing(child.pid)
    child.communicate(b"\n")
    assert "is not there" in postmortem.doing(child.pid)


def test_what_cannot_be_played_is_wrong_usage() -> None:
    for words in (
        ["--job", "no.such:thing"],
        ["--job", "os"],
        ["--scenario", "full-stop", "--job", "uts-t1"],
        ["--target", "durable-submitter", "--job", "uts-t1"],
        ["--target", "durable-submitter", "--job", "stream"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "stealmesh", "chaos", *words], capture_output=True
        )
        assert done.returncode == 2
        assert b"stealmesh chaos: " in done.stderr
        assert ("uts-t1" in words) == (b"--job uts-t1 cannot outlive its submitter" in done.stderr)


# ---------------------------------------------------------------- durable jobs


def stopped(work_seconds: float = 3.0) -> Scenario:
    """Three nodes and the submitter are killed at a third of the work and started half a second later."""
    everybody = (0, 1, 2)
    faults = [ChaosFault(1.0, "kill-submitter"), ChaosFault(1.0, "kill", everybody)]
    faults += [ChaosFault(1.5, "start", (number,)) for number in everybody]
    return Scenario(
        "full-stop", 1, 3, tuple(faults), 10.0, Bounds(), 1.5, 1.5, work_seconds=work_seconds
    )


def test_a_full_stop() -> None:
    report = real.play(stopped(), "again", job="tasks")
    assert report.verdict == "pass"
    assert (report.killed, report.accepted) == (4, 900)
    assert (report.lost, report.duplicated, report.stuck, report.wrong) == (0, 0, 0, 0)
    assert report.run_twice is not None
    assert report.in_flight is not None
    assert report.run_twice <= report.in_flight < 900
    assert report.flowing_again_s is not None


@pytest.mark.parametrize(("second", "breaches"), [(3.0, 0), (12.0, 1)])
def test_what_was_safe_at_a_full_stop_may_have_run_twice_before(
    second: float, breaches: int
) -> None:
    """A full disk ended a node, and what its workers had ran again elsewhere. The first node is back after 10 s."""
    said: Any = SimpleNamespace(
        account=SimpleNamespace(failed=[]), report=SimpleNamespace(notes=[], in_flight=None)
    )
    said.logs, said.left, said.stopped_at, said.back_at = (b"",), None, 8.0, 10.0
    submitter: Any = SimpleNamespace(wrong="", collected=2)
    ran = {0: [1.0], 1: [2.0, second], 2: [7.9, 11.0]}
    RealDurableStage._judge_repeats(said, ran, submitter)
    assert len(said.account.failed) == breaches
    assert said.report.in_flight == 1 + (second < 10.0)
    assert "0.100 s before the stop" in said.report.notes[0] or breaches


@pytest.mark.slow
def test_a_full_stop_that_forgets_is_a_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every disk loses the last third of its records: what it had is run again, and that is found out."""
    right = seats.Seats.disks

    def disks(self: seats.Seats) -> tuple[bytes, ...]:
        before = right(self)
        for log in Path(self._states).parent.glob("state-*/durable.log"):
            places = read(log.read_bytes()).places
            os.truncate(log, places[2 * len(places) // 3][0])
            (log.parent / SURE).unlink()
        return before

    monkeypatch.setattr(seats.Seats, "disks", disks)
    report = real.play(stopped(), "again", job="tasks")
    assert any("were run again though they were safe" in each for each in report.breaches)
    assert any(each.startswith("run_twice: ") for each in report.breaches)


def test_the_submitter_of_a_durable_job_is_killed() -> None:
    faults = (ChaosFault(1.0, "kill-submitter"),)
    scenario = Scenario("kill-one", 1, 2, faults, 10.0, Bounds(), 1.0, 1.0, work_seconds=2.5)
    report = real.play(scenario, "again", job="tasks")
    assert (report.verdict, report.killed, report.accepted) == ("pass", 1, 500)
    assert (report.lost, report.duplicated, report.run_twice) == (0, 0, 0)
    assert report.flowing_again_s is not None


def test_a_search_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goodput comes from partial counts, and a node that is not counted is a lost one."""
    monkeypatch.setattr(jobs, "TREE", "T1-d9")
    scenario = Scenario("bootstrap", 1, 2, (), 1.0, Bounds(), together=True)
    report = real.play(scenario, "again", job="uts-t1")
    assert report.verdict == "pass"
    assert report.accepted is not None
    assert report.accepted % 1_031_269 == 0
    assert sum(rate for _, rate in report.timeline) > 0
    right = uts.TREES["T1-d9"]
    assert right.expected is not None
    more = right.expected._replace(nodes=right.expected.nodes + 1)
    monkeypatch.setitem(uts.TREES, "T1-d9", replace(right, expected=more))
    report = real.play(scenario, "again", job="uts-t1")
    assert report.wrong
    assert report.lost == report.wrong


# ---------------------------------------------------------------- no process is left behind


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a name short enough for local sockets in it."""
    with tempfile.TemporaryDirectory(prefix="chaos", dir="/tmp") as made:
        yield Path(made)


@contextlib.contextmanager
def running(directory: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run in the middle of its timetable."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stealmesh", "chaos", "--nodes", "3", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(directory)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def all_below(root: int) -> set[int]:
    """The process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def test_ctrl_c_takes_everybody_down(short: Path) -> None:
    with running(short, "--scenario", "pauses", "--seed", "24") as process:
        # Ourselves, the proxy or none, three nodes, three fork servers, three workers; one stands still.
        until(lambda: any(map(is_stopped, all_below(process.pid))))
        everybody = all_below(process.pid)
        assert len(everybody) >= 10
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 130
        until(lambda: not any(map(is_there, everybody)))
    assert list(short.iterdir()) == []


@pytest.mark.slow
def test_a_killed_run_takes_everybody_down(short: Path) -> None:
    """Also a node that stands still at that moment, and the proxy."""
    with running(short, "--scenario", "pauses", "--seed", "24") as process:
        until(lambda: any(map(is_stopped, all_below(process.pid))))
        everybody = all_below(process.pid)
        process.kill()
        until(lambda: not any(map(is_there, everybody)))
