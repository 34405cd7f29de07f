"""A scenario with durable calls, or durable searches, on real processes: their program is killed, or all are.

Does: lets a program submit, and believes that what it was told to be accepted is safe. Once the faults are over,
another program attaches to each and compares what it comes to. What runs again is counted, and no breach.
"""

from __future__ import annotations

from stealmesh import JobLost, Mesh
from stealmesh_bench.chaos import durable_work, postmortem
from stealmesh_bench.chaos.ledger import executions
from stealmesh_bench.chaos.real_durable import RealDurableStage, Submitter
from stealmesh_bench.chaos.real_stage import PATIENCE_SECONDS
from stealmesh_bench.chaos.workload import Stuck, Workload


class CallSubmitter(Submitter):
    """The process that submits, and the ids of what was accepted."""

    program = "stealmesh_bench.chaos.durable_caller"

    def __init__(self, *words: object) -> None:
        self.ids: list[str] = []
        super().__init__(*words)  # type: ignore[arg-type]

    def _hear(self, line: bytes) -> None:
        self.ids.append(line.decode().strip())


class RealDurableCallsStage(RealDurableStage):
    """A mesh with disks, and durable calls that outlive their program."""

    job = ""

    def run(self, task: Workload) -> None:
        self.job = task.name
        self.account.ledger, self.account.even = None, False
        super().run(task)

    def _launched(self) -> CallSubmitter:
        each = (
            durable_work.TREE_SECONDS
            if self.job == durable_work.EXPLORE
            else durable_work.CALL_SECONDS
        )
        words = [self.job, str(self.scenario.items(each)), self.log, str(self.scenario.seed)]
        return CallSubmitter(words, self._entry(), self.key, self.directory)

    def _collect(self) -> None:
        """Another program attaches to what was accepted, through any node."""
        account, submitter = self.account, self.submitter
        assert isinstance(submitter, CallSubmitter)
        submitter.close()  # so that all that it has said is read
        seed, patience = self.scenario.seed, 2 * self.scenario.seconds + PATIENCE_SECONDS
        combine = durable_work.added if self.job == durable_work.EXPLORE else None
        with Mesh(self._gate(), key=self.key) as mesh:
            self.mesh = mesh
            for number, name in enumerate(submitter.ids):
                wanted = durable_work.right(self.job, seed, number)
                items = durable_work.size(self.job, seed, number)
                account.accepted += items
                try:
                    found = tuple(mesh.attach(name, combine=combine).result(patience))
                except TimeoutError:
                    postmortem.explain(mesh, account, self.log, self.report.notes)
                    raise Stuck(f"durable {self.job} {number} of {len(submitter.ids)}") from None
                except JobLost as error:
                    account.lost += items
                    account.fails(f"durable {self.job} {number}: {error!r}")
                    continue
                account.wrong += found != wanted
                if self.job == durable_work.EXPLORE:
                    account.lost += max(0, wanted[0] - found[0])
                    account.doubled += max(0, found[0] - wanted[0])
            self.mesh = None

    def measure(self) -> None:
        ran = executions(self.log)
        since = self.account.flow + (self.scenario.recovery_from or 0.0) + self.account.lag_seconds
        later = min((at for moments in ran.values() for at in moments if at > since), default=None)
        if later is not None:
            self.report.flowing_again_s = round(later - since, 3)
        super().measure()

    def _judge_repeats(self, ran: dict[int, list[float]], submitter: Submitter) -> None:
        """The disks are not asked what was safe."""
