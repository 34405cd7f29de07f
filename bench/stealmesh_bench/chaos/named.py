"""The named scenarios: what happens in each, when and to which nodes, drawn from a seed.

Pure: the same name, seed and size give the same timetable. The Skype suite is after the great
outage of December 2010 (half of all clients on one build, two fifths of them crashed, and with them
a quarter of the supernodes; the herd of restarts took the rest).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from stealmesh_bench.chaos.scenario import CLIENT, Bounds, ChaosFault, Scenario

BURDENED = frozenset({"bootstrap", "mass-restart", "skype-actual", "skype-card", "skype-herd",
                      "skype-build", "skype-super"})  # fmt: skip
CALM_SECONDS = 3.0
"""Seconds of undisturbed work; what comes later is compared with it."""
SPREAD_SECONDS = 4.0
"""One node dies at any moment of this many seconds after that."""
AFTERWARDS_SECONDS = 7.0
MEAN_LIFE_SECONDS = 4.0
KILLERS_RESTART_SECONDS = 0.3
PARTITION_SECONDS = 10.0
HEALED_SECONDS = 16.0
FULL_STOP_WORK_SECONDS = 15.0
DISK_WORK_SECONDS = 14.0
LAG_SECONDS = 2.0
"""From the moment when one disk becomes slow to the full stop."""
LATE_SECONDS = 7.5
"""A replica that has everything comes this much later than the others: before they give it up."""
FULL_SECONDS = 1.5
"""Less than the log's patience."""
FULL_FOR_GOOD_SECONDS = 6.0
SKYPE_BOUNDS = Bounds(
    recovered_90_seconds=5.0,
    recovered_97_seconds=15.0,
    detection_p99_seconds=2.5,
    agreed_seconds=15.0,
    supernodes_restored_seconds=10.0,
)

ORPHANED_BOUNDS = replace(SKYPE_BOUNDS, detection_p99_seconds=5.0)
"""Of machines that go off: who dies with all that observe it is found after these (decision 066)."""

SUPER_BOUNDS = replace(SKYPE_BOUNDS, detection_p99_seconds=None, supernodes_restored_seconds=8.0)
"""Those who watch are those who die, so only their return has a bound."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    name: str
    seed: int
    nodes: int
    seconds: float | None = None
    target: str = "any"
    silent: bool = False
    """Machines go off where processes would be killed."""
    lasts_seconds: float | None = None
    """How long the work takes if nothing happens; None: as long as it is to flow."""

    @property
    def calm_seconds(self) -> float:
        """Large meshes take their time: owners hear of finished work every other second."""
        return CALM_SECONDS + max(0, self.nodes - 1000) / 2000


def draw(wanted: Wanted) -> Scenario:
    """The timetable of this name, for this seed and size."""
    rng = Random(f"{wanted.seed}/{wanted.name}/{wanted.nodes}")
    drawn = SCENARIOS[wanted.name].draw(wanted, rng)
    return replace(drawn, toil=wanted.name in BURDENED)


# ---------------------------------------------------------------- one node


def _kill_one(wanted: Wanted, rng: Random) -> Scenario:
    """One node dies at a random moment: of any role, or of the role that you name."""
    anybody = rng.randrange(wanted.nodes)
    at = wanted.calm_seconds + rng.uniform(0.0, _spread(wanted))
    bounds = Bounds(recovered_90_seconds=3.0, detection_p99_seconds=2.5, agreed_seconds=10.0)
    work: float | None = None
    if wanted.target == "submitter":
        faults = [ChaosFault(wanted.calm_seconds, "rival"), ChaosFault(at + 2.0, "kill-rival")]
        at += 2.0
    elif wanted.target == "durable-submitter":
        faults = [ChaosFault(at, "kill-submitter")]
        bounds = replace(bounds, flowing_again_seconds=3.0)
        work = wanted.lasts_seconds or at + AFTERWARDS_SECONDS
    else:
        named = {"seed": (0,), "any": (anybody,)}.get(wanted.target, ())
        faults = [ChaosFault(at, _end(wanted), named, "" if named else wanted.target)]
    return Scenario(
        "kill-one", wanted.seed, wanted.nodes, tuple(faults),
        wanted.seconds or at + AFTERWARDS_SECONDS, bounds, at, at, work_seconds=work,
    )  # fmt: skip


def _spread(wanted: Wanted) -> float:
    """Work that ends by itself must go on for long enough after the fault."""
    if wanted.seconds is not None or wanted.lasts_seconds is not None:
        lasts = min(filter(None, (wanted.seconds, wanted.lasts_seconds)))
        return max(0.0, lasts - wanted.calm_seconds - AFTERWARDS_SECONDS)
    return SPREAD_SECONDS


def _killers(wanted: Wanted, rng: Random) -> Scenario:
    """Everybody but one dies and comes back, again and again; the survivor's memory is watched."""
    seconds = wanted.seconds or 30.0
    victims = range(1, wanted.nodes) if wanted.nodes > 1 else range(1)
    faults = []
    for number in victims:
        at = 1.0 + rng.expovariate(1 / MEAN_LIFE_SECONDS)
        while at < seconds:
            faults.append(ChaosFault(at, _end(wanted), (number,)))
            faults.append(ChaosFault(at + KILLERS_RESTART_SECONDS, "start", (number,)))
            at += KILLERS_RESTART_SECONDS + rng.expovariate(1 / MEAN_LIFE_SECONDS)
    bounds = Bounds(
        detection_p99_seconds=2.5, agreed_seconds=15.0, run_twice_share=0.25, growth_mib=16.0
    )
    return Scenario(
        "killers", wanted.seed, wanted.nodes, _sorted(faults), seconds, bounds,
        agreement_from=max((f.at_seconds for f in faults), default=0.0), spared=(0,),
    )  # fmt: skip


