"""What a person needs to see of a real job that does not end.

Decides what is worth a note: the jobs, the nodes, what the kernel knows of their workers, the items
that are missing and the leases that are out. Changes nothing.
"""

from __future__ import annotations

from pathlib import Path

from stealmesh import Mesh
from stealmesh_bench.chaos.ledger import executions
from stealmesh_bench.chaos.workload import RunAccount

MISSING_TOLD_MAX = 5
STORY_LINES_MAX = 20


def doing(pid: int) -> str:
    """What the kernel knows of a process: whether a worker sleeps in a task, waits for an order, or is
    dead."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        waits_in = Path(f"/proc/{pid}/wchan").read_text(encoding="ascii")
    except OSError as error:
        return f"is not there ({error.strerror})"
    state = next(line for line in status.splitlines() if line.startswith("State:"))
    return f"{state}, waits in {waits_in or 'nothing'}"


def explain(mesh: Mesh, account: RunAccount, log: str, notes: list[str]) -> None:
    """Note what a person needs to see of a job that does not end. `log`: where executions are."""
    ledger = account.ledger
    status = mesh.status()
    notes += [f"job {job}" for job in status["jobs"]]
    keep = ("id", "name", "role", "state", "queued_seconds", "executed", "workers")
    for node in status["nodes"]:
        notes.append(str({name: node.get(name) for name in keep}))
        notes += [f"its worker {pid} {doing(pid)}" for pid in node.get("worker_pids", [])]
    if ledger is not None:
        missing = ledger.missing()
        began = executions(log)
        for item in missing[:MISSING_TOLD_MAX]:
            notes.append(f"item {item} is missing; it began {len(began.get(item, ()))} times")
    # The owner's own account, read as it stands: nothing moves any more.
    core = mesh._driver.core
    for owned in list(core.owner.jobs.values()):
        for lid, lease in list(owned.ledger.leases.items())[:MISSING_TOLD_MAX]:
            notes.append(f"lease {lid >> 32}.{lid & 0xFFFFFFFF} is out: {lease}")
            notes += core.journal.of(lid=lid)[-STORY_LINES_MAX:]
            holder = core.view.members.get(getattr(lease, "holder", b""))
            notes.append(f"its holder: {holder}")
