"""Disks that fail, in virtual time: nothing safe is lost or run again, and each scenario can fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from stealmesh.store import LogFile, records
from stealmesh.store.records import LogReading
from stealmesh_bench.chaos import main
from stealmesh_engine.durable.wal import WriteAheadLog
from stealmesh_engine.events import Written
from stealmesh_sim.disks import VirtualDisk

Mutate = Callable[[pytest.MonkeyPatch], None]


def run(
    capsys: pytest.CaptureFixture[str], name: str, target: str, seed: int = 5
) -> tuple[int, dict[str, Any]]:
    status = main(
        ["--sim", "--scenario", name, "--target", target, "--nodes", "4", "--json", "--seed", str(seed)]
    )  # fmt: skip
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, said


@pytest.mark.parametrize("target", ["minority", "all"])
@pytest.mark.parametrize("name", ["disk-bitflip", "disk-truncated", "disk-unsynced", "disk-full"])
def test_what_was_safe_stays_safe(
    capsys: pytest.CaptureFixture[str], name: str, target: str
) -> None:
    status, said = run(capsys, name, target)
    assert said["verdict"] == "pass"
    assert status == 0
    assert (said["lost"], said["duplicated"], said["stuck"]) == (0, 0, 0)
    assert f"--target {target}" in said["replay"]


@pytest.mark.parametrize("seed", [9, 12])
def test_what_a_full_disk_s_node_had_may_run_again(
    capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """It ends before the full stop, and is no part of what was in flight then."""
    status, said = run(capsys, "disk-full", "minority", seed)
    assert said["verdict"] == "pass"
    assert status == 0


# ---------------------------------------------------------------- and they bite


def yesterdays_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: the first record that is wrong ends the log, silently."""

    def read(octets: bytes) -> LogReading:
        reading = records.read(octets)
        end = reading.damage[0][0] if reading.damage else len(octets)
        pairs = zip(reading.records, reading.places, strict=True)
        return LogReading(reading.identity, [each for each, (at, _) in pairs if at < end])

    monkeypatch.setattr("stealmesh.store.logfile.read", read)
    _nothing_is_ever_lost(monkeypatch)


def _nothing_is_ever_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged log keeps its seat: its keeper is counted among those who have everything."""
    monkeypatch.setattr("stealmesh.store.logfile._what_is_lost", lambda *_: (0, ""))


def acknowledged_before_it_is_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WriteAheadLog, "once_written", lambda self, action, now: action(now))


def a_full_disk_is_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written counts as written."""
    right = VirtualDisk._commit

    def commit(self: VirtualDisk) -> None:
        if self.platter.full and self._process is not None:
            process, ticket = self._process, self._waiting[-1].ticket
            self._waiting.clear()
            process.world.after(0.003, process.hear, Written(ticket))
        else:
            right(self)

    monkeypatch.setattr(VirtualDisk, "_commit", commit)


def a_torn_batch_is_appended_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed write the next attempt goes behind what is there, and only that is synced."""
    right = LogFile.again

    def again(self: LogFile, batch: Any) -> None:
        octets = self._files.read("durable.log") or b""
        del batch
        self._sure = self._end = len(octets)
        right(self, [])

    monkeypatch.setattr(LogFile, "again", again)


@pytest.mark.parametrize(
    ("mutate", "name", "target"),
    [
        (yesterdays_reader, "disk-bitflip", "minority"),
        (yesterdays_reader, "disk-bitflip", "all"),
        (yesterdays_reader, "disk-truncated", "minority"),
        (_nothing_is_ever_lost, "disk-bitflip", "minority"),
        (acknowledged_before_it_is_sure, "disk-unsynced", "all"),
        (a_full_disk_is_not_noticed, "disk-full", "all"),
        (a_torn_batch_is_appended_to, "disk-full", "all"),
    ],
)
def test_a_store_that_breaks_its_word_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mutate: Mutate,
    name: str,
    target: str,
) -> None:
    mutate(monkeypatch)
    status, said = run(capsys, name, target)
    assert status == 1
    assert any(each.startswith("repeated") for each in said["verdict"]), said["verdict"]


@pytest.mark.parametrize(
    "words",
    [
        ["--scenario", "kill-one", "--target", "minority"],
        ["--scenario", "disk-full", "--target", "seed"],
    ],
)
def test_whom_a_scenario_cannot_hit_is_said(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["--sim", *words]) == 2
    assert "--target" in capsys.readouterr().err