# ---------------------------------------------------------------- silence and networks


def _pauses(wanted: Wanted, rng: Random) -> Scenario:
    """A tenth of all nodes stands still for 3 to 10 s, once each."""
    count = max(1, round(wanted.nodes * 0.1))
    faults = [
        ChaosFault(
            wanted.calm_seconds + rng.uniform(0, 8.0),
            "pause",
            (number,),
            seconds=rng.uniform(3, 10),
        )
        for number in rng.sample(range(wanted.nodes), count)
    ]
    over = max(fault.at_seconds + fault.seconds for fault in faults)
    bounds = Bounds(recovered_90_seconds=5.0, recovered_97_seconds=15.0, agreed_seconds=5.0)
    return Scenario(
        "pauses", wanted.seed, wanted.nodes, _sorted(faults), wanted.seconds or over + 16.0,
        bounds, over, over,
    )  # fmt: skip


def _partition(wanted: Wanted, rng: Random) -> Scenario:
    """Two halves that cannot hear each other; the program is in one of them. With `--seconds` the cut
    lasts for all but the first and the last of them."""
    numbers = list(range(wanted.nodes))
    rng.shuffle(numbers)
    left = (CLIENT, *sorted(numbers[: wanted.nodes // 2]))
    right = tuple(sorted(numbers[wanted.nodes // 2 :]))
    between = (wanted.seconds or 0.0) - wanted.calm_seconds - HEALED_SECONDS
    lasts = max(PARTITION_SECONDS, between)
    faults = (
        ChaosFault(wanted.calm_seconds, "cut", left, seconds=lasts, others=right),
        ChaosFault(wanted.calm_seconds, "cut", right, seconds=lasts, others=left),
    )
    healed = wanted.calm_seconds + lasts
    bounds = Bounds(recovered_90_seconds=10.0, recovered_97_seconds=15.0, agreed_seconds=10.0)
    return Scenario(
        "partition", wanted.seed, wanted.nodes, faults, wanted.seconds or healed + HEALED_SECONDS, bounds,
        healed, healed,
    )  # fmt: skip


def _one_way(wanted: Wanted, rng: Random) -> Scenario:
    """An eighth of all nodes is heard by all others and hears none of them."""
    deaf = tuple(sorted(rng.sample(range(wanted.nodes), max(1, wanted.nodes // 8))))
    others = (CLIENT, *(n for n in range(wanted.nodes) if n not in deaf))
    fault = ChaosFault(wanted.calm_seconds, "cut", others, seconds=PARTITION_SECONDS, others=deaf)
    healed = wanted.calm_seconds + PARTITION_SECONDS
    bounds = Bounds(recovered_90_seconds=10.0, recovered_97_seconds=15.0, agreed_seconds=10.0)
    return Scenario(
        "one-way", wanted.seed, wanted.nodes, (fault,), wanted.seconds or healed + 16.0, bounds,
        healed, healed,
    )  # fmt: skip


# ---------------------------------------------------------------- many at once


def _bootstrap(wanted: Wanted, rng: Random) -> Scenario:
    """Everybody starts at the same moment and knows one seed."""
    del rng
    return Scenario(
        "bootstrap", wanted.seed, wanted.nodes, (), wanted.seconds or 5.0,
        Bounds(agreed_seconds=10.0), together=True,
    )  # fmt: skip


def _mass_restart(wanted: Wanted, rng: Random) -> Scenario:
    """Every node is killed; every node comes back within two seconds and dials those it knew."""
    everybody = tuple(range(wanted.nodes))
    down = wanted.calm_seconds + 1.0
    faults = [ChaosFault(wanted.calm_seconds, _end(wanted), everybody)]
    faults += [ChaosFault(down + rng.uniform(0, 2.0), "start", (number,)) for number in everybody]
    back = max(fault.at_seconds for fault in faults)
    bounds = Bounds(
        recovered_90_seconds=10.0, recovered_97_seconds=15.0, agreed_seconds=15.0,
    )  # fmt: skip
    return Scenario(
        "mass-restart", wanted.seed, wanted.nodes, _sorted(faults), wanted.seconds or back + 16.0,
        bounds, back, back,
    )  # fmt: skip


def _full_stop(wanted: Wanted, rng: Random) -> Scenario:
    """Everybody is killed in the middle of a durable job, its submitter too, and started again."""
    work = wanted.seconds or wanted.lasts_seconds or FULL_STOP_WORK_SECONDS
    at = work * rng.uniform(0.3, 0.6)
    everybody = tuple(range(wanted.nodes))
    faults = [ChaosFault(at, "kill-submitter"), ChaosFault(at, _end(wanted), everybody)]
    faults += [
        ChaosFault(at + 1.0 + rng.uniform(0, 1.0), "start", (number,))
        for number in rng.sample(everybody, wanted.nodes)
    ]
    back = max(fault.at_seconds for fault in faults)
    bounds = Bounds(
        recovered_90_seconds=10.0, flowing_again_seconds=10.0, agreed_seconds=15.0,
    )  # fmt: skip
    return Scenario(
        "full-stop", wanted.seed, wanted.nodes, _sorted(faults), back + 16.0, bounds, back, back,
        work_seconds=work,
    )  # fmt: skip


# ---------------------------------------------------------------- disks


def _disk_bitflip(wanted: Wanted, rng: Random) -> Scenario:
    """A full stop, and one bit is flipped in a replica's log (--target all: in every replica's)."""
    return _damaged(wanted, rng, "disk-bitflip", "bitflip")


def _disk_truncated(wanted: Wanted, rng: Random) -> Scenario:
    """A full stop, and a replica's log has lost its end (--target all: every replica's, at other places)."""
    return _damaged(wanted, rng, "disk-truncated", "truncated")


def _disk_unsynced(wanted: Wanted, rng: Random) -> Scenario:
    """The power fails on one replica of a slow disk (--target all: on all): nothing unsynced is there."""
    work, at = _stop_at(wanted, rng)
    faults = [
        ChaosFault(at - LAG_SECONDS, "slow-disk"),
        ChaosFault(at - LAG_SECONDS, "power", target=hit_by(wanted)),
    ]
    return _stopped(wanted, rng, "disk-unsynced", faults, at, work)


def _disk_full(wanted: Wanted, rng: Random) -> Scenario:
    """A replica's disk is full until its node ends (--target all: all are full for a moment); full stop."""
    work, at = _stop_at(wanted, rng)
    seconds = FULL_SECONDS if hit_by(wanted) == "all" else FULL_FOR_GOOD_SECONDS
    faults = [ChaosFault(at - seconds - 0.5, "full-disk", target=hit_by(wanted), seconds=seconds)]
    return _stopped(wanted, rng, "disk-full", faults, at, work)


def _damaged(wanted: Wanted, rng: Random, name: str, how: str) -> Scenario:
    work, at = _stop_at(wanted, rng)
    faults = [ChaosFault(at + 0.5, "spoil", target=hit_by(wanted), how=how)]
    if hit_by(wanted) == "minority":
        faults.append(ChaosFault(at - LAG_SECONDS, "slow-disk"))
    return _stopped(wanted, rng, name, faults, at, work)


def hit_by(wanted: Wanted) -> str:
    """The disks to hit; by default those of a minority."""
    return "minority" if wanted.target == "any" else wanted.target


def _stop_at(wanted: Wanted, rng: Random) -> tuple[float, float]:
    """How long the work takes, and when all are killed."""
    work = max(DISK_WORK_SECONDS, wanted.seconds or wanted.lasts_seconds or 0.0)
    return work, work * rng.uniform(0.55, 0.7)


def _stopped(
    wanted: Wanted, rng: Random, name: str, faults: list[ChaosFault], at: float, work: float
) -> Scenario:
    """A full stop among these faults."""
    everybody = tuple(range(wanted.nodes))
    faults = [*faults, ChaosFault(at, "kill-submitter"), ChaosFault(at, "kill", everybody)]
    faults += [
        ChaosFault(at + 1.0 + rng.uniform(0, 1.0), "start", (number,))
        for number in rng.sample(everybody, wanted.nodes)
    ]
    back = max(fault.at_seconds for fault in faults)
    bounds = Bounds(flowing_again_seconds=20.0, agreed_seconds=15.0)
    return Scenario(
        name, wanted.seed, wanted.nodes, _sorted(faults), back + 24.0, bounds, back, back + LATE_SECONDS,
        work_seconds=work,
    )  # fmt: skip


# ---------------------------------------------------------------- Skype, December 2010


def _actual(wanted: Wanted, rng: Random) -> Scenario:
    """Half of all nodes run one build; two fifths of them die within 10 s; all come back by 30 s."""
    build = rng.sample(range(wanted.nodes), wanted.nodes // 2)
    doomed = rng.sample(build, max(1, round(len(build) * 0.4)))
    faults = [
        ChaosFault(wanted.calm_seconds + rng.uniform(0, 10.0), _end(wanted), (n,)) for n in doomed
    ]
    over = max(fault.at_seconds for fault in faults)
    back = wanted.calm_seconds + 28.0
    faults += [ChaosFault(back + rng.uniform(0, 2.0), "start", (number,)) for number in doomed]
    return Scenario(
        "skype-actual", wanted.seed, wanted.nodes, _sorted(faults), wanted.seconds or back + 8.0,
        SKYPE_BOUNDS, over, back + 2.0,
    )  # fmt: skip


def _doomed(wanted: Wanted, rng: Random) -> tuple[int, ...]:
    """Two fifths of all nodes."""
    return tuple(sorted(rng.sample(range(wanted.nodes), max(1, round(wanted.nodes * 0.4)))))


def _card(wanted: Wanted, rng: Random) -> Scenario:
    """Two fifths of all nodes die in one instant and stay dead."""
    fault = ChaosFault(wanted.calm_seconds, _end(wanted), _doomed(wanted, rng))
    return Scenario(
        "skype-card", wanted.seed, wanted.nodes, (fault,), wanted.seconds or wanted.calm_seconds + 16.0,
        ORPHANED_BOUNDS if wanted.silent else SKYPE_BOUNDS, wanted.calm_seconds, wanted.calm_seconds,
    )  # fmt: skip


def _herd(wanted: Wanted, rng: Random) -> Scenario:
    """The same, and all of them come back at once; half of them have forgotten the others' addresses."""
    doomed = _doomed(wanted, rng)
    back = wanted.calm_seconds + 1.0
    faults = [ChaosFault(wanted.calm_seconds, _end(wanted), doomed)]
    faults += [
        ChaosFault(back, "start", (number,), forgetful=place % 2 == 0)
        for place, number in enumerate(doomed)
    ]
    return Scenario(
        "skype-herd", wanted.seed, wanted.nodes, tuple(faults), wanted.seconds or back + 16.0,
        SKYPE_BOUNDS, back, back,
    )  # fmt: skip


def _build(wanted: Wanted, rng: Random) -> Scenario:
    """Every node of one build dies: half of the mesh."""
    doomed = tuple(sorted(rng.sample(range(wanted.nodes), wanted.nodes // 2)))
    fault = ChaosFault(wanted.calm_seconds, _end(wanted), doomed)
    return Scenario(
        "skype-build", wanted.seed, wanted.nodes, (fault,), wanted.seconds or wanted.calm_seconds + 16.0,
        ORPHANED_BOUNDS if wanted.silent else SKYPE_BOUNDS, wanted.calm_seconds, wanted.calm_seconds,
    )  # fmt: skip


def _super(wanted: Wanted, rng: Random) -> Scenario:
    """Every supernode dies."""
    del rng
    fault = ChaosFault(wanted.calm_seconds, _end(wanted), target="supernode")
    return Scenario(
        "skype-super", wanted.seed, wanted.nodes, (fault,), wanted.seconds or wanted.calm_seconds + 16.0,
        SUPER_BOUNDS, wanted.calm_seconds, wanted.calm_seconds,
    )  # fmt: skip


# ---------------------------------------------------------------- anything


def _random(wanted: Wanted, rng: Random) -> Scenario:
    """A dozen faults of every kind within ten seconds, all of them over soon."""
    faults: list[ChaosFault] = []
    over = 0.0
    for _ in range(12):
        at = wanted.calm_seconds + rng.uniform(0, 10.0)
        some = tuple(sorted(rng.sample(range(wanted.nodes), rng.randint(1, 1 + wanted.nodes // 4))))
        kind = rng.choice(
            ("kill", "pause", "cut", "delay", "reset", "half-open", "corrupt", "drain")
        )
        seconds = rng.uniform(0.3, 5.0)
        if kind in ("kill", "drain"):
            back = at + (seconds if kind == "kill" else 8.0)
            faults += [ChaosFault(at, kind, some), ChaosFault(back, "start", some)]
            over = max(over, back)
            continue
        others = tuple(n for n in (CLIENT, *range(wanted.nodes)) if n not in some)
        if kind == "cut" and rng.random() < 0.7:
            faults.append(ChaosFault(at, kind, others, seconds=seconds, others=some))
        faults.append(
            ChaosFault(
                at, kind, some, seconds=seconds, others=others if kind == "cut" else (),
                delay_seconds=rng.uniform(0.01, 0.3) if kind == "delay" else 0.0,
            )
        )  # fmt: skip
        over = max(over, at + seconds)
    bounds = Bounds(recovered_90_seconds=15.0, agreed_seconds=15.0, false_verdicts=None)
    return Scenario(
        "random", wanted.seed, wanted.nodes, _sorted(faults), wanted.seconds or over + 17.0,
        bounds, over, over,
    )  # fmt: skip


def _end(wanted: Wanted) -> str:
    return "silence" if wanted.silent else "kill"


def _sorted(faults: list[ChaosFault]) -> tuple[ChaosFault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.at_seconds))


DISKS = frozenset({"disk-bitflip", "disk-truncated", "disk-unsynced", "disk-full"})
"""Scenarios that hit a minority of the replicas, or all."""


@dataclass(frozen=True, slots=True)
class Named:
    draw: Callable[[Wanted, Random], Scenario]
    nodes_min: int = 2

    @property
    def about(self) -> str:
        return (self.draw.__doc__ or "").split("\n")[0]


SCENARIOS = {
    "kill-one": Named(_kill_one),
    "killers": Named(_killers),
    "pauses": Named(_pauses),
    "partition": Named(_partition),
    "one-way": Named(_one_way),
    "bootstrap": Named(_bootstrap, 1),
    "mass-restart": Named(_mass_restart, 1),
    "full-stop": Named(_full_stop, 1),
    "disk-bitflip": Named(_disk_bitflip, 3),
    "disk-truncated": Named(_disk_truncated, 3),
    "disk-unsynced": Named(_disk_unsynced, 3),
    "disk-full": Named(_disk_full, 3),
    "skype-actual": Named(_actual, 4),
    "skype-card": Named(_card),
    "skype-herd": Named(_herd),
    "skype-build": Named(_build),
    "skype-super": Named(_super),
    "random": Named(_random),
}
