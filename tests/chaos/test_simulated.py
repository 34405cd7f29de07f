"""Scenarios in virtual time: they pass, they repeat themselves, and they bite."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from stealmesh.store import Identity, read, written
from stealmesh.store.logfile import FILE
from stealmesh_bench.chaos import main
from stealmesh_bench.chaos.named import SCENARIOS
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owner import Owner
from stealmesh_engine.ledger.verdicts import Credited, Verdict
from stealmesh_engine.membership.changes import Change
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.membership.membership import Membership
from stealmesh_engine.membership.supernodes import Supernodes
from stealmesh_protocol.ids import LeaseId, PeerId
from stealmesh_sim.disks import VirtualDisk

FIELDS = (
    "scenario", "seed", "nodes", "sim", "killed", "lost", "duplicated", "run_twice", "stuck",
    "detection_p50_s", "detection_p99_s", "false_verdicts", "recovered_90_s", "recovered_97_s",
    "supernodes_restored_s", "control_messages_per_leaf_s", "control_bytes_per_leaf_s", "wall_s",
    "simulated_s", "verdict", "replay",
)  # fmt: skip
SLOW = {"skype-build", "skype-actual", "random"}
PLAYABLE = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SCENARIOS
]
SHORTER = {"killers": ("--seconds", "8"), "full-stop": ("--seconds", "4")}


def run(
    capsys: pytest.CaptureFixture[str], name: str, *more: str, nodes: int = 6
) -> tuple[int, dict[str, Any]]:
    status = main(
        ["--sim", "--scenario", name, "--nodes", str(nodes), "--json", "--seed", "5", *more]
    )
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, said


@pytest.mark.parametrize("name", PLAYABLE)
def test_every_promise_is_kept(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, said = run(capsys, name, *SHORTER.get(name, ()))
    assert said["verdict"] == "pass"
    assert status == 0
    assert set(FIELDS) <= said.keys()
    assert (said["scenario"], said["seed"], said["nodes"], said["sim"]) == (name, 5, 6, True)
    assert (said["lost"], said["duplicated"], said["stuck"]) == (0, 0, 0)
    assert said["simulated_s"] > 0
    if name in ("kill-one", "killers", "skype-card"):
        assert said["killed"] > 0
        assert said["detection_p99_s"] <= 2.5


def test_a_random_world_is_one_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sim", "--scenario", "random", "--seed", "9", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(FIELDS) <= said.keys()
    assert said["replay"] == "stealmesh chaos --scenario random --sim --seed 9"


def test_the_replay_line_repeats_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    _, first = run(capsys, "skype-herd", "--seconds", "9")
    words = shlex.split(first["replay"])
    assert words[:2] == ["stealmesh", "chaos"]
    traces = []
    for hashing in ("0", "1"):
        again = subprocess.run(
            [sys.executable, "-m", "stealmesh", *words[1:], "--json"],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            check=True,
        )
        traces.append(json.loads(again.stdout)["trace"])
    assert traces == [first["trace"]] * 2
    assert run(capsys, "skype-herd", "--seconds", "8")[1]["trace"] != first["trace"]


def test_a_machine_that_goes_off_is_noticed_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "kill-one", "--silent")
    assert status == 0
    assert 1.0 < said["detection_p50_s"] <= said["detection_p99_s"] <= 2.5


@pytest.mark.parametrize("target", ["seed", "entry", "victim", "submitter", "durable-submitter"])
def test_any_part_may_die(capsys: pytest.CaptureFixture[str], target: str) -> None:
    status, said = run(capsys, "kill-one", "--target", target)
    assert (status, said["verdict"], said["killed"]) == (0, "pass", 1)
    assert f"--target {target}" in said["replay"]


def test_after_a_full_stop_nothing_safe_is_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "full-stop", "--seconds", "4", nodes=5)
    assert (status, said["killed"], said["lost"]) == (0, 6, 0)
    assert 0 < said["run_twice"] <= said["in_flight"] < said["accepted"] / 10
    assert said["flowing_again_s"] < 3.0


def test_who_collects_for_a_dead_submitter_is_given_all(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "kill-one", "--target", "durable-submitter", nodes=4)
    assert (status, said["killed"], said["run_twice"], said["in_flight"]) == (0, 1, 0, None)
    assert said["flowing_again_s"] is not None


def test_several_runs_have_a_seed_each(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "kill-one", "--runs", "2", "--seconds", "7", nodes=4)
    assert status == 0
    assert [each["seed"] for each in said["runs"]] == [5, 6]
    assert said["killed"] == 2
    assert said["replay"].endswith("--runs 2")


def test_nobody_to_kill_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Supernodes, "_serve", lambda self, now, why: None)
    assert main(["--sim", "--scenario", "skype-super", "--nodes", "4"]) == 2
    assert "supernode" in capsys.readouterr().err


@pytest.mark.slow
def test_a_supernode_can_be_killed_by_its_part(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "kill-one", "--target", "supernode")
    assert (status, said["killed"]) == (0, 1)
    assert said["supernodes_restored_s"] is not None


# ---------------------------------------------------------------- it bites


def a_credit_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """One contribution is booked and never handed over."""
    right = IndexedLedger.credit
    calls = [0]

    def credit(self: IndexedLedger, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        calls[0] += 1
        verdict = right(self, holder, lid, lo, hi)
        return Credited([]) if calls[0] == 50 else verdict

    monkeypatch.setattr(IndexedLedger, "credit", credit)


def everything_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report counts, even if it was counted before."""
    right = IndexedLedger.credit
    calls = [0]

    def credit(self: IndexedLedger, holder: PeerId, lid: LeaseId, lo: int, hi: int) -> Verdict:
        calls[0] += 1
        verdict = right(self, holder, lid, lo, hi)
        if calls[0] % 50 == 0 and isinstance(verdict, Credited):
            return Credited([*verdict.intervals, *verdict.intervals])
        return verdict

    monkeypatch.setattr(IndexedLedger, "credit", credit)


