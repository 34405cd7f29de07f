"""Stealing in the large, at a size that a test can afford; bench/scale.py has the full one."""

from __future__ import annotations

from stealmesh.virtual.scale import run


def test_forty_nodes_are_busy_at_once_and_stay_so() -> None:
    found = run(40, seconds_a_node=3.0)
    assert found.efficiency > 0.985
    assert found.all_busy_seconds < 0.02
    assert found.success > 0.7
    assert found.leases_max < 40 * 10
    assert found.messages_a_node < 1500


def test_uneven_work_is_evened_out() -> None:
    found = run(20, seconds_a_node=3.0, law="skewed")
    assert found.efficiency > 0.95
