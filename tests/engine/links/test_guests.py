"""Guests: who gets in with which pass, what each role may say to a node, and how revoked names spread."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace
from tests.engine.links.cores import core, hello, said
from tests.engine.wire import Host, Wire
from tests.protocol.test_vectors import VECTORS

from stealmesh_engine.core import NodeCore
from stealmesh_engine.effects import Effect, Hangup, JobGone, KeepBarred, Send
from stealmesh_engine.events import (
    AbolishJob,
    AskStatus,
    AttachJob,
    BarTokens,
    CameBy,
    FetchResults,
    Heard,
    LaunchJob,
    Tick,
)
from stealmesh_engine.links.guests import CLOCKS_DIFFER_SECONDS
from stealmesh_protocol.conversation import INTRODUCTIONS
from stealmesh_protocol.ids import job_id, value_id
from stealmesh_protocol.key_roles import MAY_HEAR, MAY_SAY
from stealmesh_protocol.limits import BARRED_MAX
from stealmesh_protocol.messages import (
    MESSAGES,
    Barred,
    Beat,
    Block,
    Bye,
    Closed,
    FnPut,
    Grant,
    JobKind,
    JobLine,
    JobLoad,
    JobSpec,
    Lease,
    Member,
    Message,
    PeerState,
    Piece,
    Refused,
    Revoked,
    Role,
    StatusGet,
    Supply,
    Taken,
    ValueDrop,
    ValueGet,
    ValueSeek,
    View,
    Welcome,
)
from stealmesh_protocol.passes import (
    KeyRole,
    Pass,
    TokenSecrets,
    life_id,
    own_id,
    proof_of,
    sealed,
)

MARK, SECRET = "32a89c11", b"s" * 32
NODES = TokenSecrets(secrets=((MARK, SECRET),))
NOW = 1.75e9
"""The time of day at moment 0."""
EXAMPLES = {type(message): message for _, message, _, _ in VECTORS}
AT_THE_HOST = {Piece.TAG, Taken.TAG}
"""The transport deals with these."""


class Holder:
    """Someone with a token, and its life."""

    def __init__(
        self, role: KeyRole, name: str = "laptop", expires: float = 0.0, secret: bytes = SECRET
    ) -> None:
        told = Pass(role, name, expires)
        seal, nonce = sealed(secret, told), Random(name).randbytes(16)
        self.id = life_id(seal, nonce)
        self.proof = proof_of(told, seal, nonce)
        self.role = role
        self.record = Member(self.id, name, "far", Role.CLIENT, [], 1)

    def hello(self, to: bytes = b"") -> Message:
        return replace(hello(self.record, to), proof=self.proof)


def node(**more: object) -> NodeCore:
    return core("node", tokens=NODES, wall_offset=NOW, **more)


def enter(
    peer: NodeCore, holder: Holder, link: int = 1, now: float = 1.0
) -> tuple[list[Effect], bool]:
    """The holder comes by this link and says HELLO. Returns what was done, and whether it is in."""
    effects = peer.step(now, CameBy(link, holder.role))
    effects += peer.step(now, Heard(link, holder.hello(peer.me.id)))
    return effects, any(isinstance(each, Welcome) for each in said(effects))


def refusals(effects: list[Effect]) -> list[str]:
    return [each.code for each in said(effects) if isinstance(each, Refused)]


# ---------------------------------------------------------------- who gets in


@pytest.mark.parametrize("role", [KeyRole.SUBMIT, KeyRole.VIEW])
def test_a_genuine_pass_gets_in(role: KeyRole) -> None:
    peer = node()
    assert enter(peer, Holder(role))[1]
    assert peer.links.guests.name_of(Holder(role).id) == "laptop"
    assert "laptop" not in peer.links.guests.barred


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda h: replace(h, proof=b""), "key"),
        (lambda h: replace(h, proof=h.proof[:-1]), "key"),
        (lambda h: replace(h, sender=replace(h.sender, id=b"victim".ljust(16))), "key"),
        (lambda h: replace(h, sender=replace(h.sender, role=Role.PLAIN)), "role"),
        (lambda h: replace(h, sender=replace(h.sender, role=Role.SUPER, workers=9)), "role"),
        (lambda h: replace(h, sender=replace(h.sender, endpoints=["tcp://x:1"])), "role"),
    ],
    ids=["no proof", "cut", "another's id", "as node", "as supernode", "with an address"],
)
def test_a_hello_that_does_not_fit_its_pass_is_refused(change: object, code: str) -> None:
    peer, holder = node(), Holder(KeyRole.SUBMIT)
    peer.step(1.0, CameBy(1, KeyRole.SUBMIT))
    effects = peer.step(1.0, Heard(1, change(holder.hello(peer.me.id))))  # type: ignore[operator]
    assert refusals(effects) == [code]
    assert Hangup(1) in effects
    assert not peer.links.peers


def test_the_key_of_the_connection_decides_and_not_the_pass() -> None:
    """The CURVE key of view tokens opens a connection for looking, no matter which pass is shown there."""
    peer = node()
    peer.step(1.0, CameBy(1, KeyRole.VIEW))
    effects = peer.step(1.0, Heard(1, Holder(KeyRole.SUBMIT).hello(peer.me.id)))
    assert refusals(effects) == ["key"]
    assert not enter(peer, Holder(KeyRole.SUBMIT, secret=b"x" * 32))[1]


def test_a_token_counts_until_clocks_that_differ_agree_that_it_does_not() -> None:
    peer = node()
    at = NOW + 100.0
    assert enter(peer, Holder(KeyRole.VIEW, "a", at), 1, 99.0)[1]
    assert enter(peer, Holder(KeyRole.VIEW, "b", at), 3, 99.0 + CLOCKS_DIFFER_SECONDS)[1]
    effects, is_in = enter(peer, Holder(KeyRole.VIEW, "c", at), 5, 101.0 + CLOCKS_DIFFER_SECONDS)
    assert not is_in
    assert refusals(effects) == ["expired"]
    effects = peer.step(102.0 + CLOCKS_DIFFER_SECONDS, Tick())
    assert refusals(effects) == ["expired", "expired"], "the two that were in go"
    assert not peer.links.lines


def test_a_key_before_this_one_counts_until_its_time() -> None:
    peer, other = node(), Member(b"old".ljust(16), "old", "far", Role.PLAIN, ["tcp://old:1"], 1)
    peer.step(1.0, CameBy(1, KeyRole.PEER, NOW + 50.0))
    peer.step(1.0, Heard(1, hello(other, peer.me.id)))
    assert peer.links.is_ready(other.id)
    peer.step(2.0, Heard(1, EXAMPLES[FnPut], 1))
    assert peer.links.is_ready(other.id), "a peer like any other"
    effects = peer.step(51.0 + CLOCKS_DIFFER_SECONDS, Tick())
    assert refusals(effects) == ["expired"]
    assert not peer.links.is_ready(other.id)


# ---------------------------------------------------------------- ids of those with the mesh key

LIFE = b"l" * 32
HONEST = Member(own_id(LIFE), "honest", "far", Role.CLIENT, [], 1)


@pytest.mark.parametrize("key", [None, CameBy(3, KeyRole.PEER, NOW + 50.0)], ids=["now", "before"])
@pytest.mark.parametrize("proof", [b"", b"x" * 32, LIFE[:-1]], ids=["none", "another's", "cut"])
def test_an_id_that_proves_itself_is_its_own(key: CameBy | None, proof: bytes) -> None:
    """Who says HELLO under it without the proof is refused, also if its key is that from before; the process that it
    belongs to notices nothing of it."""
    peer = node()
    peer.step(1.0, Heard(1, replace(hello(HONEST, peer.me.id), proof=LIFE)))
    assert peer.links.peers[HONEST.id].link == 1
    if key is not None:
        peer.step(2.0, key)
    effects = peer.step(2.0, Heard(3, replace(hello(HONEST, peer.me.id), proof=proof)))
    assert refusals(effects) == ["duplicate"]
    told = [each.link for each in effects if isinstance(each, (Send, Hangup))]
    assert told == [3, 3], "nothing is said or done to the honest one"
    assert peer.links.peers[HONEST.id].link == 1
    assert peer.counters["refused-duplicate"] == 1


def test_an_id_that_proves_itself_needs_the_proof_where_nobody_knows_it_yet() -> None:
    peer = node()
    assert refusals(peer.step(1.0, Heard(1, hello(HONEST, peer.me.id)))) == ["duplicate"]
    assert not peer.links.peers


def test_a_process_with_the_mesh_key_tells_its_proof() -> None:
    wire = Wire()
    other = wire.add("n0")
    life = wire.add(
        "life", workers=0, role=Role.CLIENT, seeds=[other.endpoint], identity=HONEST.id,
        tokens=TokenSecrets(LIFE),
    )  # fmt: skip
    wire.advance(1.0)
    assert other.core.links.is_ready(life.id)


def test_who_has_the_mesh_key_is_refused_under_the_id_of_a_token_holder() -> None:
    peer, holder = node(), Holder(KeyRole.SUBMIT)
    assert enter(peer, holder)[1]
    effects = peer.step(2.0, Heard(3, holder.hello(peer.me.id)))
    assert refusals(effects) == ["duplicate"]
    assert peer.links.peers[holder.id].link == 1


# ---------------------------------------------------------------- the whole table


@pytest.mark.parametrize("kind", sorted(set(MESSAGES) - AT_THE_HOST))
@pytest.mark.parametrize("role", [KeyRole.SUBMIT, KeyRole.VIEW])
def test_each_role_and_each_message(role: KeyRole, kind: int) -> None:
    """Said by a raw client, first as a stranger, then as a guest: what is not in the table is refused, counted,
    and ends the link after four."""
    holder, message = Holder(role), EXAMPLES[MESSAGES[kind]]
    stranger = node()
    stranger.step(1.0, CameBy(1, role))
    effects = stranger.step(1.0, Heard(1, message, int(message.CUSTODY)))
    assert Hangup(1) in effects, "before it has introduced itself no message is heard"
    assert not stranger.links.peers

    peer = node()
    assert enter(peer, holder)[1]
    before = dict(peer.counters)
    heard: list[Effect] = []
    for number in range(1, 5):
        if 1 in peer.links.lines:
            heard += peer.step(1.0 + number, Heard(1, message, number if message.CUSTODY else 0))
    refused = peer.counters.get("rude-key-role", 0)
    if kind in INTRODUCTIONS:
        assert 1 not in peer.links.lines, "one HELLO is enough"
    elif kind in MAY_SAY[role]:
        assert refused == 0
    else:
        assert refused == 4
        assert peer.counters["rude-too-often"] == 1
        assert "role" in refusals(heard), "and it is told why"
        assert 1 not in peer.links.lines
        assert before.get("rude-key-role", 0) == 0
        assert not peer.view.dead(), "no other peer has been touched"


@pytest.mark.parametrize("role", [KeyRole.SUBMIT, KeyRole.VIEW])
def test_a_guest_hears_only_what_is_for_it(role: KeyRole) -> None:
    """Everything that nodes say to a guest in a busy mesh is in the table."""
    wire, nodes = mesh(3)
    guest = visitor(wire, role)
    other = wire.add("other", workers=0, role=Role.CLIENT, seeds=["tcp://n0:1"])
    wire.advance(2.0)
    job = other.open(200)
    wire.work(lambda: other.is_done(job))
    guest.core.inquiries.ask(AskStatus(1), wire.now)
    wire.advance(3.0)
    told = {each.message.TAG for each in wire.said if each.to == guest.name}
    assert told <= MAY_HEAR[role]
    assert nodes


def test_what_is_about_others_is_not_a_guests_to_say() -> None:
    other = b"other".ljust(16)
    theirs, thing = job_id(other, 1), value_id(other, 1)
    spec = JobSpec(theirs, JobKind.MAP, other, "f", bytes(16), step=1)
    holder = Holder(KeyRole.SUBMIT)
    mine = job_id(holder.id, 1)
    own = JobSpec(mine, JobKind.MAP, holder.id, "f", bytes(16))
    record = Member(other, "other", "far", Role.CLIENT, [], 1)
    line = JobLine(theirs, JobKind.MAP, "f", "running", 1, 0, 0, 0, 1, 0, 0)
    for message in (
        Grant(replace(spec, term=3), [Lease(1, 0, 1)]),
        Grant(replace(own, needs=(thing,)), [Lease(1, 0, 1)]),
        Grant(own, [Lease(1, 0, 1)], [Block(0, 1, 0, (thing,))], 0, [b"x"]),
        Supply(mine, [Block(0, 1, 0, (thing,))], False, [b"x"]),
        Revoked(theirs, []),
        Closed(theirs),
        Supply(theirs, [], True),
        ValueGet(thing, 0, 10),
        ValueSeek(thing),
        ValueDrop(thing),
        Beat(1, 0, 0.0, [JobLoad(theirs, [5])]),
        Beat(1, 0, 0.0, [], [], [(theirs, 5, 0, 1.0, 2.0)]),
        Beat(1, 0, 5.0),
        Beat(1, 0, 0.0, [], [line]),
        View([Member(holder.id, "x", "far", Role.PLAIN, [], 2)]),
    ):
        peer = node()
        peer.consequences.learn([record], 1.0)
        assert enter(peer, holder)[1]
        peer.step(2.0, Heard(1, message, int(message.CUSTODY)))
        rude = [name for name in peer.counters if name.startswith("rude-guest")]
        assert len(rude) == 1, f"{message}: {peer.counters}"


def test_a_guest_accuses_nobody() -> None:
    wire, nodes = mesh(3)
    guest = visitor(wire, KeyRole.SUBMIT)
    wire.advance(1.0)
    dead = [replace(other.core.me, state=PeerState.DEAD) for other in nodes]
    made_up = Member(b"x" * 16, "x", "far", Role.SUPER, ["tcp://n0:1"], 1)
    guest.core.links.broadcast(View([*dead, made_up]))
    guest.step(Tick())
    wire.advance(3.0)
    for peer in nodes:
        assert sorted(peer.core.view.nodes()) == sorted(other.id for other in nodes)
        assert peer.core.counters["guests-records-dropped"] >= len(nodes)
        assert peer.core.me.incarnation == 0, "so nobody had to refute it"


def test_honest_guests_are_never_rude() -> None:
    wire, nodes = mesh(3)
    submits, views = visitor(wire, KeyRole.SUBMIT), visitor(wire, KeyRole.VIEW, "screen")
    wire.advance(1.0)
    job = submits.open(500)
    wire.work(lambda: submits.is_done(job))
    assert submits.delivered(job) == dict.fromkeys(range(500), 1)
    for number in range(20):
        views.core.links.send(nodes[0].id, StatusGet(number), wire.now)
        views.step(Tick())
        wire.advance(0.5)
    for peer in nodes:
        rude = {name for name in peer.core.counters if name.startswith(("rude", "refused"))}
        assert not rude
        assert submits.id in peer.core.links.peers


# ---------------------------------------------------------------- durable jobs


def test_a_durable_job_is_for_the_token_that_launched_it() -> None:
    wire, nodes = mesh(3)
    mine = visitor(wire, KeyRole.SUBMIT)
    again = visitor(wire, KeyRole.SUBMIT, seed=2)
    others = visitor(wire, KeyRole.SUBMIT, "ci")
    boss = wire.add("boss", workers=0, role=Role.CLIENT, seeds=["tcp://n0:1"])
    wire.advance(2.0)
    job = job_id(mine.id, 1)
    spec = JobSpec(job, JobKind.MAP, mine.id, "squares", b"f" * 16, step=1, guest="ci")
    mine.step(LaunchJob(spec, 30, [b"f"]))
    wire.work(lambda: any(peer.core.durable.state.primaries for peer in nodes), 10.0)
    (home,) = [peer for peer in nodes if job in peer.core.durable.state.primaries]
    kept = home.core.durable.state.replicas[job]
    assert kept.spec.guest == "laptop", "the home writes it, whatever the launcher says"

    others.step(AttachJob(job))
    others.step(AbolishJob(job, True))
    wire.advance(3.0)
    assert [gone.why for gone in others.take_told(JobGone)] == [
        "it was launched with another token, or with the mesh key"
    ]
    assert home.core.counters["guests-jobs-refused"] >= 1
    assert kept.state == ""
    for reader in (again, boss):
        reader.step(AttachJob(job))
        wire.advance(1.0)
        reader.step(FetchResults(job, 0))
        wire.work(lambda: True)
        wire.advance(1.0)
        assert not reader.take_told(JobGone), "its own name, or the mesh key, may have it"
    boss.step(AbolishJob(job, True))
    wire.advance(1.0)
    assert kept.state == "cancelled"


# ---------------------------------------------------------------- revoked names


def barred(host: Host | NodeCore) -> set[str]:
    return set((host.core if isinstance(host, Host) else host).links.guests.barred)


def test_a_revoked_guest_goes_at_once_everywhere_and_is_not_let_in_again() -> None:
    wire, nodes = mesh(5)
    guest, friend = visitor(wire, KeyRole.SUBMIT), visitor(wire, KeyRole.SUBMIT, "ci")
    boss = wire.add("boss", workers=0, role=Role.CLIENT, seeds=["tcp://n3:1"])
    wire.advance(2.0)
    assert all(peer.core.links.is_ready(guest.id) for peer in nodes)
    boss.step(BarTokens([f"laptop@{MARK}"]))
    wire.advance(1.5)
    for peer in nodes:
        assert barred(peer) == {f"laptop@{MARK}"}
        assert not peer.core.links.is_ready(guest.id)
        assert peer.core.links.is_ready(friend.id)
        assert peer.core.counters["refused-revoked"] >= 1
    late = wire.add("late", seeds=["tcp://n1:1"], tokens=NODES, wall_offset=NOW)
    wire.advance(1.0)
    assert barred(late) == {f"laptop@{MARK}"}, "a node that comes later hears of it"
    assert guest.told, "its program hears why"


def test_a_revocation_reaches_the_other_side_of_a_cut() -> None:
    wire, nodes = mesh(4)
    wire.advance(1.0)
    wire.part(nodes[:2], nodes[2:])
    nodes[0].step(BarTokens([f"a@{MARK}"]))
    nodes[3].step(BarTokens([f"b@{MARK}"]))
    wire.advance(5.0)
    assert barred(nodes[1]) == {f"a@{MARK}"}
    wire.mend()
    wire.until(lambda: all(len(barred(peer)) == 2 for peer in nodes), 120.0)


@pytest.mark.parametrize("seed", range(20))
def test_records_merge_in_any_order_and_are_bounded(seed: int) -> None:
    rng = Random(seed)
    sets = [
        [f"t{rng.randrange(2000):05}@{MARK}" for _ in range(rng.randrange(900))] for _ in range(6)
    ]
    found = []
    for _ in range(3):
        peer = node()
        rng.shuffle(sets)
        kept: list[Effect] = []
        for number, names in enumerate([*sets, *sets[:2]]):
            kept += peer.step(1.0 + number, BarTokens(names))
        assert len(barred(peer)) <= BARRED_MAX
        if kept:
            last = [each for each in kept if isinstance(each, KeepBarred)][-1]
            assert last.names == sorted(barred(peer)), "what is kept on disk is what counts"
        found.append(barred(peer))
    assert found[0] == found[1] == found[2]
    everything = {name for names in sets for name in names}
    assert found[0] == set(sorted(everything)[:BARRED_MAX])
    over = len(everything) > BARRED_MAX
    assert over == ("revocations-beyond-bound" in peer.counters)


def test_a_record_of_another_key_is_void() -> None:
    peer = node()
    effects = peer.step(1.0, BarTokens(["laptop@00000000"]))
    assert not barred(peer)
    assert not any(isinstance(each, KeepBarred | Send) for each in effects)


def test_what_is_known_is_not_told_again() -> None:
    wire, nodes = mesh(3)
    wire.advance(1.0)
    nodes[0].step(BarTokens([f"a@{MARK}"]))
    wire.advance(1.0)
    wire.take(Barred)
    nodes[1].step(BarTokens([f"a@{MARK}"]))
    wire.advance(1.0)
    assert not wire.take(Barred)


# ---------------------------------------------------------------- a mesh with guests


def mesh(count: int) -> tuple[Wire, list[Host]]:
    wire = Wire()
    nodes = [wire.add("n0", tokens=NODES, wall_offset=NOW)]
    for number in range(1, count):
        nodes.append(
            wire.add(f"n{number}", seeds=[nodes[0].endpoint], tokens=NODES, wall_offset=NOW)
        )
    return wire, nodes


def visitor(wire: Wire, role: KeyRole, name: str = "laptop", seed: int = 0) -> Host:
    """A program that has come with a token: its links say so."""
    holder = Holder(role, name) if not seed else _again(role, name, seed)
    wire.came_by[holder.id] = role
    return wire.add(
        f"{name}-{seed}", workers=0, role=Role.CLIENT, seeds=["tcp://n0:1"], identity=holder.id,
        tokens=TokenSecrets(holder.proof),
    )  # fmt: skip


def _again(role: KeyRole, name: str, seed: int) -> Holder:
    """Another process with the same token."""
    holder = Holder(role, name)
    told, nonce = Pass(role, name), Random(seed).randbytes(16)
    seal = sealed(SECRET, told)
    holder.id, holder.proof = life_id(seal, nonce), proof_of(told, seal, nonce)
    return holder


def test_bye_of_a_guest_is_a_goodbye() -> None:
    peer, holder = node(), Holder(KeyRole.VIEW)
    assert enter(peer, holder)[1]
    peer.step(2.0, Heard(1, Bye("leaving")))
    assert not peer.links.is_ready(holder.id)
    assert "rude-key-role" not in peer.counters
