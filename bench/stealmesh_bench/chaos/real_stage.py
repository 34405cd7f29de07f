"""A scenario on real node processes: a mesh, a program on it, and a timetable of faults.

Does: starts the nodes (behind a proxy where the network is to fail), submits as a client through one
of them, performs the timetable at its times, and reads afterwards what the nodes' eyes saw. It runs
the program as users do, and acts and watches through signals, files and the kernel. Refuses to know which
stage a scenario needs (`real` does).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from stealmesh import Mesh
from stealmesh.host.security import MeshKey
from stealmesh_bench.chaos import eyes, jobs, postmortem, upkeep
from stealmesh_bench.chaos.beliefs import Beliefs, agreed_at
from stealmesh_bench.chaos.figures import Lack
from stealmesh_bench.chaos.memory import MemoryWatch
from stealmesh_bench.chaos.report import ChaosReport, Measured
from stealmesh_bench.chaos.scenario import (
    CLIENT,
    ENTRY,
    CannotPlay,
    ChaosFault,
    Scenario,
)
from stealmesh_bench.chaos.seats import NodeFailed, NodeLife, Seats
from stealmesh_bench.chaos.seen import Onlooker
from stealmesh_bench.chaos.workload import RunAccount, Stuck, Workload, WorkloadRun
from stealmesh_bench.paths import python_path
from stealmesh_engine.view.observers import supers_wanted

MEET_SECONDS_MAX = 60.0
SETTLE_SECONDS = 1.0
PATIENCE_SECONDS = 45.0
LOOK_SECONDS = 0.25
AGREEMENT_MARGIN_SECONDS = 5.0
TIMELINE_SECONDS = 0.25
FOR_EVER = 1e12
MISSING_TOLD_MAX = 5
STORY_LINES_MAX = 20


class RealStage:
    """One mesh with a program on it and a timetable for it."""

    def __init__(
        self, scenario: Scenario, report: ChaosReport, seats: Seats, key: MeshKey, directory: str
    ) -> None:
        self.scenario = scenario
        self.report = report
        self.seats = seats
        self.key = key
        self.directory = directory
        self.log = os.path.join(directory, "executions")
        self.account = RunAccount()
        self.beliefs = Beliefs()
        self.rng = Random(f"{scenario.seed}/targets")
        self.ups: list[tuple[float, int]] = []
        self.silent: set[int] = set()
        """Nodes with their machine off."""
        self.had_supers = False
        self.mesh: Mesh | None = None
        self.rival: subprocess.Popen[bytes] | None = None
        self.over = threading.Event()
        self.problem: BaseException | None = None
        self.memory = MemoryWatch()
        self.drawn = False
        """Somebody wants a picture."""
        self.onlooker: Onlooker | None = None
        self.settled_at = 0.0
        self.timers: list[threading.Timer] = []
        self.silences: list[tuple[int, float, float]] = []

    # ------------------------------------------------------------ the run

    def run(self, task: Workload) -> None:
        scenario = self.scenario
        listening = self._start_all()
        with Mesh(self._entry(), key=self.key) as mesh:
            self.mesh = mesh
            met = self._meet(mesh)
            if scenario.together:
                self.report.agreed_s = round(max(0.0, met - listening), 3)
            task.prepare(mesh)
            self._warm_up(mesh)
            self.had_supers = self._supers(mesh) > 0
            before = mesh.status()["nodes"]
            self.account.flow = time.monotonic()
            self._count()
            threads = [
                threading.Thread(target=self._play, name="chaos-player"),
                threading.Thread(target=self._watch_memory, name="chaos-sampler"),
            ]
            if self.drawn:
                self.onlooker = Onlooker(mesh)
                threads.append(threading.Thread(target=self.onlooker.look, args=(self.over,)))
            if self.had_supers:
                threads.append(threading.Thread(target=self._look_for_supernodes))
            for thread in threads:
                thread.start()
            try:
                task.perform(
                    WorkloadRun(
                        mesh, scenario.nodes, self.account, scenario.seconds, PATIENCE_SECONDS,
                        self.log, scenario.seed,
                    )
                )  # fmt: skip
                threads[0].join()
                self._upkeep(before, mesh.status()["nodes"])
                self._agree()
            except Stuck:
                postmortem.explain(mesh, self.account, self.log, self.report.notes)
                raise
            finally:
                self.over.set()
                for timer in self.timers:
                    timer.cancel()
                for thread in threads:
                    thread.join()
                if self.onlooker is not None:
                    self.onlooker.read()
                if self.rival is not None:
                    self.rival.kill()
                    self.rival.wait()
            if self.problem is not None:
                raise self.problem

    def _start_all(self) -> float:
        """Start every node for the first time; returns when the last of them listened."""
        seats = self.seats
        began = [seats.start(n, [0] if n else []) for n in range(self.scenario.nodes)]
        seats.wait_ready(began)
        if seats.proxy is not None:
            seats.proxy.tell("know", node=CLIENT, pid=os.getpid())
        return max(life.ready_at or 0.0 for life in began)

    def _entry(self) -> str:
        """Where the program joins."""
        return self.seats.address(min(ENTRY, self.scenario.nodes - 1))

    def _meet(self, mesh: Mesh) -> float:
        """Wait until all nodes agree that all are there; returns when that was."""
        until = time.monotonic() + MEET_SECONDS_MAX
        living = {life.pid for life in self.seats.living()}
        while time.monotonic() < until:
            at, difference = agreed_at(eyes.read(self.seats.glimpses), living)
            nodes = {n["pid"] for n in mesh.status()["nodes"] if n["role"] != "client"}
            if not difference and nodes == living:
                return at
            time.sleep(0.1)
        raise NodeFailed(f"membership: still not met after {MEET_SECONDS_MAX:g} s: {difference}")

    def _warm_up(self, mesh: Mesh) -> None:
        """All nodes learn the function and what it costs."""
        account = RunAccount(flow=time.monotonic())
        jobs.find("stream").perform(
            WorkloadRun(
                mesh, self.scenario.nodes, account, SETTLE_SECONDS, PATIENCE_SECONDS, os.devnull
            )
        )

    def _agree(self) -> None:
        """Wait until all living nodes agree on who lives."""
        living = self.seats.living()
        self.seats.wait_ready(living)
        pids = {life.pid for life in living}
        since = max(
            [
                self.account.flow + self.scenario.agreement_from + self.account.lag_seconds,
                self.settled_at,
            ]
            + [life.ready_at or 0.0 for life in living]
        )
        bound = self.scenario.bounds.agreed_seconds or MEET_SECONDS_MAX
        until = max(time.monotonic(), since + bound) + AGREEMENT_MARGIN_SECONDS
        while True:
            at, difference = agreed_at(eyes.read(self.seats.glimpses), pids)
            if not difference:
                if not self.scenario.together:
                    self.report.agreed_s = round(max(0.0, at - since), 3)
                return
            if time.monotonic() > until:
                self.report.breaches.append(f"membership: {difference}")
                return
            time.sleep(0.1)

    # ------------------------------------------------------------ the timetable

    def _play(self) -> None:
        try:
            for fault in self.scenario.faults:
                if self.over.wait(max(0.0, fault.at_seconds - self.account.now())):
                    return
                self._strike(fault)
                self.account.lag_seconds = self.account.now() - fault.at_seconds
        except Exception as error:  # noqa: BLE001 - raised again by the thread that can be seen
            self.problem = error

    def _strike(self, fault: ChaosFault) -> None:
        nodes = fault.nodes or self._resolve(fault.target)
        self.report.marks.append(
            (self.account.now(), f"{fault.kind} {fault.target or _few(nodes)}")
        )
        _STRIKES[fault.kind](self, fault, nodes)
        self.settled_at = time.monotonic()
        if fault.kind in ("kill", "silence", "start", "drain"):
            self._count()

    def _resolve(self, target: str) -> tuple[int, ...]:
        """Who plays this part now?"""
        if target == "entry":
            return (min(ENTRY, self.scenario.nodes - 1),)
        if target not in ("victim", "supernode"):
            return ()
        assert self.mesh is not None
        by_pid = {life.pid: life.number for life in self.seats.living()}
        told = [n for n in self.mesh.status()["nodes"] if n["pid"] in by_pid]
        if target == "victim":
            busiest = max(told, key=lambda n: (n["steals_out"], n["queued_seconds"]))
            return (by_pid[busiest["pid"]],)
        found = tuple(by_pid[n["pid"]] for n in told if n["role"] == "super")
        if not found:
            raise CannotPlay("no node of this mesh is a supernode: there is nobody to kill")
        return found if self.scenario.name == "skype-super" else (self.rng.choice(found),)

    def _kill(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        for number in nodes:
            if self.seats.kill(number, silent=fault.kind == "silence") is not None:
                self.report.killed += 1
                if fault.kind == "silence":
                    self.silent.add(number)

    def _start(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        for number in nodes:
            life = self.seats.seats[number]
            if life is not None and life.draining and life.ended_at is None:
                if life.process.poll() is None:
                    self.report.breaches.append(f"node {number} is still draining")
                    self.seats.kill(number)
            elif life is None or life.ended_at is None:
                continue  # it lives
            if number in self.silent:
                self.silent.discard(number)
                self.seats.revive(number)
            self.seats.start(number, self._remembered(number, fault.forgetful))

    def _remembered(self, number: int, forgetful: bool) -> list[int]:
        """Nodes that a restarted node dials: three that it knew in its last life, and the seed."""
        others = [n for n in range(self.scenario.nodes) if n != number]
        known = [] if forgetful else self.rng.sample(others, min(3, len(others)))
        return list(dict.fromkeys([*known, *([0] if number else [])]))

    def _pause(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        for number in nodes:
            life = self.seats.signal(number, signal.SIGSTOP)
            if life is not None:
                self._silence(life, fault.seconds)
                self._later(fault.seconds, partial(_resume, life))

    def _drain(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        for number in nodes:
            life = self.seats.drain(number)
            if life is not None:
                self._silence(life, FOR_EVER)

    def _cut(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        proxy = self.seats.proxy
        assert proxy is not None
        pair = {"nodes": list(nodes), "others": list(fault.others)}
        proxy.tell("cut", **pair)
        self._later(fault.seconds, lambda: proxy.tell("mend", **pair))
        self._touched({*nodes, *fault.others}, fault.seconds)

    def _delay(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        proxy = self.seats.proxy
        assert proxy is not None
        proxy.tell("delay", nodes=list(nodes), seconds=fault.delay_seconds)
        self._later(fault.seconds, lambda: proxy.tell("delay", nodes=list(nodes), seconds=0.0))

    def _break(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        assert self.seats.proxy is not None
        self.seats.proxy.tell(fault.kind.replace("-", "_"), nodes=list(nodes))
        if fault.kind == "half-open":
            self._touched(set(nodes), fault.seconds)

    def _begin_rival(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        path = os.path.join(self.directory, "mesh.key")
        self.key.save(path)
        self.rival = subprocess.Popen(
            [sys.executable, "-m", "stealmesh_bench.chaos.rival", self.seats.address(0)],
            env={**os.environ, "PYTHONPATH": python_path(), "STEALMESH_KEY_FILE": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self.rival.stdout is not None
        with self.rival.stdout as said:
            if not said.readline():
                raise NodeFailed("the rival program did not come to work")

    def _kill_rival(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        if self.rival is None or self.rival.poll() is not None:
            raise NodeFailed("the rival program ended before it was killed")
        self.rival.kill()
        self.report.killed += 1

    def _kill_submitter(self, fault: ChaosFault, nodes: tuple[int, ...]) -> None:
        raise AssertionError("only a durable job has a submitter of its own")

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        def act() -> None:
            try:
                action()
            except (OSError, RuntimeError) as error:
                self.problem = error
            self.settled_at = time.monotonic()

        timer = threading.Timer(seconds, act)
        timer.daemon = True
        self.timers.append(timer)
        timer.start()

    def _disk_fault(self, fault: ChaosFault) -> None:
        raise AssertionError("only a durable job has replicas with disks")

    def _touched(self, numbers: set[int], seconds: float) -> None:
        for number in numbers - {CLIENT}:
            life = self.seats.seats[number]
            if life is not None:
                self._silence(life, seconds)

    def _silence(self, life: NodeLife, seconds: float) -> None:
        """Within this time it is no mistake to declare this process dead."""
        now = time.monotonic()
        self.silences.append((life.pid, now, now + seconds))

    # ------------------------------------------------------------ watching

    def _count(self) -> None:
        self.ups.append((self.account.now(), len(self.seats.living())))

    def _supers(self, mesh: Mesh) -> int:
        return sum(1 for node in mesh.status()["nodes"] if node["role"] == "super")

    def _look_for_supernodes(self) -> None:
        since = self.scenario.recovery_from
        if since is None:
            return
        lack = Lack(since)
        while not self.over.wait(LOOK_SECONDS):
            now = self.account.now() - self.account.lag_seconds
            if self.mesh is None or now < since:
                continue
            enough = self._supers(self.mesh) >= supers_wanted(len(self.seats.living()))
            lack.look(now, enough=enough)
            lacked = lack.seconds
            self.report.supernodes_restored_s = None if lacked is None else round(lacked, 2)

    def _watch_memory(self) -> None:
        """Of the processes that nothing happens to."""
        watched = {"the program": os.getpid()}
        for number in self.scenario.spared:
            life = self.seats.seats[number]
            if life is not None:
                watched[f"node {number}"] = life.pid
        while not self.over.wait(LOOK_SECONDS):
            self.memory.look(watched)

    # ------------------------------------------------------------ figures

    def measure(self) -> None:
        """Fill in the report from what was seen."""
        report, scenario, account = self.report, self.scenario, self.account
        ended = self.seats.self_ended()
        if ended:
            print(self.seats.last_words(), file=sys.stderr)
        report.breaches += ended
        account.tell(report, self.log)
        self._believed()
        if scenario.spared:
            report.rss_mib, report.growth_mib = self.memory.growth()
        measured = self._recovery() if account.flowed else Measured()
        report.timeline = account.goodput.bins(max(account.goodput.last(), 1.0), TIMELINE_SECONDS)
        if self.onlooker is not None:
            self.onlooker.tell(report, account.flow)
        report.judge(scenario.bounds, measured)

    def _believed(self) -> None:
        beliefs = self.beliefs
        for life in self.seats.lives:
            if life.ready_at is not None:
                beliefs.born(life.pid, life.ready_at)
                if life.ended_at is not None:
                    beliefs.died(life.pid, life.ended_at)
        for pid in self.seats.accidents:
            beliefs.silent(pid, 0.0, FOR_EVER)  # a breach of its own; when it began is unknown
        for pid, begin, end in self.silences:
            beliefs.silent(pid, begin, end)
        glimpses = eyes.read(self.seats.glimpses)
        for glimpse in glimpses:
            beliefs.saw(glimpse)
        self.report.detection_p50_s = beliefs.detections.percentile(0.5)
        self.report.detection_p99_s = beliefs.detections.percentile(0.99)
        self.report.false_verdicts = beliefs.false_verdicts
        numbers = {life.pid: life.number for life in self.seats.lives}
        for each in beliefs.false:
            who, of = numbers.get(each.who), numbers.get(each.of)
            at, began = each.at - self.account.flow, beliefs.lives[each.of].began
            why = [
                f"node {numbers.get(g.who)} at {g.at - self.account.flow:.3f} s: {g.what}"
                for g in glimpses
                if g.of == each.of and g.what.startswith("verdict") and abs(g.at - each.at) < 5.0
            ]
            self.report.notes.append(
                f"at {at:.3f} s node {who} took node {of} (process {each.of}) for dead, "
                f"which had been up for {each.at - began:.3f} s; {'; '.join(why)}"
            )

    def _upkeep(self, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
        found = upkeep.of_leaves(before, after, self.account.now())
        if found is not None:
            self.report.control_messages_per_leaf_s = round(found.messages, 2)
            self.report.control_bytes_per_leaf_s = round(found.octets, 1)

    def _recovery(self) -> Measured:
        scenario, report, account = self.scenario, self.report, self.account
        goodput = account.goodput
        since = scenario.recovery_from
        if since is None or not self.ups:
            return Measured(agreement=not scenario.together)
        first = min((fault.at_seconds for fault in scenario.faults), default=since)
        since += account.lag_seconds
        each = goodput.rate(min(1.0, first / 2), first) / self.ups[0][1]
        # A fault is performed a moment after its time, so what counts is who was up just after.
        up = [count for at, count in self.ups if at <= since + LOOK_SECONDS][-1]
        report.goodput_before = round(each * self.ups[0][1], 1)
        report.goodput_wanted = round(each * up, 1)
        until = min(goodput.last(), scenario.seconds + account.lag_seconds)
        report.recovered_90_s = goodput.recovered(since, until, 0.9 * each * up)
        report.recovered_97_s = goodput.recovered(since, until, 0.97 * each * up)
        return Measured(True, True, not scenario.together, self.had_supers)


_STRIKES: dict[str, Callable[[RealStage, ChaosFault, tuple[int, ...]], None]] = {
    "kill": lambda stage, fault, nodes: stage._kill(fault, nodes),
    "silence": lambda stage, fault, nodes: stage._kill(fault, nodes),
    "start": lambda stage, fault, nodes: stage._start(fault, nodes),
    "pause": RealStage._pause,
    "drain": RealStage._drain,
    "cut": RealStage._cut,
    "delay": RealStage._delay,
    "reset": RealStage._break,
    "half-open": RealStage._break,
    "corrupt": RealStage._break,
    "rival": RealStage._begin_rival,
    "kill-rival": RealStage._kill_rival,
    "kill-submitter": lambda stage, fault, nodes: stage._kill_submitter(fault, nodes),
    **dict.fromkeys(
        ("slow-disk", "full-disk", "power", "spoil"),
        lambda stage, fault, nodes: stage._disk_fault(fault),
    ),
}


def _resume(life: NodeLife) -> None:
    if life.ended_at is None and life.process.poll() is None:
        life.process.send_signal(signal.SIGCONT)


def _few(nodes: tuple[int, ...]) -> str:
    names = ", ".join("the program" if n == CLIENT else str(n) for n in nodes[:3])
    return names if len(nodes) <= 3 else f"{len(nodes)} nodes"
