"""Work whose owner cannot be reached for the length of a lease is nobody's: it is let go, and counted."""

from __future__ import annotations

from random import Random
from unittest.mock import Mock

import pytest

from stealmesh_engine.base.context import Context
from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.data.values import Values
from stealmesh_engine.holding.holder import Holder
from stealmesh_protocol.ids import granted_lease, job_id
from stealmesh_protocol.messages import Grant, JobKind, JobSpec, Lease

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

OWNER = b"o" * 16
SPEC = JobSpec(job_id(OWNER, 1), JobKind.MAP, OWNER, "range", b"f", step=1)
LEASE_SECONDS = Config().lease_seconds


@pytest.fixture
def holder() -> Holder:
    links = Mock()
    links.is_ready.return_value = False
    links.view.me.id = b"m" * 16
    holder = Holder(Context(Config(), [], Counters(), Journal(100), Random(1)), links, Mock(Values))
    holder.granted(OWNER, Grant(SPEC, [Lease(granted_lease(1), 0, 10)]), 0.0)
    holder.forget_unreached(0.0)
    return holder


def test_a_lease_that_cannot_be_renewed_is_over(holder: Holder) -> None:
    holder.forget_unreached(LEASE_SECONDS - 1.0)
    assert SPEC.job in holder.jobs
    holder.forget_unreached(LEASE_SECONDS)
    assert SPEC.job not in holder.jobs
    assert holder.counters["jobs-orphaned"] == 1


def test_an_owner_that_comes_back_in_time_finds_its_work(holder: Holder) -> None:
    holder.links.is_ready.return_value = True  # type: ignore[attr-defined]
    holder.forget_unreached(LEASE_SECONDS - 1.0)
    holder.links.is_ready.return_value = False  # type: ignore[attr-defined]
    holder.forget_unreached(LEASE_SECONDS)
    assert SPEC.job in holder.jobs
