"""What goes wrong in a virtual world, and how it is mended.

Does: crashes, restarts, pauses, cuts, resets, stalls, lost workers, drains and full stops, at
moments drawn from a seed. Decides nothing about what should follow. `mend_all` undoes everything;
after it a world has no excuse.

Every world has another mixture of faults (swarm testing): a mixture of all kinds would hide bugs that
need many faults of one kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from stealmesh_engine.events import Drain
from stealmesh_protocol.ids import JobId, LeaseId
from stealmesh_sim.process import Process
from stealmesh_sim.workers import VirtualWorker
from stealmesh_sim.world import World

KINDS = (
    "crash", "silent-crash", "pause", "cut", "one-way", "isolate", "reset", "blip", "stall", "worker",
    "drain", "full-stop", "late-owner", "lost-owner",
)  # fmt: skip
DEFECTS = ("disorder", "forget")
"""What no network does, but a defective host or core."""
GENTLE = frozenset({"crash", "worker", "drain", "full-stop", "lost-owner"})
"""Kinds that give no node a reason to take a living one for dead."""
KEEP_SECONDS = 0.5
BLIPS_APART_SECONDS = 4.0
BEAT_MAX = 1.1
"""Beats are jittered by a tenth."""


@dataclass(slots=True)
class VirtualSeat:
    """A place for a node: lives come and go, the address stays."""

    process: Process
    seeds: list[str]


@dataclass(slots=True)
class FaultMixture:
    """Which faults a world has, and how many of each."""

    counts: dict[str, int] = field(default_factory=dict)

    @property
    def gentle(self) -> bool:
        return all(kind in GENTLE for kind in self.counts)


class Faults:
    """Breaks a world at random, in a way that can be mended."""

    def __init__(
        self, world: World, rng: Random, seats: list[VirtualSeat], clients: list[Process]
    ) -> None:
        self.world = world
        self.rng = rng
        self.seats = seats
        self.clients = clients
        self.mended = False
        self.told: list[str] = []
        """Line by line what was done and when, for the story of a failing world."""
        self.crashes = 0
        self.owners_lost: dict[int, tuple[float, bool]] = {}
        """Number of a client → (when it was lost, did its machine go off?)."""
        self.alarms = 0
        """Blips that may have made a peer seem silent."""
        self._blip_at = -1e9
        self._cuts: list[tuple[int, int]] = []
        self._does: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "silent-crash": lambda: self._crash(silent=True),
            "pause": self._pause,
            "cut": self._halves,
            "one-way": self._one_way,
            "isolate": self._isolate,
            "reset": self._reset,
            "blip": self._blip,
            "stall": self._stall,
            "worker": self._lose_worker,
            "drain": self._drain,
            "full-stop": self._full_stop,
            "late-owner": self._late_owner,
            "lost-owner": self._lost_owner,
            "disorder": self._disorder,
            "forget": self._forget,
        }

    def plan(self, mixture: FaultMixture, start: float, end: float) -> None:
        for kind, count in mixture.counts.items():
            for _ in range(count):
                self.world.at(self.rng.uniform(start, end), self._strike, kind)

    def mend_all(self) -> None:
        """From now on everything works; at least one node lives, and the first seat's does."""
        self.mended = True
        for a, b in self._cuts:
            self.world.network.mend(a, b)
        self._cuts.clear()
        for process in list(self.world.living()):
            self.world.resume(process)
        self._tell("all is mended")
        self._keep_first()

    def _keep_first(self) -> None:
        """Keep the first seat taken, even while the node there is leaving."""
        first = self.seats[0]
        if not first.process.alive:
            self._restart(first)
        self.world.after(KEEP_SECONDS, self._keep_first)

    # ------------------------------------------------------------ one fault

    def _strike(self, kind: str) -> None:
        if not self.mended:
            self._does[kind]()

    def _tell(self, text: str) -> None:
        self.told.append(f"{self.world.now:10.5f} {text}")

    def _living(self) -> list[VirtualSeat]:
        return [seat for seat in self.seats if seat.process.alive]

    def _a_seat(self) -> VirtualSeat | None:
        living = self._living()
        return self.rng.choice(living) if living else None

    def _crash(self, *, silent: bool = False) -> None:
        seat = self._a_seat()
        if seat is None:
            return
        self.crashes += 1
        self._tell(f"{seat.process.name} crashes{', silently' if silent else ''}")
        self.world.crash(seat.process, silent=silent)
        if self.rng.random() < 0.7:
            self.world.after(self.rng.choice((0.02, 0.3, 1.0, 4.0)), self._restart, seat)

    def _restart(self, seat: VirtualSeat) -> None:
        if not seat.process.alive:
            seat.process = self.world.restart(seat.process, seeds=seat.seeds)
            self._tell(f"{seat.process.name} starts")

    def _pause(self) -> None:
        seat = self._a_seat()
        if seat is None or seat.process.paused:
            return
        seconds = self.rng.choice((0.1, 0.5, 1.7, 2.5, 4.0, 10.0)) * self.rng.uniform(0.8, 1.2)
        self._still(seat.process, seconds)

    def _still(self, process: Process, seconds: float) -> None:
        self._tell(f"{process.name} stands still for {seconds:.2f} s")
        self.world.pause(process)
        self.world.after(seconds, self.world.resume, process)

    def _halves(self) -> None:
        """Two sides that cannot hear each other; every client is on one of them."""
        places = [s.process.place for s in self.seats] + [c.place for c in self.clients]
        left = [place for place in places if self.rng.random() < 0.5]
        right = [place for place in places if place not in left]
        self._cut([(a, b) for a in left for b in right] + [(b, a) for a in left for b in right])

    def _isolate(self) -> None:
        place = self.rng.choice(self.seats).process.place
        others = [s.process.place for s in self.seats] + [c.place for c in self.clients]
        others = [other for other in others if other != place]
        self._cut([(place, o) for o in others] + [(o, place) for o in others])

    def _one_way(self) -> None:
        places = [s.process.place for s in self.seats] + [c.place for c in self.clients]
        if len(places) > 1:
            a, b = self.rng.sample(places, 2)
            self._cut([(a, b)])

    def _cut(self, pairs: list[tuple[int, int]], seconds: float | None = None) -> None:
        if seconds is None:
            seconds = self.rng.choice((0.2, 1.0, 3.0, 6.0, 25.0)) * self.rng.uniform(0.8, 1.2)
        self._tell(f"cut {pairs} for {seconds:.2f} s")
        for a, b in pairs:
            self.world.network.cut(a, b)
        self._cuts.extend(pairs)
        self.world.after(seconds, self._mend, pairs)

    def _mend(self, pairs: list[tuple[int, int]]) -> None:
        if self.mended:
            return
        for pair in pairs:
            self._cuts.remove(pair)
            self.world.network.mend(*pair)

    def _reset(self) -> None:
        connections = self.world.network.open_connections()
        if connections:
            connection = self.rng.choice(connections)
            self._tell(f"the connection {connection.pipes[0].name} breaks")
            self.world.network.reset(connection)

    def _blip(self) -> None:
        """A connection breaks and cannot be opened again for a moment, mostly too short for an alarm."""
        connections = self.world.network.open_connections()
        if connections and self.world.now - self._blip_at > BLIPS_APART_SECONDS:
            self._blip_at = self.world.now
            connection = self.rng.choice(connections)
            pipe = connection.pipes[0]
            a, b = pipe.source.place, pipe.target.place
            seconds = self.rng.uniform(0.1, 1.0)
            config = self.world.config
            # One side may have fallen silent a beat before, and find out only with its next.
            self.alarms += seconds + 2 * BEAT_MAX * config.beat_seconds > config.silence_seconds
            self._cut([(a, b), (b, a)], seconds)
            self.world.network.reset(connection)

    def _stall(self) -> None:
        connections = self.world.network.open_connections()
        if connections:
            connection = self.rng.choice(connections)
            seconds = self.rng.uniform(0.2, 3.0)
            self._tell(f"the connection {connection.pipes[0].name} stalls for {seconds:.2f} s")
            self.world.network.stall(connection, seconds)

    def _lose_worker(self) -> None:
        seat = self._a_seat()
        if seat is None:
            return
        actors = [actor for actor in seat.process.actors.values() if actor.ready]
        if actors and self.rng.random() < 0.7:
            actor = self.rng.choice(actors)
            self._tell(f"the process of an actor of {seat.process.name} dies")
            actor.kill()
            return
        workers = [worker for worker in seat.process.workers if worker.ready]
        if workers:
            worker: VirtualWorker = self.rng.choice(workers)
            self._tell(f"worker {worker.number} of {seat.process.name} dies")
            worker.kill()
            side = seat.process.sides[worker.number]
            if side.busy:
                side.kill()

    def _drain(self) -> None:
        seat = self._a_seat()
        if seat is None or len(self._living()) < 2:
            return
        self._tell(f"{seat.process.name} drains")
        seat.process.hear(Drain())

    def _disorder(self) -> None:
        connections = self.world.network.open_connections()
        if connections:
            connection = self.rng.choice(connections)
            self._tell(f"{connection.pipes[0].name}: the next message is told too late")
            self.world.network.disorder(connection, 1)

    def _forget(self) -> None:
        """A holder forgets one of its leases, and what it is doing for it."""
        seat = self._a_seat()
        if seat is None:
            return
        holder = seat.process.core.holder
        leases = [(job, lid) for job, held in holder.jobs.items() for lid in held.bags.leases]
        if leases:
            job, lid = self.rng.choice(leases)
            self._tell(f"{seat.process.name} forgets lease {lid}")
            forget(seat.process, job, lid)

    def _full_stop(self) -> None:
        """All nodes die at once; after a while some come back."""
        self._tell("full stop")
        for seat in self._living():
            self.crashes += 1
            self.world.crash(seat.process)
        for seat in self.seats:
            if self.rng.random() < 0.6:
                self.world.after(self.rng.uniform(0.1, 3.0), self._restart, seat)

    def _late_owner(self) -> None:
        client = self.rng.choice(self.clients)
        if client.alive and not client.paused:
            self._still(client, self.rng.choice((0.5, 3.0, 10.0, 29.0)))

    def _lost_owner(self) -> None:
        client = self.rng.choice(self.clients)
        if client.alive:
            silent = self.rng.random() < 0.3
            self._tell(f"{client.name} is lost{', silently' if silent else ''}")
            self.owners_lost[client.number] = (self.world.now, silent)
            self.world.crash(client, silent=silent)


def forget(process: Process, job: JobId, lid: LeaseId) -> None:
    """Make a holder forget a lease; results of its workers for this lease are void."""
    holder = process.core.holder
    held = holder.jobs[job]
    for chunk in holder.dispatcher.slots.chunks():
        if chunk.job == job and chunk.lid == lid:
            chunk.void = True
    held.bags.drop(lid)
    holder.follow_ons.tidy(held)
    holder.dispatcher.stock.restock(held)
