"""Items that are to run again: because they raised Defer, or failed and may be tried again.

Decides which errors mean that, and what a worker says instead of a result. The owner decides when such an
item runs again, and whether it does (`ledger/put_off.py`). Refuses to know how items run (run.py).
"""

from __future__ import annotations

from typing import Any

from stealmesh.tasks import is_worth_another_attempt
from stealmesh.workers.failures import Failures, is_lacking
from stealmesh.workers.forked import end_if_forked
from stealmesh.workers.memory import LIMIT, out_of_memory
from stealmesh_protocol import values
from stealmesh_protocol.errors import Defer, TaskFailed, TaskStopped
from stealmesh_protocol.unasked import is_a, traceback_of

TRY_AGAIN = -1.0
"""Said in place of a time: the item failed, and its owner decides."""

NO_DEFER = (
    "Defer was raised where a task cannot be put off: only single items of submit() and of map() can, "
    "not those of map_reduce(), explore() or a vectorized function; use map(), or wait in the task"
)


def may_try_again(error: BaseException) -> bool:
    """Would another attempt make sense? What this machine lacks it lacks at the next attempt, too: another
    machine gets the item. What the program has stopped, and what is not in its `retry_on`, is over."""
    worth = is_worth_another_attempt(error)  # in any case, as it takes the mark off
    return worth and not (is_a(error, (Defer, TaskStopped)) or is_lacking(error))


def put_off(error: BaseException, retries: int) -> tuple[int, bytes] | None:
    """What to say of a single item with this error (codec and blob); None: the item has failed."""
    may = may_try_again(error)
    seconds: float | None
    if is_a(error, Defer):
        seconds = _seconds_of(error)
    elif retries and may:
        seconds = TRY_AGAIN
    else:
        seconds = None
    if seconds is None:
        return None
    failures = Failures()
    if LIMIT.passed_by(error):
        failures.add(0, out_of_memory(error), kind=values.OUT_OF_MEMORY)
    else:
        failures.add(0, error)
    return values.pack_again(seconds, failures.records[0])


def _seconds_of(error: Any) -> float | None:
    """None: it does not say for how long. A class of the user's may have lost that, or changed it."""
    try:
        return Defer(error.seconds).seconds
    except BaseException as fault:  # noqa: BLE001
        end_if_forked(fault)
        return None


def undeferred(error: BaseException) -> BaseException:
    """The error of an item that cannot be put off."""
    is_worth_another_attempt(error)  # takes the mark off
    if not is_a(error, Defer):
        return error
    refusal = TaskFailed(NO_DEFER).with_traceback(traceback_of(error))
    refusal.__cause__ = error
    return refusal
