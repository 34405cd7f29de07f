"""The means to tell a story: nodes with people's names, programs with jobs, and accidents.

Does: sets a small virtual world up and plays it under the ears of a `Narrator`. Decides nothing; what
happens is written in `stories`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from random import Random

from stealmesh_engine.config import Config
from stealmesh_engine.events import Drain
from stealmesh_protocol.messages import JobKind, Message
from stealmesh_sim.disks import VirtualDisk
from stealmesh_sim.durable_programs import DurableReader, Launcher
from stealmesh_sim.process import Process
from stealmesh_sim.programs import VirtualProgram, Wish
from stealmesh_sim.work import CostLaw
from stealmesh_sim.world import World

from .narrator import Narrator

WIDTH = 100
SWEEP_SECONDS = 0.05
MEET_SECONDS = 12.0


class Story:
    """A small world and its narrator."""

    def __init__(self, *, seed: int = 1, config: Config | None = None) -> None:
        self.world = World(seed, config=config)
        self.narrator = Narrator(self.world)
        self.nodes: list[Process] = []
        self._disks = Random(f"{seed}/disks")
        self._sweep()

    def _sweep(self) -> None:
        self.world.checkers.sweep()
        self.world.after(SWEEP_SECONDS, self._sweep)

    # ------------------------------------------------------------ who is there

    def start(
        self, *names: str, workers: int = 1, disks: bool = False, role: str = "auto"
    ) -> list[Process]:
        """Nodes start. Each but the first knows the first."""
        started = []
        for name in names:
            seeds = self.nodes[0].member.endpoints if self.nodes else []
            disk = VirtualDisk(self._disks) if disks else None
            node = self.world.node(name, seeds=seeds, workers=workers, disk=disk, role=role)
            self.nodes.append(node)
            started.append(node)
        return started

    def program(self, name: str, at: Process | None = None) -> Process:
        """A user's program joins through a node, by default the first."""
        node = at or self.nodes[0]
        return self.world.client(name, seeds=node.member.endpoints)

    def begin(
        self, *, shows: tuple[type[Message], ...] = (), hides: tuple[type[Message], ...] = ()
    ) -> None:
        """All have met; from now on every line counts."""
        self.world.run(MEET_SECONDS)
        assert not self.world.checkers.disagreement()
        self.narrator.hidden = (self.narrator.hidden - {*shows}) | {*hides}
        self.narrator.zero = self.world.now

    # ------------------------------------------------------------ jobs

    def map(
        self, owner: Process, items: int, *, seconds: float = 0.1, chunk: int = 0,
        killers: dict[int, int] | None = None,
    ) -> VirtualProgram:  # fmt: skip
        """A program maps a function over a range. An item takes `seconds`; item → times it kills."""
        self.narrator.tell(owner.name, f"maps a function over {items} items")
        wish = Wish(
            JobKind.MAP, items, CostLaw("const", seconds), self.world.now, chunk_items=chunk,
            killers=killers or {},
        )  # fmt: skip
        return VirtualProgram(self.world, owner, wish)

    def launch(
        self, owner: Process, items: int, *, seconds: float = 0.1, chunk: int = 0
    ) -> Launcher:
        """A program submits a durable job: it goes on without the program."""
        self.narrator.tell(owner.name, f"submits a durable job of {items} items")
        law = CostLaw("const", seconds)
        wish = Wish(JobKind.MAP, items, law, self.world.now, chunk_items=chunk)
        return Launcher(self.world, owner, wish)

    def attach(self, reader: Process, launcher: Launcher) -> DurableReader:
        self.narrator.tell(reader.name, "attaches to the durable job and asks for its results")
        return DurableReader(self.world, reader, launcher.work)

    def primary(self, job: DurableReader) -> Process:
        """The node that leads a durable job."""
        return next(n for n in self.nodes if n.alive and job.job in n.core.durable.state.primaries)

    def settled(self, job: DurableReader) -> int:
        """Items of a durable job that are safe on replicas."""
        leads = [n.core.durable.state.primaries.get(job.job) for n in self.nodes if n.alive]
        return max((lead.replication.safe.size for lead in leads if lead is not None), default=0)

    # ------------------------------------------------------------ time

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def until(self, holds: Callable[[], bool], *, within: float = 60.0) -> None:
        """Let time pass, event by event, until it is so."""
        limit = self.world.now + within
        while not holds():
            assert self.world.now < limit, f"it did not happen within {within} s"
            assert self.world.step(), "nothing is going to happen any more"

    def until_over(self, job: VirtualProgram | DurableReader) -> None:
        self.until(lambda: job.done)
        if isinstance(job, DurableReader):
            assert not job.gone
            assert job.position == job.work.total
        self.narrator.tell(job.owner.name, f"has the results of all {job.work.total} items")

    def remark(self, text: str) -> None:
        """Say to the reader what happens next, and why it is told."""
        self.narrator.remark(text)

    # ------------------------------------------------------------ accidents

    def kill(self, process: Process) -> None:
        """The process ends at once; the kernel closes its connections."""
        self.narrator.tell(process.name, "is killed")
        self.world.crash(process)

    def power_off(self, process: Process) -> None:
        """The machine is off: nothing tells the others."""
        self.narrator.tell(process.name, "loses its power")
        self.world.crash(process, silent=True)

    def restart(self, process: Process) -> Process:
        """A new life at the same address, with the same disk."""
        self.narrator.tell(process.name, "starts again")
        seeds = [n.member.endpoints[0] for n in self.nodes if n.place != process.place]
        fresh = self.world.restart(process, seeds=seeds)
        self.nodes[self.nodes.index(process)] = fresh
        return fresh

    def drain(self, process: Process) -> None:
        """The node is asked to leave in order."""
        self.narrator.tell(process.name, "is asked to drain")
        process.hear(Drain())

    def pause(self, process: Process) -> None:
        self.narrator.tell(process.name, "stands still")
        self.world.pause(process)

    def resume(self, process: Process) -> None:
        self.narrator.tell(process.name, "goes on")
        self.world.resume(process)

    def cut(self, some: list[Process], others: list[Process]) -> Callable[[], None]:
        """Nothing gets from the one side to the other, either way; returns how to mend it."""
        here, there = [p.place for p in some], [p.place for p in others]
        self.world.network.wall_off(here, there)
        self.world.network.wall_off(there, here)

        def mend() -> None:
            self.world.network.tear_down(here, there)
            self.world.network.tear_down(there, here)

        return mend


def written(tell: Callable[[Story], None]) -> str:
    """Play a story; returns its transcript, headed by its docstring."""
    title, _, about = (tell.__doc__ or "").partition("\n")
    story = Story()
    tell(story)
    lines = [title.rstrip("."), "=" * len(title.rstrip(".")), ""]
    paragraphs = textwrap.dedent(about).strip().split("\n\n")
    lines += "\n\n".join(textwrap.fill(each, WIDTH) for each in paragraphs).splitlines()
    lines += ["", "seconds  who    does"]
    for line in story.narrator.lines:
        if isinstance(line, str):
            lines += [
                "",
                *textwrap.wrap(line, WIDTH, initial_indent="  # ", subsequent_indent="  # "),
            ]
        else:
            lines.append(line.written())
    return "\n".join(lines) + "\n"
