"""The outcome of items that no worker lived to report: built by the node from plain words.

Decides how such a failure reads. It opens no user value: the record is plain msgpack with
an empty exception, and the client makes the exception object from it.
"""

from __future__ import annotations

from stealmesh_protocol.messages import JobSpec
from stealmesh_protocol.values import Failure, pack_outcomes


def timed_out(spec: JobSpec, item: int) -> tuple[int, bytes]:
    text = f"item {item} of {spec.name} ran longer than its timeout of {spec.timeout:g} s"
    return pack_outcomes(None, [Failure(0, "timeout", text=text)])


def worker_died(spec: JobSpec, item: int, attempts: list[str]) -> tuple[int, bytes]:
    text = (
        f"item {item} of {spec.name} ended its worker process {len(attempts)} times: "
        f"{'; '.join(attempts)}"
    )
    return pack_outcomes(None, [Failure(0, "worker-died", text=text, attempts=attempts)])
