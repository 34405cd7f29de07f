"""The watchers of a virtual world. They never sleep, and they believe no process.

Decides whether a world kept its promises. Refuses to know how a core works: it looks at what owners
hear and deliver, at which node holds what and believes what, and at how much is said.

1. conservation   every account adds up after every step (the cores audit themselves)
2. delivery       every item once, with the right value, and nothing that was not asked for
3. custody        a lease (its id and the primary that gave it) has one living holder, the holder
                  in the ledger; nothing is credited under a lease that the ledger had ended
4. progress       when everything is mended a job ends soon (`programs` and `random_worlds` ask)
5. membership     when everything is mended all living nodes agree on who lives
6. load           messages a second and queues stay within bounds
7. idleness       no node stays idle beside one that has much to do
8. workers        are handed the right function, the right items, never a third chunk
9. runtime        no worker is handed byte code of another Python
10. passing       an item fails because a module is missing only if no node has the module
11. placing       bounds of what runs at once, and what is more urgent first (`placing.py`)
12. values        a chunk runs where all that it needs is whole and right; in the end no copy is left
13. actors        calls in order, in one life (`actors.py`)
14. graphs        items get the very results of their inputs, or fail with them (`graphs.py`)
15. hires         a hired worker gets one item at a time, and none from its node (`hired.py`)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import msgpack

from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.effects import (
    Deliver,
    Effect,
    InputFailed,
    InputWithdrawn,
    ItemsProgress,
    RunChunk,
)
from stealmesh_engine.events import CancelItems, Event, Heard
from stealmesh_engine.holding.held_job import HeldJob
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_engine.ledger.requirements import suits
from stealmesh_engine.links.sending import ACKS_OWED_MAX
from stealmesh_engine.membership.dissemination import EVERYBODY_MAX
from stealmesh_engine.view.observers import LEAF_OBSERVERS
from stealmesh_protocol.ids import JobId, LeaseId, PeerId, ValueId, owner_of, term_of, whole_of
from stealmesh_protocol.messages import Commit, JobKind, JobSpec, Kept, Report, Role
from stealmesh_protocol.values import LACKING, OUTCOMES, failures_of
from stealmesh_sim.actors import ActorChecks
from stealmesh_sim.hired import OwnLeases
from stealmesh_sim.kernel import Breach
from stealmesh_sim.later import LaterItems
from stealmesh_sim.placing import PlacingChecks
from stealmesh_sim.process import Process
from stealmesh_sim.value_checks import ValueChecks
from stealmesh_sim.work import CODEC, PRIME, Work

LOAD_WINDOW_SECONDS = 1.0
AUDIT_INTERVALS = 12
RICH_SECONDS = 1.0
STARVING_SECONDS = 2.5


class WatchedWorld(Protocol):
    """What the checkers see of their world."""

    processes: list[Process]

    @property
    def now(self) -> float: ...

    def living(self) -> Iterator[Process]: ...

    values: dict[ValueId, int]

    def work_behind(self, job: JobId) -> tuple[Work, int]: ...

    def is_unlike(self, process: Process) -> bool: ...


@dataclass(slots=True)
class DeliveredJob:
    """What was delivered to a program of one job."""

    work: Work
    delivered: IntervalSet = field(default_factory=IntervalSet)
    unwanted: IntervalSet = field(default_factory=IntervalSet)
    steps: dict[tuple[LeaseId, int], None] = field(default_factory=dict)
    count: int = 0
    total: int = 0
    failed: int = 0
    done: bool = False

    def spared(self, effect: InputFailed | InputWithdrawn) -> None:
        """These items will not run, because of what goes into them."""
        for lo, hi in effect.intervals:
            if self.delivered.overlap(lo, hi) or self.unwanted.overlap(lo, hi):
                raise Breach("delivery", f"[{lo}, {hi}) was over before its inputs")
            self.unwanted.add(lo, hi)
        self.work.spared(effect)


@dataclass(slots=True)
class ProcessLoad:
    """How much one process says."""

    window: int = 0
    messages: int = 0
    control: int = 0
    links: int = 0
    heard: int = 0
    """Custody messages; for every ACKS_OWED_MAX of them an acknowledgement is due."""


def _granter(holder: Process, job: JobId, lid: LeaseId) -> PeerId | None:
    """The primary that leased a holder what it has, or had, under this id."""
    held = holder.core.holder.jobs.get(job)
    return None if held is None else _granter_in(held, lid)


def _granter_in(held: HeldJob, lid: LeaseId) -> PeerId | None:
    if held.spec.kind is JobKind.EXPLORE:
        return held.spec.owner
    return held.granters.get(term_of(lid))


def _nobody_could_run(world: WatchedWorld, work: Work) -> bool:
    """As far as its owner knows: a node that could may be about to join."""
    living = list(world.living())
    me = owner_of(work.spec.job)
    views = [p.core.view for p in living if p.member.id == me] or [p.core.view for p in living]
    nodes = [p.member.id for p in living if p.workers and suits(work.spec, p.member)]
    return not any(view.is_alive(node) for view in views for node in nodes)


class Checkers:
    def __init__(self, world: WatchedWorld, *, messages_a_second_max: float | None = None) -> None:
        self.world = world
        self.accounts: dict[JobId, DeliveredJob] = {}
        self.messages_a_second_max = messages_a_second_max
        """Of control messages, each second and each link; None: not checked."""
        self.rate_max, self.queue_max = 0, 0
        self.safe: dict[JobId, IntervalSet] = {}
        """Items of durable jobs that are credited for good: to run one again would repeat it."""
        self.repeated: dict[JobId, int] = {}
        """Of these, how many were handed to a worker once more."""
        self.words = 0
        """How often programs heard how far an item is."""
        self.placing, self.actors = PlacingChecks(world), ActorChecks()
        self.later, self.values = LaterItems(world), ValueChecks(world)
        self._loads: dict[int, ProcessLoad] = {}
        self._idle: dict[int, float] = {}
        self._steps = 0

    def that(self, holds: bool, kind: str, text: str) -> None:
        if not holds:
            raise Breach(kind, text)

    # ------------------------------------------------------------ delivery

    def opened(self, work: Work) -> None:
        self.accounts[work.spec.job] = DeliveredJob(work)

    def cancelled(self, event: CancelItems) -> None:
        """The program cancels these items, and keeps those that it has."""
        for lo, hi in event.intervals:
            self.accounts[event.job].unwanted.add(lo, hi)

    def delivered(self, effect: Deliver) -> None:
        account = self.accounts[effect.job]
        work = account.work
        self.that(not account.done, "delivery", "something was delivered after the end")
        if work.spec.kind is JobKind.EXPLORE:
            self._delivered_step(account, effect)
            return
        lo, hi, part = effect.lo, effect.hi, effect.part
        where = f"job {work.number} [{lo}, {hi})"
        self.that(part.lo <= lo < hi <= part.hi, "delivery", f"{where} is not in its part")
        self.that(hi <= work.total, "delivery", f"{where} does not exist")
        self.that(not account.delivered.overlap(lo, hi), "delivery", f"{where} came twice")
        self.that(not account.unwanted.overlap(lo, hi), "delivery", f"{where} was cancelled")
        if work.spec.kind is JobKind.REDUCE:
            self.that((part.lo, part.hi) == (lo, hi), "delivery", f"{where}: part of a partial")
        account.delivered.add(lo, hi)
        account.failed += part.failed
        if not (work.spec.life and self.actors.delivered(work.spec, effect)):
            self._check_value(work, effect)

    def progress(self, effect: ItemsProgress) -> None:
        """A program hears how far items are: of none that it has, or does not want."""
        account = self.accounts[effect.job]
        for item, done, total in effect.words:
            over = account.delivered.covers(item, item + 1) or account.unwanted.covers(
                item, item + 1
            )
            self.that(not over, "progress", f"item {item} is over, and still {done} of {total}")
            self.words += 1

    def _check_value(self, work: Work, effect: Deliver) -> None:
        part = effect.part
        if work.judge(effect):
            return
        lacked = work.lacked(frozenset([work.module]), part.lo, part.hi) if work.module else 0
        if part.codec == OUTCOMES and lacked and part.failed == lacked:
            # `gave_up` checks, when the owner decides, whether another node could do better.
            return
        if part.codec == OUTCOMES and (
            _nobody_could_run(self.world, work) or self.values.lost_by_name
        ):
            return
        if part.codec != CODEC:
            # No worker lived to report this item, so the node says how it ended.
            troubled = part.lo in work.endless or part.lo in work.killers
            if part.codec == OUTCOMES and part.lo in work.again:
                troubled |= len(failures_of(effect.blob)[0].attempts) == work.spec.retries + 1
            alone = part.hi - part.lo == 1 and part.failed == 1
            self.that(troubled and alone, "delivery", f"item {part.lo} failed without a cause")
            return
        value = tuple(msgpack.decode(effect.blob))
        right = (work.number, part.lo, part.hi, work.fingerprint(part.lo, part.hi))
        self.that(value == right, "delivery", f"[{part.lo}, {part.hi}) has a wrong value")
        self.that(
            part.failed == work.failures(part.lo, part.hi), "delivery", "a failure was miscounted"
        )

    def _delivered_step(self, account: DeliveredJob, effect: Deliver) -> None:
        step = effect.part.lid, effect.part.lo
        self.that(step not in account.steps, "delivery", f"step {step} came twice")
        account.steps[step] = None
        account.failed += effect.part.failed
        if effect.part.failed:
            return
        count, total = msgpack.decode(effect.blob)
        account.count += count
        account.total = (account.total + total) % PRIME

    def ended(self, job: JobId) -> None:
        account = self.accounts[job]
        work = account.work
        self.that(not account.done, "delivery", "the job ended twice")
        account.done = True
        if work.spec.kind is JobKind.EXPLORE:
            if not account.failed:
                found = account.count, account.total
                text = f"job {work.number} came to {found}, not {work.expected}"
                self.that(found == work.expected, "delivery", text)
            return
        missing = IntervalSet([(0, work.total)]).minus(account.delivered, account.unwanted)
        self.that(not missing, "delivery", f"job {work.number} ended without {missing!r}")

    # ------------------------------------------------------------ conservation

    def audit(self, process: Process) -> None:
        """Every account adds up. One with N intervals is checked at one step in N / 16, so that the
        check costs no more than the step itself."""
        self._steps += 1
        core = process.core
        for owned in core.owner.jobs.values():
            ledger = owned.ledger
            size = len(ledger.leases)
            if isinstance(ledger, IndexedLedger):
                size += len(ledger.credited) + len(ledger.free)
            if self._steps % (1 + size // AUDIT_INTERVALS) == 0:
                ledger.audit()
        held = sum(len(job.bags.leases) for job in core.holder.jobs.values())
        if self._steps % (1 + held // AUDIT_INTERVALS) == 0:
            core.holder.audit()
        for copy in core.durable.state.replicas.values():
            if self._steps % (1 + len(copy.covered) // AUDIT_INTERVALS + copy.entries // 16) == 0:
                copy.audit()

    # ------------------------------------------------------------ passing over

    def lacking(self, owner: Process, event: Event) -> tuple[JobId, int, int, bool] | None:
        """The first items that a holder says here it cannot run: (job, lo, hi, is indexed). None if it
        says nothing of the kind, or under a lease that is not its own."""
        if type(event) is not Heard or not isinstance(event.message, Report | Commit):
            return None
        message = event.message
        if isinstance(message, Commit):
            parts = [(message.lid, 0, 1)] if message.blobs[0][:1] == bytes([LACKING]) else []
        else:
            parts = [(p.lid, p.lo, p.hi) for p in message.parts if p.codec == LACKING]
        valid = self.before_owner_hears(owner, event)
        told = [(lo, hi) for lid, lo, hi in parts if valid.get((message.job, lid))]
        if not told:
            return None
        job = owner.core.owner.jobs[message.job]
        return message.job, *told[0], isinstance(job.ledger, IndexedLedger)

    def gave_up(self, owner: Process, job: JobId, lo: int, hi: int, indexed: bool) -> None:
        """If an owner let these items fail, it had no node to lease them to."""
        owned = owner.core.owner.jobs.get(job)
        if owned is None:
            failed = job in self.accounts  # otherwise a durable job that has another primary by now
        elif isinstance(owned.ledger, IndexedLedger):
            failed = owned.ledger.credited.covers(lo, hi)
        else:
            failed = owned.failed > 0
        if not failed:
            return
        work, base = self.world.work_behind(job)
        core = owner.core
        for process in self.world.living():
            able = (
                process.core.me.workers
                and not work.lacked(process.lacks, base + lo, base + hi)
                and not (not indexed and work.module in process.lacks)
                and work.spec.runtime in ("", process.member.runtime)
            )
            peer = process.member.id
            there = core.links.is_ready(peer) and core.view.is_well(peer)
            if (
                able
                and there
                and peer not in core.links.mute
                and not core.owner.placement.side.lesser
            ):
                text = (
                    f"[{lo}, {hi}) of job {work.number} failed although {process.name} could run it"
                )
                raise Breach("passing", text)

    # ------------------------------------------------------------ custody

    def before_owner_hears(self, owner: Process, event: Heard) -> OwnLeases:
        """The leases of this report, and of those that came before and wait for this one, perhaps."""
        message = event.message
        if not isinstance(message, Report | Commit):
            return {}
        line = owner.core.links.lines.get(event.link)
        job = owner.core.owner.jobs.get(message.job)
        if line is None or job is None:
            return {}
        lids = [p.lid for p in message.parts] if isinstance(message, Report) else [message.lid]
        valid = {(message.job, lid): job.ledger.holds(line.peer, lid) for lid in lids}
        return valid | _leases_of_early(owner)

    def credited(self, effect: Deliver, valid: OwnLeases) -> None:
        lid = effect.part.lid
        text = f"lease {lid >> 32}.{lid & 0xFFFFFFFF} was not the speaker's when it was credited"
        self.that(valid.get((effect.job, lid), False), "custody", text)

    def sweep(self) -> None:
        """No lease has two living holders, and the ledgers agree (asked now and then)."""
        holders: dict[tuple[JobId, PeerId | None, LeaseId], Process] = {}
        self.kept_twice()
        owners = {p.member.id: p for p in self.world.living()}
        for process in owners.values():
            for job, held in process.core.holder.jobs.items():
                owner = owners.get(held.spec.owner)
                owned = owner.core.owner.jobs.get(job) if owner is not None else None
                lent = owned.ledger.leases if owned is not None else {}
                for lid in held.bags.leases:
                    name = f"lease {lid >> 32}.{lid & 0xFFFFFFFF}"
                    granter = _granter_in(held, lid)
                    if held.spec.term:
                        self.that(granter is not None, "custody", f"{name} is of no home")
                    other = holders.setdefault((job, granter, lid), process)
                    text = f"{name} is held by {other.name} and {process.name}"
                    self.that(other is process, "custody", text)
                    if lid in lent and lent[lid].holder != process.member.id:
                        # Two primaries that did not know of each other may have used the same number.
                        theirs = owners.get(lent[lid].holder)
                        text = f"{name} is held by {process.name}, the ledger says otherwise"
                        unlike = theirs is not None and _granter(theirs, job, lid) not in (
                            None,
                            granter,
                        )
                        self.that(unlike, "custody", text)
            self.queue_max = max(
                self.queue_max,
                max((len(p.channel.unacked) for p in process.core.links.peers.values()), default=0),
            )

    def nobody_starves(self) -> None:
        """No node stays idle beside one that has much to do (asked at every sweep)."""
        now = self.world.now
        nodes = [p for p in self.world.living() if p.workers and not p.core.dispatcher.draining]
        lost = any(not p.alive for p in self.world.processes if p.member.role is Role.CLIENT)
        rich = [p for p in nodes if p.core.dispatcher.queued_seconds() >= RICH_SECONDS]
        if lost or not rich:
            self._idle.clear()
            return
        for process in nodes:
            view = process.core.view
            beside = any(view.is_alive(p.member.id) for p in rich)  # not of another island
            excused = (
                process.paused
                or self.world.is_unlike(process)
                or not process.core.links.joined
                or not beside
            )
            working = any(worker.running or not worker.ready for worker in process.workers) or any(
                side.busy for side in process.sides
            )
            since = self._idle.get(process.number)
            if excused or working:
                self._idle.pop(process.number, None)
            elif since is None:
                self._idle[process.number] = now
            elif now - since > STARVING_SECONDS:
                raise Breach("idle", f"{process.name} has had nothing to do since {since:.3f}")

    # ------------------------------------------------------------ durable jobs

    def note_safe(self) -> None:
        """Remember what the primaries of durable jobs hold safely at this moment."""
        for process in self.world.living():
            for job, lead in process.core.durable.state.primaries.items():
                safe = self.safe.setdefault(job, IntervalSet())
                is_indexed = lead.replica.spec.kind is not JobKind.EXPLORE  # workers know items
                for lo, hi in lead.replication.safe if is_indexed else ():
                    safe.add(lo, hi)

    def kept_twice(self) -> None:
        """What a primary calls safe is on two of its replicas (checked at every sweep, for
        primaries that have all their replicas alive and up to date)."""
        living = {p.member.id: p for p in self.world.living()}
        for process in living.values():
            for job, lead in process.core.durable.state.primaries.items():
                seats = [living.get(peer) for _, peer in lead.replica.configuration.seats]
                if lead.gathering is not None or not all(seats):
                    continue
                copies = [p.core.durable.state.replicas.get(job) for p in seats if p is not None]
                others = [c for c in copies if c is not None and c is not lead.replica]
                if not others or not lead.replication.settled:
                    continue
                if any(
                    stream.acked < lead.replication.settled
                    for stream in lead.replication.streams.values()
                ):
                    continue  # the replica that had it, too, may just have gone
                for lo, hi in lead.replication.safe:
                    alone = IntervalSet([(lo, hi)]).minus(
                        *(copy.covered.overlap(lo, hi) for copy in others)
                    )
                    text = f"{alone!r} of a durable job is with {process.name} alone"
                    self.that(not alone, "custody", text)

    def began(self, process: Process, spec: JobSpec) -> None:
        self.placing.began(process, spec)

    def runs(self, process: Process, effect: RunChunk) -> None:
        """A worker is handed a chunk."""
        self.values.runs(process, effect)
        safe = self.safe.get(effect.spec.job)
        if safe is not None:
            again = sum(hi - lo for lo, hi in safe.overlap(effect.lo, effect.hi))
            self.repeated[effect.spec.job] = self.repeated.get(effect.spec.job, 0) + again

    def fetched(self, work: Work, lo: int, kept: Kept, blob: bytes) -> None:
        """A client got a result of a durable job, and had everything below `lo`."""
        where = f"durable job {work.number} [{kept.lo}, {kept.hi})"
        self.that(kept.lo <= lo < kept.hi <= work.total, "delivery", f"{where} follows {lo}")
        if work.spec.kind is JobKind.REDUCE:
            whole = (kept.part.lo, kept.part.hi) == (kept.lo, kept.hi) and kept.lo == lo
            self.that(whole, "delivery", f"{where}: part of a partial")
        self._check_value(work, Deliver(work.spec.job, kept.part, blob, kept.lo, kept.hi))

    # ------------------------------------------------------------ the end

    def still_holding(self, job: JobId) -> list[str]:
        """Nodes that still have something of this job."""
        return [
            p.name
            for p in self.world.living()
            if any(whole_of(each) == job for each in p.core.holder.jobs)
        ]

    def still_leased(self, job: JobId) -> list[str]:
        """Nodes that have work of this job, and not only its name."""
        held = ((p.name, p.core.holder.jobs.get(job)) for p in self.world.living())
        return [name for name, each in held if each is not None and each.bags.leases]

    def disagreement(self) -> str:
        """How living nodes differ about who lives; empty when they agree. Supernodes must know all
        others, leaves those around them, and all must have living observers."""
        nodes = [p for p in self.world.living() if p.member.role is not Role.CLIENT and not p.left]
        alive = {p.member.id: p.name for p in nodes}
        opinions: dict[tuple[bytes, ...], str] = {}
        for node in nodes:
            view = node.core.view
            seen = set(view.nodes())
            whole = view.knows_all() or len(alive) <= EVERYBODY_MAX
            missing = sorted(alive[i] for i in alive.keys() - seen) if whole else []
            # Not `seen - alive.keys()`, which walks over all that live, for each node.
            ghosts = sorted(view.members[i].name for i in seen.difference(alive))
            if missing or ghosts:
                return f"{node.name} misses {missing} and believes in {ghosts}"
            homes = node.core.membership.leaf.observers
            if not all(home in alive for home in homes):
                return f"{node.name} beats to the dead"
            if not view.knows_all() and len(homes) < min(LEAF_OBSERVERS, view.supers_count):
                return f"{node.name} has only {len(homes)} homes"
            if view.knows_all():
                opinions.setdefault(tuple(view.supers()), node.name)
        if len(opinions) > 1:
            return f"{list(opinions.values())} do not agree on the supernodes"
        return ""

    def account_of(self, job: JobId, process: Process) -> str:
        """One line on how far a job has come, for the story of a stuck job."""
        owned = process.core.owner.jobs.get(job)
        if owned is None:
            return "its owner has forgotten it"
        text = f"{owned.ledger.figures()}, {'open' if owned.open_ended else 'closed'}"
        if isinstance(owned.ledger, IndexedLedger):
            text += f", free {list(owned.ledger.free)[:5]}"
        return text

    # ------------------------------------------------------------ load

    def stepped(
        self, process: Process, events: list[Event], effects: list[Effect], messages: Iterable[int]
    ) -> None:
        """A process heard this, decided that, and sent messages with these numbers (0: control)."""
        self.placing.stepped(process, events, effects)
        window = int(self.world.now / LOAD_WINDOW_SECONDS)
        load = self._loads.get(process.number)
        if load is None or load.window != window:
            load = self._loads[process.number] = ProcessLoad(window)
        load.links = max(load.links, len(process.ends))
        for seq in messages:
            load.messages += 1
            if not seq:
                load.control += 1
        self.rate_max = max(self.rate_max, load.messages)
        most = self.messages_a_second_max
        if most is None:
            return
        load.heard += sum(1 for event in events if type(event) is Heard and event.seq)
        if load.control > most * (4 + load.links) + load.heard / ACKS_OWED_MAX:
            text = f"{process.name} sent {load.control} control messages within a second"
            raise Breach("load", text)


def _leases_of_early(owner: Process) -> OwnLeases:
    """Of reports that wait for those of their inputs."""
    return {
        (job.spec.job, part.lid): job.ledger.holds(holder, part.lid)
        for job in owner.core.owner.jobs.values()
        if isinstance(job, IndexedJob) and job.edges is not None
        for holder, part, _ in job.edges.early
    }
