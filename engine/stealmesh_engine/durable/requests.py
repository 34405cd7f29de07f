"""What clients ask of the node that leads their job: begin it, take more items, show results, cancel it.

Decides whether a new job, and its items, are taken here. Refuses to know how a job is run (primary.py) and how one that
lost all replicas is rebuilt (takeover.py). A request for a job that is led elsewhere is answered by what
we know of it (HERE).
"""

from __future__ import annotations

from msgspec.structs import replace

from stealmesh_engine.base.rude import is_one_job, unless
from stealmesh_engine.durable.bag_replica import replica_of
from stealmesh_engine.durable.call_edges import fits
from stealmesh_engine.durable.primary import Primary, first_word
from stealmesh_engine.durable.state import DurableState
from stealmesh_engine.durable.takeover import Takeover
from stealmesh_protocol.ids import JobId, PeerId, owner_of
from stealmesh_protocol.limits import MIB, TERM_MAX, TERM_STEP_MAX
from stealmesh_protocol.messages import (
    Abolish,
    Accepted,
    Fetch,
    Here,
    Launch,
    PeerState,
    PrintedGet,
    Reign,
    Role,
    Standing,
    Supply,
)

INPUTS_SHARE = 0.5
"""Of `keep_octets_max`: what inputs may take of it."""
NOT_THEIRS = "it was launched with another token, or with the mesh key"
"""What the holder of a token hears of a job that is not its own."""


class Requests:
    """Requests of clients, for all jobs that are led here."""

    def __init__(self, state: DurableState, takeover: Takeover) -> None:
        self.state = state
        self.takeover = takeover

    def launched(self, client: PeerId, message: Launch, now: float) -> None:
        state, job = self.state, message.spec.job
        primary = state.primaries.get(job)
        guest = state.links.guests.name_of(client)
        if guest:
            # A token names its holder's jobs, whatever the holder says.
            unless(owner_of(job) == client, "not-its-owner")
            message = replace(message, spec=replace(message.spec, guest=guest))
        # One that was never led is new, and its id names the program that gives it to the mesh.
        unless(bool(message.spec.term) or owner_of(job) == client, "not-its-owner")
        if job in state.gone or (job in state.replicas and primary is None):
            state.say_here(client, job, now)
            return
        if primary is not None:
            replica = primary.replica
            unless(is_one_job(replace(message.spec, term=1), replica.spec), "another-job")
            if primary.rebuild is not None or owner_of(job) == client:
                primary.merged(replica.join(first_word(message, replica)), now)
        elif refusal := self._objection(message):
            state.counters.count("launches-refused")
            state.links.send(client, Accepted(job, 0, refusal=refusal), now)
            return
        elif message.spec.term:
            self.takeover.rebuild(message, now)
        else:
            self._open(message, now)
        state.primaries[job].replication.accept(client)

    def _objection(self, message: Launch) -> str:
        state, me = self.state, self.state.links.view.me
        if me.role is Role.CLIENT or me.state > PeerState.SUSPECT:
            return "this peer keeps no jobs"
        if message.spec.term > TERM_MAX - TERM_STEP_MAX:
            return f"term {message.spec.term} leaves no room for later ones"
        octets = state.octets + sum(map(len, message.blobs))
        most = state.config.keep_octets_max
        if octets > most:
            return (
                f"the node keeps {octets / MIB:.1f} MiB of durable jobs and may keep {most / MIB:.1f}: "
                "collect results, or raise keep_octets_max"
            )
        return ""

    def _open(self, message: Launch, now: float) -> None:
        """A job begins here."""
        state = self.state
        term = state.terms.take(message.spec.job, 0)
        replica = replica_of(message.spec, Reign(term, 0, state.me, []))
        state.keep(replica)
        primary = state.lead(replica)
        replica.reconfigure(Reign(term, 1, state.me, [(state.store, state.me)]))
        replication = primary.replication
        replication.start(replication.choose(now), now)
        primary.merged(replica.join(first_word(message, replica)), now)
        primary.begin(now)

    def supplied(self, client: PeerId, message: Supply, now: float) -> None:
        unless(owner_of(message.job) == client, "not-its-owner")
        primary = self._led(client, message.job, now)
        if primary is None:
            return
        for block, blob in zip(message.blocks, message.blobs, strict=True):
            unless(not block.inputs or fits(primary.replica.spec, block, blob), "inputs")
        if refusal := self._no_room_for(primary, message):
            # What is here already is of no use, and takes room from others.
            self.state.counters.count("launches-refused")
            self.state.links.send(client, Accepted(message.job, 0, refusal=refusal), now)
            primary.expire(now)
            return
        primary.supplied(client, message, now)

    def _no_room_for(self, primary: Primary, message: Supply) -> str:
        """Inputs stay until their results are here, so results need room beside them. Without it the job would
        stand still for ever. While a job is rebuilt all is taken: a refusal would forget it half-way."""
        known = primary.replica.total
        fresh = sum(
            len(blob)
            for block, blob in zip(message.blocks, message.blobs, strict=True)
            if block.lo >= known
        )
        if primary.rebuild is not None or not fresh:
            return ""
        led = self.state.primaries.values()
        octets = fresh + sum(each.replica.blocks.octets for each in led)
        most = self.state.config.keep_octets_max
        if octets <= INPUTS_SHARE * most:
            return ""
        return (
            f"the inputs of durable jobs have {octets / MIB:.1f} MiB and more here, and may take half of the "
            f"{most / MIB:.1f} MiB that the node may keep, as results need the rest: give the job names of "
            "files, or smaller jobs, or raise keep_octets_max"
        )

    def fetched(self, client: PeerId, message: Fetch, now: float) -> None:
        primary = self._led(client, message.job, now)
        if primary is not None:
            primary.fetched(client, message, now)

    def abolished(self, client: PeerId, message: Abolish, now: float) -> None:
        primary = self._led(client, message.job, now)
        if primary is not None:
            self.state.journal.tell(now, "cancelled", message.job)
            primary.cancel(now, stop=message.stop)

    def asked_output(self, client: PeerId, message: PrintedGet, now: float) -> None:
        if self._led(client, message.job, now) is not None:
            self.state.owner.printouts.asked(client, message, now)

    def _led(self, client: PeerId, job: JobId, now: float) -> Primary | None:
        """The job's primary; without one, the client learns what we know of the job. The holder of a token has
        business only with what was launched under its name."""
        primary = self.state.primaries.get(job)
        if primary is None:
            self.state.say_here(client, job, now)
            return None
        guest = self.state.links.guests.name_of(client)
        if guest and primary.replica.spec.guest != guest:
            self.state.counters.count("guests-jobs-refused")
            nothing = Reign(0, 0, self.state.me, [])
            here = Here(job, Standing.GONE, nothing, why=NOT_THEIRS)
            self.state.links.send(client, here, now)
            return None
        return primary
