"""Pipelines whose nodes are killed, and values beyond all bounds, in small; and what their judges see.

The full ones: `python -m stealmesh_bench.pipeline --wide`, `python -m stealmesh_bench.bound`.
"""

from __future__ import annotations

import json

import pytest

from stealmesh_bench import bound, pipeline

BEGINS, ENDS = 0, 1
DEAD, ALIVE = 666, 1


@pytest.mark.real
@pytest.mark.parametrize("wide", [pytest.param(False, marks=pytest.mark.slow), True])
def test_only_what_is_lost_and_needed_runs_again(wide: bool) -> None:
    """Four stages of 20 values of 1 MB on four nodes; two are killed. Some values go to disk."""
    outcome = pipeline.run(20, 1 << 20, 4, 2, 8 << 20, wide=wide)
    assert outcome.killed == 2
    assert not outcome.wrong
    assert not outcome.needless
    assert outcome.again >= (outcome.made_again or 0)


@pytest.mark.real
@pytest.mark.slow
def test_a_store_at_its_bound(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--gib", "0.03", "--memory-mib", "6", "--value-mib", "2"]
    assert bound.main(arguments) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["values"] == 15
    assert row["spilled_mib"] >= 10


def note(over: int, stage: int, line: int, node: int) -> tuple[int, ...]:
    return over, stage, line, 2, 3, node


def once(line: int, node: int) -> list[tuple[int, ...]]:
    return [note(over, stage, line, node) for stage in range(4) for over in (BEGINS, ENDS)]


def test_a_needless_run_is_seen() -> None:
    judge = pipeline.needless_runs
    assert judge(once(0, ALIVE), {DEAD}) == []
    assert judge([*once(0, ALIVE), note(BEGINS, 3, 0, ALIVE)], {DEAD}) == [
        "score 0: ran again, and its result was there"
    ]
    assert judge([note(BEGINS, 0, 0, ALIVE), *once(0, ALIVE)], {DEAD}) == [
        "load 0: ran again, and its result was there"
    ]
    assert judge([*once(0, DEAD), note(BEGINS, 1, 0, ALIVE)], {DEAD}) == [
        "transform 0: ran again, and nothing was made of it"
    ]


def test_what_was_lost_may_run_again() -> None:
    judge = pipeline.needless_runs
    load_lost = [note(BEGINS, 0, 0, DEAD), note(ENDS, 0, 0, DEAD), *once(0, ALIVE)]
    assert judge(load_lost, {DEAD}) == []
    # The transform's result is lost; the load's, on a node that lives, had been let go of.
    begun = [note(over, 0, 0, ALIVE) for over in (BEGINS, ENDS)]
    begun += [note(over, 1, 0, DEAD) for over in (BEGINS, ENDS)]
    assert judge([*begun, *once(0, ALIVE)], {DEAD}) == []
    # It had not: the transform was at it when its node died.
    assert judge([*begun[:3], *once(0, ALIVE)], {DEAD}) == [
        "load 0: ran again, and its result was there"
    ]
