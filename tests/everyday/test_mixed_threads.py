"""Many threads of one program mix all kinds of work on one mesh, also with processes killed under them.

Long runs: ``python -m stealmesh_bench.mixed --seconds 600 --kill nodes``.
"""

from __future__ import annotations

import pytest

from stealmesh_bench.mixed import mix
from stealmesh_bench.mixed_features import FeatureMixture

pytestmark = pytest.mark.real


@pytest.mark.parametrize("nodes", [1, 4])
def test_many_threads_mix_all_kinds_of_work(nodes: int) -> None:
    """Within half a second everything stood still for ever, with nobody killed."""
    record = mix(seconds=3.0, nodes=nodes)
    assert not record.wrong
    assert not record.stuck()
    assert set(record.done) > {"submit", "reduce", "explore"}


@pytest.mark.parametrize("victims", ["workers", "nurseries", "nodes"])
def test_and_processes_are_killed_under_them(victims: str) -> None:
    record = mix(seconds=4.0, nodes=4, kill=victims)
    assert not record.wrong
    assert not record.stuck()
    assert record.kills[victims]


def test_graphs_data_and_control_among_them() -> None:
    record = mix(seconds=5.0, nodes=3, kill="all", mixture=FeatureMixture)
    assert not record.wrong
    assert not record.stuck()
    assert set(record.done) > {"graph", "scattered", "nested", "stopped"}
