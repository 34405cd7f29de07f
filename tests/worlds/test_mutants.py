"""Each wrong protocol is found out, by the check that is meant for it."""

from __future__ import annotations

import pytest

from .explorer import Found, Violation, explore
from .exploring import FORK, PATH, Tree
from .model import Network, Parts, Setting, TinyWorld
from .mutants import (
    CreditingCounts,
    CreditingTheStale,
    DeafExploreNode,
    DeafNode,
    DirectNode,
    DisorderlyLedger,
    ForgetfulOwner,
    GenerousBags,
    HastyLedger,
    OrphanageLedger,
    OwnerTrustingTheDead,
    PartialOnlyLedger,
    RecordingOwner,
    RepeatingExploreNode,
    RepetitiveNode,
    ReusingLedger,
    SilentExploreOwner,
    SilentOwner,
    TirelessNode,
    UntoldNode,
)

LOOSE, KEEPING = Network.LOOSE, Network.KEEPING


def search(setting: Setting, **parts: type) -> Found:
    return explore(TinyWorld(setting, Parts(**parts)), states_max=300_000)


def finds(what: str, setting: Setting, **parts: type) -> Violation:
    """The mutant breaks safety in this world, in these words; the real protocol does not."""
    assert not search(setting).stuck
    with pytest.raises(Violation, match=what) as caught:
        search(setting, **parts)
    assert caught.value.trace
    return caught.value


def finds_stuck(setting: Setting, **parts: type) -> Found:
    """The mutant gets stuck in this world; the real protocol does not."""
    assert not search(setting).stuck
    found = search(setting, **parts)
    assert found.stuck
    assert found.stuck_example
    return found


def test_nobody_is_told_that_a_lease_is_not_his() -> None:
    alarm = Setting("alarm", suspicions=1, backstop=False)
    finds("will never know", alarm, owner=SilentOwner)
    finds_stuck(Setting("alarm", suspicions=1, network=LOOSE, backstop=False), owner=SilentOwner)


def test_nobody_is_told_that_a_bag_is_not_his() -> None:
    alarm = Setting("alarm", tree=PATH, suspicions=1, backstop=False)
    finds("will never know", alarm, owner=SilentExploreOwner)


@pytest.mark.parametrize(("tree", "node"), [(None, DeafNode), (PATH, DeafExploreNode)])
def test_a_holder_ignores_that_it_was_told(tree: Tree | None, node: type) -> None:
    finds_stuck(Setting("alarm", tree=tree, suspicions=1), node=node)


def test_a_lease_that_is_issued_again_has_its_old_name() -> None:
    finds("granted twice", Setting("alarm", suspicions=1), ledger=ReusingLedger)
    loose = Setting("alarm", suspicions=1, network=LOOSE, backstop=False)
    found = finds_stuck(loose, ledger=ReusingLedger)
    assert any("REVOKED" in step for step in found.stuck_example)


def test_stale_leases_are_credited() -> None:
    finds("accounted for twice", Setting("alarm", suspicions=1), ledger=CreditingTheStale)


@pytest.mark.parametrize(
    "setting",
    [
        Setting("out of order", workers=2),
        Setting("a report repeated", network=LOOSE, repeats=1),
    ],
    ids=lambda setting: setting.name,
)
def test_counts_are_credited_instead_of_intervals(setting: Setting) -> None:
    finds("not in the report's blob", setting, ledger=CreditingCounts)


def test_a_victim_gives_without_lowering_its_end() -> None:
    finds("beyond its lease", Setting("steal", items=3, steals=1), bags=GenerousBags)


@pytest.mark.parametrize("node", [TirelessNode, RepetitiveNode])
def test_a_divided_chunk_is_run_or_reported_as_if_it_were_whole(node: type) -> None:
    finds("a chunk is nobody's", Setting("divided", items=3, chunk_items=3, divisions=1), node=node)


def test_a_victim_grants_before_the_ledger_knows() -> None:
    steal = Setting("steal", steals=1, backstop=False)
    found = finds_stuck(steal, owner=RecordingOwner, node=DirectNode)
    assert any("REVOKED" in step for step in found.stuck_example)
    # Deadlines help, which is why this one is so easily overlooked.
    backed = Setting("steal", steals=1)
    assert not search(backed, owner=RecordingOwner, node=DirectNode).stuck


def test_a_victim_grants_without_the_ledger() -> None:
    finds_stuck(Setting("steal", steals=1, backstop=False), node=UntoldNode)


def test_a_part_is_forgotten_when_its_thief_is_dead() -> None:
    finds("in no account", Setting("steal", steals=1, crashes=1), owner=ForgetfulOwner)


def test_a_part_is_granted_to_the_dead() -> None:
    steal = Setting("steal", steals=1, crashes=1, backstop=False)
    finds_stuck(steal, owner=OwnerTrustingTheDead)


def test_commits_are_accepted_out_of_order() -> None:
    loose = Setting("loose", tree=PATH, network=LOOSE)
    finds("in no account", loose, ledger=DisorderlyLedger)


def test_a_partial_is_accepted_without_its_remaining_items() -> None:
    finds("accounted for twice", Setting("calm", tree=FORK), ledger=PartialOnlyLedger)


def test_children_of_a_refused_commit_are_accepted() -> None:
    alarm = Setting("alarm", tree=FORK, suspicions=1)
    finds("accounted for twice", alarm, ledger=OrphanageLedger)


def test_a_beat_that_overtakes_a_commit_revokes_the_new_bag() -> None:
    finds_stuck(Setting("calm", tree=FORK, backstop=False), ledger=HastyLedger)
    in_order = Setting("calm", tree=FORK, backstop=False, beats_overtake=False)
    assert not search(in_order, ledger=HastyLedger).stuck


def test_explore_bags_rest_on_grants_that_come_once() -> None:
    """The one place where safety needs the channel: it keeps repeated grants from the holder."""
    finds(
        "in no account", Setting("keeping", tree=FORK, network=KEEPING), node=RepeatingExploreNode
    )