def the_dead_keep_their_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Owner, "fence", lambda self, holder, now: None)
    monkeypatch.setattr(Owner, "expire", lambda self, now: None)


def nobody_is_ever_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "next_look", lambda self: None)


def a_suspect_is_dead_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No beats are heard, and no peer gets the chance to answer."""
    monkeypatch.setattr(Detector, "heard", lambda self, peer, now: False)
    right = Membership.suspect

    def suspect(self: Membership, peer: PeerId, now: float) -> Change:
        if peer in self.charges.peers:
            return self.verdicts.dead(peer, now, "silent")
        return right(self, peer, now)

    monkeypatch.setattr(Membership, "suspect", suspect)


def nobody_takes_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first three serve; after them none does."""
    right = Supernodes._serve
    calls = [0]

    def serve(self: Supernodes, now: float, why: str) -> None:
        calls[0] += 1
        if calls[0] <= 3:
            right(self, now, why)

    monkeypatch.setattr(Supernodes, "_serve", serve)


def _only(disk: VirtualDisk, share: float) -> None:
    """A disk with only this much of the log; nothing says that there was more."""
    reading = read(disk.octets)
    assert reading.identity is not None
    kept = reading.records[: int(len(reading.records) * share)]
    disk.platter.files.clear()
    disk.platter.write(FILE, 0, written(Identity(reading.identity.seat), kept))


def the_disks_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they said was sure is not there after the crash."""
    right = VirtualDisk.crash

    def crash(self: VirtualDisk) -> None:
        right(self)
        _only(self, 0.5)

    monkeypatch.setattr(VirtualDisk, "crash", crash)


def the_disks_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    right = VirtualDisk.crash

    def crash(self: VirtualDisk) -> None:
        right(self)
        _only(self, 0.0)

    monkeypatch.setattr(VirtualDisk, "crash", crash)


@pytest.mark.parametrize(
    ("mutate", "name", "breach"),
    [
        pytest.param(the_disks_lie, "full-stop", ("repeated",), marks=pytest.mark.slow),
        (the_disks_are_empty, "full-stop", ("lost", "the job is gone")),
        (a_credit_is_dropped, "kill-one", ("lost", "delivery")),
        (everything_counts, "kill-one", ("duplicated",)),
        (the_dead_keep_their_leases, "skype-card", ("stuck",)),
        (nobody_is_ever_suspected, "kill-one", ("membership", "recovered", "stuck")),
        (a_suspect_is_dead_at_once, "kill-one", ("false_verdicts",)),
        (nobody_takes_their_place, "skype-super", ("supernodes_restored_s",)),
    ],
)
def test_a_broken_engine_fails(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mutate: Callable[[pytest.MonkeyPatch], None],
    name: str,
    breach: tuple[str, ...],
) -> None:
    mutate(monkeypatch)
    silent = ["--silent"] if mutate is nobody_is_ever_suspected else []
    seconds = "4" if name == "full-stop" else "7"
    status, said = run(capsys, name, "--seconds", seconds, *silent, nodes=4)
    assert status == 1
    assert any(each.startswith(breach) for each in said["verdict"]), said["verdict"]
