"""The harness that breaks peers: what it counts, what it hits, and that it leaves no process behind.

No dask and no Ray here: a peer made of paper plays every part.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from stealmesh_bench import chaos_peers, peer_chaos, peer_chaos_run
from stealmesh_bench.chaos_peers import MARK, Finished, Task, marked, pick
from stealmesh_bench.peer_chaos import PeerOutcome, as_object, as_table, compared, judged
from stealmesh_bench.peer_chaos_run import FAULTS, Said
from stealmesh_bench.stand import BenchError

PLAN = {"items": 10, "seconds": 0.0, "limit": 0.3, "seed": 0}


class Paper:
    """Runs tasks where it stands; `bend` may change what comes of the tasks of the job."""

    def __init__(self, bend: Callable[[list[Finished]], list[Finished]], victim: int) -> None:
        self._bend = bend
        self._victim = victim
        self._done: list[Finished] = []

    def parts(self) -> dict[str, list[list[int]]]:
        return {"worker": [[self._victim]], "centre": [[self._victim]]}

    def start(self, task: Task, items: Sequence[int]) -> None:
        done: list[Finished] = [(item, task(item)) for item in items]
        self._done = self._bend(done) if items[0] == 0 else done

    def finished(self) -> list[Finished]:
        taken, self._done = self._done[:2], self._done[2:]
        return taken


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def break_paper(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, victim: subprocess.Popen[bytes]
) -> Callable[..., PeerOutcome]:
    def broken(
        bend: Callable[[list[Finished]], list[Finished]] = list, fault: str = "nothing"
    ) -> PeerOutcome:
        monkeypatch.setitem(
            chaos_peers.PEERS,
            "paper",
            lambda directory: contextlib.nullcontext(Paper(bend, victim.pid)),
        )
        said = peer_chaos_run.run("paper", fault, tmp_path, PLAN)
        peer_chaos_run._save(tmp_path, said)
        return judged("paper", fault, 10, tmp_path, "")

    return broken


def test_a_run_without_a_flaw(break_paper: Callable[..., PeerOutcome]) -> None:
    outcome = break_paper()
    assert outcome.is_perfect
    assert (outcome.right, outcome.lost, outcome.run_twice, outcome.after) == (10, 0, 0, "yes")


def test_an_error_instead_of_a_result_is_a_loss_with_a_name(
    break_paper: Callable[..., PeerOutcome],
) -> None:
    outcome = break_paper(lambda done: [*done[:8], (8, KeyError("x")), (9, OSError())])
    assert (outcome.right, outcome.lost, outcome.unresolved) == (8, 2, 0)
    assert outcome.errors == {"KeyError": 1, "OSError": 1}
    assert not outcome.is_perfect


def test_what_never_comes_is_not_waited_for_for_ever(
    break_paper: Callable[..., PeerOutcome],
) -> None:
    outcome = break_paper(lambda done: done[:7])
    assert (outcome.right, outcome.lost, outcome.unresolved) == (7, 3, 3)


def test_a_wrong_result_is_none(break_paper: Callable[..., PeerOutcome]) -> None:
    outcome = break_paper(lambda done: [*done[:9], (9, 7)])
    assert (outcome.right, outcome.wrong) == (9, 1)
    assert not outcome.is_perfect


def test_a_result_that_comes_twice_is_seen(break_paper: Callable[..., PeerOutcome]) -> None:
    outcome = break_paper(lambda done: [done[0], *done])
    assert outcome.repeated == 1
    assert not outcome.is_perfect


def test_the_victim_is_hit(
    break_paper: Callable[..., PeerOutcome], victim: subprocess.Popen[bytes]
) -> None:
    assert break_paper(fault="centre killed").is_perfect
    assert victim.wait(30) == -9


@pytest.mark.parametrize("fault", ["2 of 4 workers killed", "2 of 4 nodes killed"])
def test_a_fault_without_a_counterpart_does_not_apply(
    break_paper: Callable[..., PeerOutcome], fault: str
) -> None:
    outcome = break_paper(fault=fault)
    assert not outcome.applies
    assert not outcome.is_perfect


def test_a_caller_that_was_taken_down_has_said_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("0 0.5\n1 0.75\n")
    (tmp_path / "executions").write_text("0\n1\n1\n2\n")
    outcome = judged("ray", "centre killed", 3, tmp_path, "ended with status 1")
    assert (outcome.right, outcome.unresolved, outcome.run_twice) == (2, 1, 1)
    assert outcome.seconds == 0.75
    assert outcome.caller == "ended with status 1"
    (tmp_path / "results").write_text("0 0.5\n1 0.75\n2 0.8\n")
    (tmp_path / "job.json").write_text(json.dumps(vars(Said())))
    later = judged("ray", "centre killed", 3, tmp_path, "ended with status 1")
    assert (later.lost, later.unresolved) == (0, 0)
    assert not later.is_perfect, "its results are there, its program is not"


def test_a_peer_that_does_not_come_up_is_no_figure() -> None:
    with pytest.raises(BenchError, match="before the job began"):
        peer_chaos.measure("nobody", "nothing", items=1, seconds=0.0, limit=1.0, seed=0)


def test_overhead_is_beside_the_same_peer() -> None:
    fine, slow, lossy, other = compared(
        [
            PeerOutcome("a", "nothing", 1, right=1, seconds=10.0),
            PeerOutcome("a", "centre killed", 1, right=1, seconds=12.5),
            PeerOutcome("a", "1 worker killed", 2, right=1, seconds=3.0),
            PeerOutcome("b", "centre killed", 1, right=1, seconds=9.0),
        ]
    )
    assert (fine.overhead_seconds, slow.overhead_seconds) == (0.0, 2.5)
    assert lossy.overhead_seconds is None, "not having done the work is not being fast"
    assert other.overhead_seconds is None
    assert as_object(lossy)["lost"] == 1


def test_a_table_shows_what_looks_bad() -> None:
    screen = Console(width=250, record=True, file=io.StringIO())
    bad = PeerOutcome(
        "ray", "centre killed", 9, right=7, errors={"OhNo": 2}, caller="hangs", repeated=3
    )
    screen.print(as_table([bad, PeerOutcome("ray", "2 of 4 nodes killed", 9, applies=False)]))
    text = screen.export_text()
    assert all(word in text for word in ("OhNo × 2", "program itself hangs", "REPEATED × 3", "–"))


def test_victims_are_chosen_by_the_seed() -> None:
    groups = [[n, 10 + n] for n in range(4)]
    assert pick(groups, 2, 1) == pick(groups, 2, 1)
    assert len({tuple(pick(groups, 2, seed)) for seed in range(20)}) > 3
    with pytest.raises(BenchError):
        pick(groups, 5, 1)


def test_only_processes_of_the_run_are_ended(tmp_path: Path) -> None:
    def start(run: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"],
            env=os.environ | {MARK: run},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    run = str(tmp_path / "run")
    with start(run) as caller, start(run) as child, start(run + "2") as stranger:
        for each in (caller, child, stranger):
            assert each.stdout is not None
            assert each.stdout.readline() == b"up\n"
        assert set(marked(run)) == {caller.pid, child.pid}
        # A zombie has no environment any more, so it is not taken for alive.
        peer_chaos.end_all(run, caller)
        assert child.wait(30) == -9
        assert stranger.poll() is None
        stranger.kill()


def test_who_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(chaos_peers.NEEDS, "ray", "no_such_module_anywhere")
    assert peer_chaos.main(["--peers", "ray", "--json"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("ray is not installed") == len(FAULTS)


@pytest.mark.real
def test_a_real_run_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--peers", "stealmesh", "--tasks", "80", "--fault", "centre killed", "--json"]
    assert peer_chaos.main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["right"], told["lost"], told["errors"], told["after"]) == (80, 0, {}, "yes")
