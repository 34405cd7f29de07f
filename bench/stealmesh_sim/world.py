"""A virtual world: processes on one network, one clock and one seed, under the eyes of checkers.

Does: starts, ends, pauses and restarts processes. Decides nothing: a world is a function of its seed
and of what a test, a scenario or `faults` does to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from stealmesh_engine.config import Config
from stealmesh_engine.events import Event, Join
from stealmesh_engine.links.introductions import SUPERS_IN_WELCOME
from stealmesh_engine.view.membership_view import MembershipView
from stealmesh_engine.view.observers import supers_wanted, table_of
from stealmesh_protocol.ids import JobId, PeerId, ValueId, slice_of, whole_of
from stealmesh_protocol.messages import Member, Resources, Role
from stealmesh_sim.checkers import Checkers
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.hired import VirtualHires
from stealmesh_sim.kernel import Kernel
from stealmesh_sim.network import Latency, Network
from stealmesh_sim.process import Process, Toil
from stealmesh_sim.shelves import VirtualShelf
from stealmesh_sim.trace import Trace
from stealmesh_sim.work import Work

RESPAWN_SECONDS = 0.1


class World(Kernel):
    """Processes, network, checkers and trace on one kernel.

    With `audit` every account is checked after every step. With `carry` each message is encoded and
    decoded on its way. `loop_seconds` is how long a process takes to come round; it hears together
    what arrives in this time. With `toil` hearing takes time.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency: Latency | None = None,
        config: Config | None = None,
        audit: bool = True,
        carry: bool = False,
        hashing: bool = True,
        loop_seconds: float = 0.0,
        toil: Toil | None = None,
        messages_a_second_max: float | None = None,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.audit = audit
        self.loop_seconds = loop_seconds
        self.toil = toil
        self.respawn_seconds = RESPAWN_SECONDS
        self.config = config or Config()
        rng = Random(f"{seed}/links")
        self.network = Network(self, latency or Latency(), rng, carry=carry)
        self.checkers = Checkers(self, messages_a_second_max=messages_a_second_max)
        self.trace = Trace(hashing=hashing)
        self.hires = VirtualHires(self, seed)
        self.processes: list[Process] = []
        """All lives so far, in the order of their start; each one's number is its place here."""
        self.works: dict[JobId, Work] = {}
        self.values: dict[ValueId, int] = {}
        """Every value that was ever put on the mesh → its octets."""
        self.one_host = False
        """Do all processes that start from now on run on one host?"""
        self.changed_at = 0.0
        """When a process last started or ended."""
        self.on_disk_failure: Callable[[Process], None] = self.crash
        self._ids = Random(f"{seed}/ids")

    def work_behind(self, job: JobId) -> tuple[Work, int]:
        """The work of this job, or of this slice of a job, and the number of its first item there."""
        cut = slice_of(job)
        return self.works[whole_of(job)], 0 if cut is None else cut[0] * cut[1]

    def is_unlike(self, process: Process) -> bool:
        """Is there work in this world that this process cannot do?"""
        return any(
            work.module in process.lacks
            or work.spec.runtime not in ("", process.member.runtime)
            or work.spec.max_parallel
            or work.spec.resources
            for work in self.works.values()
        )

    # ------------------------------------------------------------ processes

    def node(
        self,
        name: str,
        *,
        seeds: list[str] | None = None,
        workers: int = 1,
        endpoint: str = "",
        ready_seconds: float = 0.0,
        config: Config | None = None,
        disk: VirtualDisk | None = None,
        role: str = "auto",
        runtime: str = "",
        lacks: frozenset[str] = frozenset(),
        resources: Resources = (),
        threads: int = 1,
    ) -> Process:
        """A node starts and joins. Its `role`: auto, super or plain, as for `stealmesh node`."""
        endpoint = endpoint or f"tcp://{name}:7077"
        kind = Role.SUPER if role == "super" else Role.PLAIN
        eligible = role == "auto"
        process = self._start(
            name,
            kind,
            [endpoint],
            workers,
            config,
            eligible=eligible,
            runtime=runtime,
            resources=resources,
            threads=threads,
        )
        process.lacks = lacks
        self.network.listen(process)
        if disk is not None:
            process.disk = disk
            self.after(0.0, process.hear, disk.attach(process))
        for worker in process.workers:
            self.after(ready_seconds, worker.start)
        self._join(process, seeds)
        return process

    def client(self, name: str, *, seeds: list[str], config: Config | None = None) -> Process:
        """A peer in a user's program starts and joins."""
        process = self._start(name, Role.CLIENT, [], 0, config)
        self._join(process, seeds)
        return process

    def shelf_of(self, peer: PeerId) -> VirtualShelf | None:
        """The values of a process, for its neighbours; None: it is not there, or stands still."""
        found = (p for p in self.living() if p.member.id == peer and not p.paused)
        return next((p.shelf for p in found), None)

    def living(self) -> Iterator[Process]:
        return (process for process in self.processes if process.alive)

    def crash(self, process: Process, *, silent: bool = False) -> None:
        """The process ends at once. `silent`: its machine ends too, so no peer is told."""
        if process.alive:
            process.alive = False
            self.changed_at = self.now
            if process.disk is not None:
                process.disk.crash()
            self.network.process_gone(process, silent=silent)
            if not silent:
                self.hires.owner_gone(process)

    def disk_failed(self, process: Process) -> None:
        """The disk of this process failed for too long."""
        self.on_disk_failure(process)

    def end(self, process: Process) -> None:
        """The process ends in order: what it has said still goes out."""
        if process.alive:
            self.crash(process)

    def restart(
        self, process: Process, *, seeds: list[str] | None = None, role: str = "auto"
    ) -> Process:
        """A new life at the same address."""
        assert not process.alive
        return self.node(
            f"{process.name}'",
            seeds=seeds,
            workers=len(process.workers),
            endpoint=process.member.endpoints[0],
            ready_seconds=0.05,
            disk=process.disk,
            role=role,
            runtime=process.member.runtime,
            lacks=process.lacks,
            resources=process.member.resources,
            threads=process.core.holder.threads,
        )

    def pause(self, process: Process) -> None:
        """The process stands still (SIGSTOP); its connections and its workers do not."""
        process.paused = True

    def resume(self, process: Process) -> None:
        if process.paused:
            process.paused = False
            if process.alive:
                process.wake()

    def tell(self, process: Process, event: Event) -> None:
        """The embedding program tells its core something."""
        process.hear(event)

    def preset_views(self) -> None:
        """All processes know each other from the start, as if they had been welcomed (for large worlds).

        Supernodes are chosen. They and the clients know everybody; a leaf knows its observers and some
        more supernodes.
        """
        nodes = [p for p in self.living() if p.member.role is not Role.CLIENT]
        wanted = supers_wanted(len(nodes)) - sum(p.member.role is Role.SUPER for p in nodes)
        for process in nodes:
            core = process.core
            if wanted > 0 and core.me.role is Role.PLAIN and core.me.eligible:
                core.view.renew(role=Role.SUPER)
                wanted -= 1
        members = [p.core.me for p in nodes]
        supers = [m for m in members if m.role is Role.SUPER]
        by_id = {m.id: m for m in members}
        table = table_of(sorted(m.id for m in supers))
        everybody = MembershipView(Member(b"\xff" * 16, "", "", Role.CLIENT, [], 1))
        for member in members:
            everybody.join(member, self.now)
        for process in self.living():
            view = process.core.view
            known = list(by_id)
            if supers and view.me.role is Role.PLAIN:
                near = everybody.supers_near(view.me.id, SUPERS_IN_WELCOME)
                known = [*table.of(view.me.id), *near]
            for peer in known:
                if peer != view.me.id:
                    view.join(by_id[peer], self.now)

    def _start(
        self,
        name: str,
        role: Role,
        endpoints: list[str],
        workers: int,
        config: Config | None,
        *,
        eligible: bool = True,
        runtime: str = "",
        resources: Resources = (),
        threads: int = 1,
    ) -> Process:
        number = len(self.processes)
        place = self.network.place_of(endpoints[0] if endpoints else f"client {number}")
        member = Member(
            self._ids.randbytes(16), name, "host" if self.one_host else f"host{place}", role, endpoints, 1,
            workers=workers, pid=number, eligible=eligible, runtime=runtime,
            resources=resources,
        )  # fmt: skip
        process = Process(self, number, member, place, config or self.config, workers, threads)
        self.processes.append(process)
        self.changed_at = self.now
        return process

    def _join(self, process: Process, seeds: list[str] | None) -> None:
        if seeds is not None:
            self.after(0.0, process.hear, Join(seeds))
