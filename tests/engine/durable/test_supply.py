"""How a program supplies a durable job with items: how far it goes ahead, and how many there may be."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from stealmesh.client import durable_job
from stealmesh_engine.events import SupplyJob
from stealmesh_protocol.ids import job_id, slice_id


@pytest.mark.parametrize(("items", "fits"), [(5000, True), (8192, False)])
def test_a_block_that_was_waited_for_does_not_change_how_many_items_there_may_be(
    items: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_job, "UNREAD_OCTETS_MAX", 0)
    monkeypatch.setattr(durable_job, "SLICES_MAX", 2)
    handle, link = Mock(), Mock()
    job = slice_id(job_id(bytes(16), 7), 12, 0)  # slices of 4,096 items
    if not fits:
        with pytest.raises(ValueError, match="8,192 items"):
            durable_job.supply(handle, link, "j", iter(range(items)), job)
        return
    durable_job.supply(handle, link, "j", iter(range(items)), job)
    posted = [call.args[0] for call in link.post.call_args_list]
    assert posted[-1] == SupplyJob(job, closed=True)
    assert posted[-2].block.hi == items
    assert handle.await_accepted.call_count == len(posted)
