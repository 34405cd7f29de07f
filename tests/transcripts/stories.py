"""The stories: functions with the heading as their docstring. `test_transcripts` writes them down."""

from __future__ import annotations

from collections.abc import Callable

from stealmesh_protocol import messages as m

from .story import Story


def batch(story: Story) -> None:
    """A batch.

    A program, dora, maps a function over a range. It owns the job, and its ledger says who has which
    items. It grants the range to the node with the fewest leases, alice, who passes some of it on to
    bob. Dora alone grants leases.
    """
    story.start("alice", "bob")
    dora = story.program("dora")
    story.begin(shows=(m.FnGet, m.FnPut, m.Closed))
    story.until_over(story.map(dora, 12))
    story.run(0.5)


def steal(story: Story) -> None:
    """A steal.

    Alice has all the work when bob joins. Bob, the thief, asks; alice, the victim, gives half of what
    she has not begun. She does not send it herself: she asks the owner to move it, so the ledger is
    right at every moment.
    """
    story.start("alice")
    dora = story.program("dora")
    story.begin(shows=(m.Hello, m.Welcome))
    job = story.map(dora, 40)
    story.run(1.0)
    story.remark("Bob starts. He knows alice's address, and nothing more.")
    story.start("bob")
    story.until_over(job)


def accusation(story: Story) -> None:
    """A false accusation, refuted.

    Carol's machine cannot be reached for eight seconds. The others ask each other, and declare her
    dead. Carol hears no one at all, so she doubts herself first and waits five seconds longer. When
    the cable is back, each learns what was said about it. A node alone may raise its incarnation
    number, and a statement with a higher number overrules the verdict.
    """
    alice, bob, carol = story.start("alice", "bob", "carol")
    story.begin()
    story.remark("The cable of carol's machine is pulled out.")
    mend = story.cut([carol], [alice, bob])
    story.run(8.0)
    story.remark("The cable is back.")
    mend()
    story.until(lambda: not story.world.checkers.disagreement())
    story.run(1.0)


def death(story: Story) -> None:
    """A death, and what becomes of its leases.

    Bob's process is killed. The kernel closes his connections, so the others look at once: he
    cannot be reached. Then the owner fences his leases (a late report under them would not count) and
    grants the items again.
    """
    _, bob, _ = story.start("alice", "bob", "carol")
    dora = story.program("dora")
    story.begin()
    job = story.map(dora, 30)
    story.run(0.55)
    story.kill(bob)
    story.until_over(job)


def killer(story: Story) -> None:
    """A worker killed by an item.

    Item 5 ends the process of any worker that runs it, as a bad pointer in a library does. The node
    lives on and starts another worker. It finds out which item it was by running what is suspect
    piece by piece, and after three attempts it reports that item as failed. All others arrive.
    """
    story.start("alice")
    dora = story.program("dora")
    story.begin()
    story.until_over(story.map(dora, 12, chunk=4, killers={5: 99}))


def split(story: Story) -> None:
    """A split brain that heals.

    The network falls into two halves. Each half takes the other for dead. The owner, dora, fences the
    leases of the other half and grants its items again on her side. Bob and carol run on, but their
    reports cannot be delivered. When the network is whole, they learn that their leases are over and
    drop the job; then they get new work of it. Every item arrives once.
    """
    alice, bob, carol = story.start("alice", "bob", "carol")
    dora = story.program("dora")
    story.begin(hides=(m.Steal, m.Split))
    job = story.map(dora, 26, seconds=0.5)
    story.run(1.3)
    story.remark("The switch between the halves fails: alice and dora here, bob and carol there.")
    mend = story.cut([alice, dora], [bob, carol])
    story.run(9.0)
    story.remark("The switch works again.")
    mend()
    story.until_over(job)


def supernode(story: Story) -> None:
    """A supernode dies, and another node takes its place.

    Of six nodes three are supernodes: they know all members and watch the others. When one dies, the
    others agree on a leaf and ask it to serve.
    """
    nodes = story.start("alice", "bob", "carol", "dave", "erin", "frank")
    story.begin()
    victim = next(n for n in nodes[1:] if n.core.me.role is m.Role.SUPER)
    supers = [n.name for n in nodes if n.core.me.role is m.Role.SUPER]
    story.remark(f"The supernodes are {', '.join(supers)}.")
    story.kill(victim)
    story.until(
        lambda: sum(n.core.me.role is m.Role.SUPER for n in nodes if n.alive) == len(supers),
        within=30.0,
    )
    story.until(lambda: not story.world.checkers.disagreement())


def drain(story: Story) -> None:
    """A node that drains.

    Bob is told to leave. He finishes what his worker has begun, hands back the rest, and goes as
    soon as no one needs him. Nothing runs twice.
    """
    _, bob = story.start("alice", "bob")
    dora = story.program("dora")
    story.begin()
    job = story.map(dora, 30)
    story.run(0.55)
    story.drain(bob)
    story.until_over(job)


def election(story: Story) -> None:
    """A durable job elects another primary.

    A durable job lives on nodes, not in the program. One node, the primary, has the ledger; it and
    two more have replicas on disk. A result is safe, and may be collected, once two disks have it.
    The primary is killed halfway. The replicas find each other and the better one becomes primary,
    under a higher term, so that the old one is not listened to.
    """
    story.start("alice", "bob", "carol", disks=True)
    dora = story.program("dora")
    story.begin(hides=(m.Steal, m.Split))
    job = story.launch(dora, 24, seconds=0.25)
    story.until(lambda: story.settled(job) >= 8)
    story.kill(story.primary(job))
    story.until_over(job)


def full_stop(story: Story) -> None:
    """A full stop, and the return.

    All processes are killed at once, the program too. Everything that was safe is on disks. When the
    nodes start again, they find the job there, elect a primary and go on. Another program attaches
    and collects all results. (A name with a dash is that node's second life: bob' was bob.)
    """
    nodes = story.start("alice", "bob", "carol", disks=True)
    dora = story.program("dora")
    story.begin(hides=(m.Steal, m.Split))
    job = story.launch(dora, 18, seconds=0.5)
    story.until(lambda: story.settled(job) >= 8)
    for process in (*nodes, dora):
        story.kill(process)
    story.run(5.0)
    for node in nodes:
        story.restart(node)
    story.run(1.0)
    erin = story.program("erin", story.nodes[1])
    story.until_over(story.attach(erin, job))


def submitter(story: Story) -> None:
    """A submitter's death.

    A job that is not durable belongs to its program. When the program is killed, no one wants the
    results. A program listens at no address, so the nodes cannot ask there whether it lives: they wait
    for two seconds of silence, and drop what they have.
    """
    story.start("alice", "bob")
    dora = story.program("dora")
    story.begin()
    job = story.map(dora, 200)
    story.run(0.55)
    story.kill(dora)
    story.until(lambda: not story.world.checkers.still_holding(job.job))
    story.remark("Alice and bob have nothing of the job any more, and wait for the next.")


STORIES: dict[str, Callable[[Story], None]] = {
    "batch": batch,
    "steal": steal,
    "false-accusation": accusation,
    "death-and-release": death,
    "worker-killed-by-an-item": killer,
    "split-brain": split,
    "supernode-dies": supernode,
    "drain": drain,
    "durable-election": election,
    "full-stop-and-return": full_stop,
    "submitter-dies": submitter,
}
"""Name of the file → the story."""
