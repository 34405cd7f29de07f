"""Tasks say how far they are, in random worlds: programs hear it, and never of an item that is over."""

from __future__ import annotations

import pytest

from stealmesh_bench.seeds import replay
from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_sim import random_worlds
from stealmesh_sim.workers import VirtualWorker

from .scenes import scene


@pytest.mark.parametrize("seed", range(1, 13))
def test_random_worlds_with_tasks_that_tell(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualWorker, "tells", True)
    # They speak of each chunk, however short; a real worker waits a quarter of a second between two words.
    monkeypatch.setattr(random_worlds, "CONTROL_A_SECOND_AND_LINK", 120.0)
    outcome = random_worlds.run(seed)
    assert not outcome.breach, f"{outcome.breach}\n    {replay(seed)}"


def test_a_program_hears_of_its_running_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualWorker, "tells", True)
    told = scene(3)
    told.map(200)
    told.finish()
    assert told.world.checkers.words > 0
    late = sum(told.counted("progress-dropped", node) for node in told.nodes)
    assert late > 0, "what comes after the item's end is dropped where it comes from"


def test_an_owner_that_believes_late_words_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the ledger's rule a word of a lost lease would reach the program."""
    monkeypatch.setattr(VirtualWorker, "tells", True)
    monkeypatch.setattr(IndexedLedger, "is_open", lambda *_: True)
    breaches = [
        outcome.breach for seed in range(1, 13) if (outcome := random_worlds.run(seed)).breach
    ]
    assert any("still" in str(breach) for breach in breaches), breaches
