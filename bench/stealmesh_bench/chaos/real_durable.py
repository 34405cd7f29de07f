"""A scenario with a durable job on real processes: its submitter is killed, or all processes are.

Does: lets a program launch the job and collect as long as it lives. Once the faults are over, another
program attaches through a living node and collects everything from the start. After a full stop,
before a node is back, this file reads the disks: what two of them have is safe, and may not run again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

from stealmesh import JobLost, Mesh
from stealmesh.host.security import MeshKey
from stealmesh.store import read
from stealmesh.store.logfile import FILE as LOG_FILE
from stealmesh.store.logfile import SURE as SURE_FILE
from stealmesh.store.records import read_mark
from stealmesh_bench.chaos import disks, jobs, postmortem
from stealmesh_bench.chaos.ledger import executions
from stealmesh_bench.chaos.named import LATE_SECONDS
from stealmesh_bench.chaos.node import FULL, SLOW
from stealmesh_bench.chaos.real_stage import FOR_EVER, PATIENCE_SECONDS, RealStage
from stealmesh_bench.chaos.scenario import ChaosFault
from stealmesh_bench.chaos.seats import NodeFailed
from stealmesh_bench.chaos.workload import Stuck, Workload
from stealmesh_bench.paths import python_path

REPEATED_TOLD_MAX = 5


class Submitter:
    """The process that launched the job, and what it has been given so far."""

    program = "stealmesh_bench.chaos.launcher"

    def __init__(self, words: list[str], address: str, key: MeshKey, directory: str) -> None:
        path = os.path.join(directory, "mesh.key")
        key.save(path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.program, address, *words],
            env={**os.environ, "PYTHONPATH": python_path(), "STEALMESH_KEY_FILE": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self.process.stdout is not None
        self.collected = 0
        """All items below this have arrived."""
        self.wrong = ""
        self._reader = threading.Thread(target=self._read, name="chaos-submitter")
        self.job = ""
        try:
            self.job = self.process.stdout.readline().decode().strip()
            if not self.job:
                raise NodeFailed("the program that launches did not get its job accepted")
            self._reader.start()
        except BaseException:
            self.close()
            raise

    def kill(self) -> None:
        if self.process.poll() is not None:
            raise NodeFailed("the program that launched ended before it was killed")
        self.process.kill()

    def close(self) -> None:
        """End the process and read all that it has said."""
        self.process.kill()
        self.process.wait()
        if self._reader.ident is not None:
            self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                return  # it was killed in the middle of it
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        if int(line) != self.collected:
            self.wrong = self.wrong or f"it was given {int(line)} after {self.collected - 1}"
        self.collected += 1


class RealDurableStage(RealStage):
    """A mesh with disks and a durable job, in which any process may die."""

    submitter: Submitter | None = None
    logs: tuple[bytes, ...] = ()
    """The logs when all nodes were dead."""
    stopped_at = 0.0
    """When the last nodes were killed (time.monotonic)."""
    back_at = 0.0
    """When the first of them was started again. Workers may outlive their node by a moment, not by that."""
    slow: int | None = None
    """The node with the disk that lagged behind."""
    powerless: tuple[int, ...] = ()
    """Nodes that lose at the full stop what was not synced to disk."""
    late: frozenset[int] = frozenset()
    left: set[int] | None = None
    """Once disks were damaged: items with an unharmed result on some disk."""

    def run(self, task: Workload) -> None:
        self._start_all()
        with Mesh(self._entry(), key=self.key) as mesh:
            self._meet(mesh)
            self._warm_up(mesh)
        # From here on no program of ours is in the mesh but the submitter.
        self.submitter = self._launched()
        self.account.flow = time.monotonic()
        self._count()
        player = threading.Thread(target=self._play, name="chaos-player")
        player.start()
        try:
            player.join()
            if self.problem is None:
                self._all_listen()
                self._collect()
                self._agree()
        finally:
            self.over.set()
            player.join()
            self.submitter.close()
        if self.problem is not None:
            raise self.problem

    def _launched(self) -> Submitter:
        """The program that submits, once the mesh has accepted something of it."""
        items = self.scenario.items(jobs.ITEM_SECONDS)
        assert self.account.ledger is not None
        self.account.ledger.accept(items)
        return Submitter([str(items), self.log], self._entry(), self.key, self.directory)

    def _all_listen(self) -> None:
        """Wait until all listen. The time that this machine takes to start processes does not count."""
        living, account = self.seats.living(), self.account
        self.seats.wait_ready(living)
        if self.scenario.stops:
            began = self._since()
            listening = max(life.ready_at or 0.0 for life in living) - account.flow
            account.lag_seconds += max(0.0, listening - began)
            self.report.notes.append(
                f"the last node listened {max(0.0, listening - began):.3f} s after its start"
            )

    def _collect(self) -> None:
        """Another program attaches through any node."""
        account, submitter = self.account, self.submitter
        assert submitter is not None
        assert account.ledger is not None
        with Mesh(self._gate(), key=self.key) as mesh:
            self.mesh = mesh
            job = mesh.attach(submitter.job)
            patience = 2 * self.scenario.seconds + PATIENCE_SECONDS
            try:
                for item, value in job.results(timeout=patience):
                    account.ledger.arrived(item, value)
                    if item >= submitter.collected and self.report.flowing_again_s is None:
                        self.report.flowing_again_s = round(account.now() - self._since(), 3)
            except JobLost:
                self._explain_loss(mesh)
                raise
            except TimeoutError:
                postmortem.explain(mesh, self.account, self.log, self.report.notes)
                raise Stuck(f"{job!r}: {job.progress()}") from None
            self.mesh = None

    def _gate(self) -> str:
        """Where the program that collects joins."""
        listening = [life for life in self.seats.living() if life.ready_at is not None]
        return self.seats.address(self.rng.choice(listening).number)

    def _explain_loss(self, mesh: Mesh) -> None:
        """Note which nodes are there, and what is on the disks."""
        for node in mesh.status()["nodes"]:
            told = {name: node.get(name) for name in ("name", "pid", "role", "state")}
            self.report.notes.append(str(told))
        for number, octets in self.seats.logs().items():
            reading = read(octets)
            ended = {record.state for record in reading.records if record.state}
            self.report.notes.append(
                f"the log of node {number}: {len(reading.records)} records, ended {ended}, "
                f"damage {reading.damage[:3]}"
            )

    def _since(self) -> float:
        """When the clock of the recovery began to run."""
        assert self.scenario.recovery_from is not None
        return self.scenario.recovery_from + self.account.lag_seconds

    def _kill_submitter(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        assert self.submitter is not None
        self.submitter.kill()
        self.report.killed += 1

    def _kill(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        self.stopped_at = time.monotonic()
        super()._kill(fault, nodes)
        if not self.seats.living():
            self.logs = self.seats.disks()
            for number in self.powerless:
                self._lose_unsynced(self.seats.state(number))

    # ------------------------------------------------------------ disks

    def _disk_fault(self, fault: ChaosFault) -> None:
        {
            "slow-disk": self._slow_disk,
            "full-disk": self._full_disk,
            "power": self._power,
            "spoil": self._spoil,
        }[fault.kind](fault)

    def _replicas(self) -> list[int]:
        logs = self.seats.logs()
        found = [n for n in logs if any(record.results for record in read(logs[n]).records)]
        if not found:
            raise NodeFailed("nobody keeps the job yet: let it last longer (--seconds)")
        return found

    def _hit(self, fault: ChaosFault) -> list[int]:
        if fault.target == disks.ALL:
            return list(range(self.scenario.nodes))
        replicas = self._replicas()
        return [self.rng.choice([n for n in replicas if n != self.slow] or replicas)]

    def _slow_disk(self, fault: ChaosFault) -> None:
        self.slow = self.rng.choice(self._replicas())
        (self.seats.state(self.slow) / SLOW).touch()

    def _full_disk(self, fault: ChaosFault) -> None:
        hit = self._hit(fault)
        for number in hit:
            (self.seats.state(number) / FULL).touch()
            life = self.seats.may_end(number)
            assert life is not None
            self._silence(life, FOR_EVER)  # it may end at any moment
            self._later(fault.seconds, (self.seats.state(number) / FULL).unlink)

    def _power(self, fault: ChaosFault) -> None:
        self.powerless = tuple(self._hit(fault))

    def _lose_unsynced(self, state: Path) -> None:
        marked = read_mark((state / SURE_FILE).read_bytes())
        if marked is not None:
            os.truncate(state / LOG_FILE, marked[2])

    def _spoil(self, fault: ChaosFault) -> None:
        logs = self.seats.logs()
        damage = disks.damage(logs, fault.how, fault.target, self.rng, self.slow)
        for number, octets in damage.logs.items():
            (self.seats.state(number) / LOG_FILE).write_bytes(octets)
        self.late, self.left = frozenset(damage.late), damage.left
        hit, late = sorted(damage.logs), sorted(damage.late)
        self.report.notes.append(f"{fault.how} in the logs of {hit}; {late} come back late")

    def _start(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        self.back_at = self.back_at or time.monotonic()
        if self.slow is not None:
            (self.seats.state(self.slow) / SLOW).unlink(missing_ok=True)
        late = tuple(number for number in nodes if number in self.late)
        super()._start(fault, tuple(number for number in nodes if number not in self.late))
        if late:
            self._later(LATE_SECONDS, partial(super()._start, fault, late))

    # ------------------------------------------------------------ figures

    def measure(self) -> None:
        ran = executions(self.log)
        for at in sorted(moments[0] for moments in ran.values()):
            self.account.goodput.add(at - self.account.flow)
        if self.submitter is not None:
            self._judge_repeats(ran, self.submitter)
        super().measure()

    def _judge_repeats(self, ran: dict[int, list[float]], submitter: Submitter) -> None:
        """No item that was safe may run again."""
        failed = self.account.failed
        if submitter.wrong:
            failed.append(f"the program that launched: {submitter.wrong}")
        safe = {*range(submitter.collected), *_on_two(self.logs)}
        if self.left is not None:
            safe &= self.left
        back = self.back_at
        again = sorted(item for item in safe if _runs_since(back, ran.get(item, [])))
        if again:
            few = again[:REPEATED_TOLD_MAX]
            failed.append(
                f"repeated: {len(again)} items were run again though they were safe: {few} …"
            )
        if not self.logs:
            return
        begun = {item for item, moments in ran.items() if moments[0] < back}
        # A full disk may have ended a node before the stop: what its workers had ran again, as ever.
        before = sum(at < back for moments in ran.values() for at in moments[1:])
        self.report.in_flight = len(begun - safe) + before
        ages = [
            self.stopped_at - moments[0]
            for moments in ran.values()
            if _runs_since(back, moments) and moments[0] < back
        ]
        if ages:
            self.report.notes.append(
                f"of what ran twice, the oldest had begun {max(ages):.3f} s before the stop"
            )


def _runs_since(back: float, moments: list[float]) -> bool:
    """Was this item handed to a worker once more, after that time?"""
    return any(at >= back for at in moments[1:])


def _on_two(logs: tuple[bytes, ...]) -> set[int]:
    """Items with results on at least two disks."""
    once: set[int] = set()
    twice: set[int] = set()
    for log in logs:
        has = {
            i
            for record in read(log).records
            for kept in record.results
            for i in range(kept.lo, kept.hi)
        }
        twice |= once & has
        once |= has
    return twice
