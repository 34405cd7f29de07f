"""Random programs of an executor, run on a mesh and on `ThreadPoolExecutor`: the same comes of both.

    python -m stealmesh_bench.model --programs 5000
    python -m stealmesh_bench.model --seed 4711 --programs 1      # one of them again

A program is a list of steps drawn from one seed: submit, map, cancel, wait, as_completed, callbacks,
exceptions, `running`, and at the end of some a shutdown in one of its forms. What a step observes is
written down. Where the contract leaves two outcomes open (a cancelled call may have begun) either is
written down as the same, but one that contradicts itself is not.

Decides what is drawn and what is compared. Refuses to know how an executor works.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from stealmesh import Mesh

PATIENCE_SECONDS = 60.0
STEPS_MAX = 12
REST_SECONDS = 2.0
"""A function's stream is closed after this time without use."""
OWN_MESH_SHARE = 0.04
"""How many of the programs have a mesh of their own, and may shut it down."""

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


# ---------------------------------------------------------------- what is called


class Mishap(Exception):
    """An exception of the program's own, with two arguments."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(what, number)


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def add(self, number: int) -> int:
        return self.start + number


def square(number: int) -> int:
    return number * number


def fail(number: int) -> int:
    raise ValueError(number)


def mishap(number: int) -> int:
    raise Mishap("no luck", number)


def nap(number: int) -> int:
    time.sleep(0.002 * (number % 4))
    return -number


def odd(number: int) -> int:
    """Fails for some of its items."""
    if number % 7 == 3:
        raise KeyError(number)
    return number + 1


def named(*, first: int, second: int = 5) -> tuple[int, int]:
    return first, second


def draw_call(chance: Random) -> Call:
    number = chance.randrange(100)
    calls: list[Call] = [
        (square, (number,), {}),
        (nap, (number,), {}),
        (fail, (number,), {}),
        (mishap, (number,), {}),
        (odd, (number,), {}),
        (pow, (number, 2), {}),
        (divmod, (number, number % 3), {}),
        (partial(pow, number), (2,), {}),
        (lambda: number * 3, (), {}),
        (lambda x: [x] * 3, (number,), {}),
        (Counter(number).add, (1,), {}),
        (named, (), {"first": number}),
        (dict, (), {"a": number, "b": None}),
    ]
    return chance.choice(calls)


# ---------------------------------------------------------------- one program


def told(future: Future[Any], patience: float = PATIENCE_SECONDS) -> Any:
    """What a future came to, in a form that can be compared."""
    try:
        return "value", future.result(patience)
    except CancelledError:
        return ("cancelled",)
    except TimeoutError:
        return ("hangs",)
    except Exception as error:  # noqa: BLE001  a task may raise anything
        return "error", type(error).__name__, error.args


def raised_by(work: Callable[[], Any]) -> Any:
    try:
        return "value", work()
    except CancelledError:
        return ("cancelled",)
    except Exception as error:  # noqa: BLE001  a task may raise anything
        return "error", type(error).__name__, error.args


@dataclass
class ModelRun:
    """One run of a program on one executor."""

    executor: Executor
    chance: Random
    futures: list[Future[Any]] = field(default_factory=list)
    doubtful: set[int] = field(default_factory=set)
    """Futures that somebody has tried to cancel: whether that was in time is open."""
    seen: list[Any] = field(default_factory=list)
    called: list[int] = field(default_factory=list)

    def steps(self, *, may_end: bool) -> list[Any]:
        for _ in range(self.chance.randint(1, STEPS_MAX)):
            step = self.chance.choice(STEPS)
            self.seen.append((step.__name__, step(self)))
        if may_end:
            self.seen.append(("shutdown", self.shutdown()))
        self.seen.append(("all", [self.outcome(number) for number in range(len(self.futures))]))
        self.seen.append(("called", len(self.called)))
        return self.seen

    def some(self) -> list[int]:
        if not self.futures:
            return []
        count = self.chance.randint(1, min(8, len(self.futures)))
        return self.chance.sample(range(len(self.futures)), count)

    def outcome(self, number: int) -> Any:
        future = self.futures[number]
        what = told(future)
        if future.cancelled() != (what == ("cancelled",)):
            return "contradicts itself", what, future.cancelled()
        if not future.done() or future.running():
            return "is not over", what
        return "open" if number in self.doubtful else what

    # ------------------------------------------------------------ steps

    def submit(self) -> int:
        count = self.chance.choice([1, 1, 2, 5, 20])
        for _ in range(count):
            function, args, kwargs = draw_call(self.chance)
            self.futures.append(self.executor.submit(function, *args, **kwargs))
        return count

    def map(self) -> Any:
        function = self.chance.choice([square, odd, nap])
        items: Any = range(self.chance.choice([0, 1, 5, 40]))
        form = self.chance.randrange(4)
        if form == 1:
            items = list(items)
        elif form == 2:
            items = (number for number in items)
        chunksize = self.chance.choice([1, 3, 100])
        if form == 3:
            results = self.executor.map(pow, items, items, chunksize=chunksize)
        else:
            results = self.executor.map(function, items, chunksize=chunksize)
        if self.chance.random() < 0.3:
            first = [raised_by(lambda: next(results, "nothing")) for _ in range(3)]
            results.close()  # type: ignore[attr-defined]  # all of them have it
            return first
        got: list[Any] = []
        return raised_by(lambda: got.extend(results)), got

    def nothing(self) -> Any:
        return list(self.executor.map(square))

    def result(self) -> Any:
        return [self.outcome(number) for number in self.some()]

    def exception(self) -> Any:
        numbers = [number for number in self.some() if number not in self.doubtful]
        errors = [self.futures[number].exception(PATIENCE_SECONDS) for number in numbers]
        return [(type(error).__name__, error.args) if error else None for error in errors]

    def cancel(self) -> Any:
        told = []
        for number in self.some():
            future = self.futures[number]
            self.doubtful.add(number)
            cancelled = future.cancel()
            told.append(cancelled == future.cancelled() and cancelled in (True, future.cancel()))
        return told

    def cancel_what_is_over(self) -> Any:
        numbers = [number for number in self.some() if number not in self.doubtful]
        wait([self.futures[number] for number in numbers], PATIENCE_SECONDS)
        return [self.futures[number].cancel() for number in numbers]

    def wait_for_all(self) -> Any:
        chosen = [self.futures[number] for number in self.some()]
        done, left = wait(chosen, PATIENCE_SECONDS, return_when=ALL_COMPLETED)
        return len(done) == len(chosen), len(left)

    def wait_for_first(self) -> Any:
        chosen = [self.futures[number] for number in self.some()]
        how = self.chance.choice([FIRST_COMPLETED, FIRST_EXCEPTION])
        done, left = wait(chosen, PATIENCE_SECONDS, return_when=how)
        return bool(done) == bool(chosen), done | left == set(chosen), all(f.done() for f in done)

    def as_completed(self) -> Any:
        numbers = self.some()
        chosen = {self.futures[number]: number for number in numbers}
        came = [chosen[future] for future in as_completed(chosen, PATIENCE_SECONDS)]
        return sorted(came), [self.outcome(number) for number in sorted(came)]

    def callback(self) -> int:
        numbers = self.some()
        raises = self.chance.random() < 0.2
        heard = threading.Semaphore(0)

        def hear(number: int, future: Future[Any]) -> None:
            self.called.append(number if future.done() else -1)
            heard.release()
            if raises:
                raise Mishap("in a callback", number)

        for number in numbers:
            self.futures[number].add_done_callback(partial(hear, number))
        for number in numbers:
            self.outcome(number)
        return sum(heard.acquire(timeout=PATIENCE_SECONDS) for _ in numbers)

    def shutdown(self) -> Any:
        how = self.chance.choice(["wait", "cancel", "later", "twice"])
        if how == "cancel":
            self.doubtful.update(range(len(self.futures)))
        self.executor.shutdown(wait=how != "later", cancel_futures=how == "cancel")
        if how == "twice":
            self.executor.shutdown()
        after = raised_by(lambda: self.executor.submit(square, 1))[:2]
        return how, after, raised_by(lambda: self.executor.map(square, [1]))[:2]


STEPS: list[Callable[[ModelRun], Any]] = [
    ModelRun.submit, ModelRun.submit, ModelRun.submit, ModelRun.map, ModelRun.map, ModelRun.nothing, ModelRun.result, ModelRun.exception, ModelRun.cancel,
    ModelRun.cancel_what_is_over, ModelRun.wait_for_all, ModelRun.wait_for_first, ModelRun.as_completed, ModelRun.callback,
]  # fmt: skip


# ---------------------------------------------------------------- comparing


def compare(seed: int, mesh: Mesh | None) -> tuple[list[Any], list[Any]]:
    """What the program of this seed observes on a mesh, and on threads. Without `mesh`: on its own."""
    with ThreadPoolExecutor(2) as threads:
        expected = ModelRun(threads, Random(seed)).steps(may_end=mesh is None)
    if mesh is not None:
        return ModelRun(mesh, Random(seed)).steps(may_end=False), expected
    with Mesh(workers=2) as own:
        return ModelRun(own, Random(seed)).steps(may_end=True), expected


def differences(seed: int, mesh: Mesh | None) -> list[str]:
    """Why the program of this seed is not the same on a mesh; empty if it is. A hang is one, too."""
    found: list[str] = []

    def work() -> None:
        try:
            got, expected = compare(seed, mesh)
        except BaseException as error:  # noqa: BLE001  a defect of ours, to be told with its seed
            found.append(f"{type(error).__name__}: {error}")
            return
        found.extend(
            f"step {number}: a mesh {a}, threads {b}"
            for number, (a, b) in enumerate(zip(got, expected, strict=True))
            if a != b
        )

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(2 * PATIENCE_SECONDS)
    if thread.is_alive():
        faulthandler.dump_traceback(all_threads=True)
        found.append("hangs; the stacks are above")
    return found


def replay(seed: int) -> str:
    return f"python -m stealmesh_bench.model --seed {seed} --programs 1"


def is_alone(seed: int) -> bool:
    return Random(f"alone {seed}").random() < OWN_MESH_SHARE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    told = parser.parse_args()
    logging.disable(logging.CRITICAL)  # callbacks raise on purpose
    begun, failed = time.monotonic(), 0
    mesh = Mesh(workers=2)
    for seed in range(told.seed, told.seed + told.programs):
        for difference in differences(seed, None if is_alone(seed) else mesh):
            failed += 1
            print(f"{difference}\n    again: {replay(seed)}", flush=True)
    time.sleep(REST_SECONDS)
    open_jobs = [line for line in mesh.status()["jobs"] if line["state"] in ("running", "waiting")]
    mesh.shutdown()
    seconds = time.monotonic() - begun
    print(
        f"{told.programs} programs, {failed} differences, {len(open_jobs)} jobs open, {seconds:.0f} s"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
