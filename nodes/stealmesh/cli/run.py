"""Run a function over items on a mesh; results are JSON lines on standard output.

`module:function` is imported from the working directory or the Python path, `path/file.py:function`
from that file, and called once with each item. An item that raises is reported as {"index": …,
"item": …, "error": …} and does not stop the others; the exit status is then 1. NaN and Infinity, which JSON
lacks, are null. The traceback of an item, all other output of this command, and that of tasks wherever they run, go
to standard error.

With --functions this is a program in data-only mode: the function travels by its name, items and results as plain
data, and nothing is pickled. Data-only nodes (`stealmesh start --functions`) run nothing else.

Without --seed it runs on your mesh: that of STEALMESH_TOKEN, of a node of yours on this host, or where
you last knew one. If there is none (or with --local, --nodes, --nworkers) it starts a mesh of processes
on this machine, which end with the command.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import IO, TYPE_CHECKING, Any

from stealmesh.cli import arguments as shared
from stealmesh.cli import items
from stealmesh.cli.exits import BROKEN_PIPE, DONE, FAILED, USAGE, CommandEnded, say
from stealmesh.cli.failed_items import FailedItems
from stealmesh.cli.function import find
from stealmesh.cli.joining import config_of, enter, the_mesh, this_users
from stealmesh.cli.output import standard_output_kept, written
from stealmesh.host.interrupts import AWAKE_SECONDS

if TYPE_CHECKING:
    from stealmesh.futures import Future
    from stealmesh.mesh import Mesh

AHEAD_DEFAULT = 10_000
FLUSH_SECONDS = 0.2

Row = tuple[int, Any, "Future[Any]"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("function", metavar="module:function", help="or path/file.py:function")
    parser.add_argument("--items", metavar="ITEMS", required=True, help=items.HELP)
    parser.add_argument(
        "--json-lines",
        action="store_true",
        help="each line of the items is a JSON value, not a text",
    )
    order = parser.add_mutually_exclusive_group()
    order.add_argument(
        "--ordered",
        dest="ordered",
        action="store_true",
        default=True,
        help="results in the order of the items (default)",
    )
    order.add_argument(
        "--unordered", dest="ordered", action="store_false", help="results as they come"
    )
    parser.add_argument(
        "--ahead",
        metavar="N",
        type=shared.at_least_one,
        default=AHEAD_DEFAULT,
        help="items under way at once, at most (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=shared.not_negative,
        help="stop an item that runs longer",
    )
    parser.add_argument(
        "--retries",
        metavar="N",
        type=int,
        default=0,
        help="run an item that raises again, at most N times",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a bar on standard error (default: if that is a terminal and standard output is not)",
    )
    parser.add_argument(
        "--nodes",
        metavar="N",
        type=shared.at_least_one,
        help="node processes of a mesh of its own (default: 1)",
    )
    parser.add_argument(
        "--nworkers",
        metavar="N",
        type=shared.at_least_one,
        help="worker processes a node of a mesh of its own",
    )
    parser.add_argument(
        "--local", action="store_true", help="a mesh of its own, though there is a running one"
    )
    parser.add_argument(
        "--functions", metavar="MODULE", type=shared.module_list, action="extend", default=[],
        help="data-only: the function travels by name, and is a public one of these modules, as data-only nodes "
        "have it; repeatable, or separated by commas",
    )  # fmt: skip
    shared.add_mesh(parser)


def run(arguments: argparse.Namespace) -> int:
    own = bool(arguments.nodes or arguments.nworkers or arguments.local)
    if arguments.seeds and own:
        raise CommandEnded(
            USAGE, "--local, --nodes and --nworkers are for a mesh of its own, without --seed"
        )
    with standard_output_kept() as out:
        function, _ = find(arguments.function)
        if arguments.functions:
            must_be_registered(function, arguments)
        try:
            wanted = items.parse(arguments.items, as_json=arguments.json_lines)
        except ValueError as error:
            raise CommandEnded(USAGE, str(error)) from None
        with _mesh(arguments, own=own) as mesh:
            try:
                return run_items(mesh, function, readable(wanted), arguments, out, _length(wanted))
            except BrokenPipeError:
                raise CommandEnded(BROKEN_PIPE) from None  # the reader of our output left


def must_be_registered(function: Callable[[Any], Any], arguments: argparse.Namespace) -> None:
    """Data-only mode: raises CommandEnded unless one of the modules shows this function."""
    from stealmesh.registered import Registry
    from stealmesh_protocol.errors import NotRegistered

    named = ",".join(arguments.functions)
    try:
        Registry(arguments.functions).packed(function)
    except NotRegistered:
        module = getattr(function, "__module__", None)
        raise CommandEnded(
            USAGE,
            f"--functions {named}: {arguments.function} is no public function of its own there; name the module "
            f"that defines it (it says {module})",
        ) from None
    except Exception as error:  # noqa: BLE001  the modules are the user's code, and importing them runs it
        raise CommandEnded(USAGE, f"--functions {named}: {type(error).__name__}: {error}") from None


def _mesh(arguments: argparse.Namespace, *, own: bool) -> Mesh:
    from stealmesh.mesh import Mesh

    modules = arguments.functions or None
    found = None if own else the_mesh(arguments) if arguments.seeds else this_users(arguments)
    if found is not None:
        try:
            mesh = enter(arguments, found, functions=modules)
        except CommandEnded as end:
            if not found.is_guess:
                raise
            say(f"{end}: running on processes of this machine instead")
        else:
            mesh._submitted.must_be_open()  # a token that only looks runs nothing here
            if not arguments.seeds:
                say(
                    f"running on the mesh at {', '.join(found.addresses[:2])} (--local: on this machine)"
                )
            return mesh
    return Mesh(
        None,
        nodes=arguments.nodes,
        workers=arguments.nworkers,
        functions=modules,
        config=config_of(arguments),
    )


# ---------------------------------------------------------------- items and results


def run_items(
    mesh: Mesh,
    function: Callable[[Any], Any],
    wanted: Iterable[Any],
    arguments: argparse.Namespace,
    out: IO[str],
    total: int | None = None,
) -> int:
    try:
        view = mesh.options(
            name=arguments.function,
            retries=arguments.retries,
            timeout=arguments.timeout or None,
            output="caller",
        )
    except ValueError as error:
        raise CommandEnded(USAGE, str(error)) from None
    rows = in_order if arguments.ordered else as_they_come
    writer = _Writer(out)
    began, failed, done = time.monotonic(), 0, 0
    with _Progress(arguments, total) as progress:
        shown = FailedItems(progress.write)
        for row in rows(
            lambda item: view.submit(function, item), wanted, arguments.ahead, writer.flush
        ):
            told = _told(*row)
            fault = row[2].exception()
            if done == failed:
                _must_be_of_its_mode(fault)
            writer.write(told)
            if fault is not None:
                failed += 1
                shown.add(row[0], row[1], fault)
            done += 1
            progress(done)
        writer.flush()
    shown.end()
    if failed or progress.is_shown:
        say(f"{done:,} items in {time.monotonic() - began:.1f} s, {failed:,} of them failed")
    return FAILED if failed else DONE


def _told(index: int, item: Any, future: Future[Any]) -> dict[str, Any]:
    """The JSON object of one line. Raises CommandEnded if the mesh failed and not the item, or the job was cancelled."""
    from stealmesh_protocol.errors import MeshClosed, TaskStopped

    try:
        error = future.exception()
    except CancelledError as cancelled:
        error = cancelled
    if isinstance(error, CancelledError | TaskStopped):
        raise CommandEnded(FAILED, "the job was cancelled: items without a line have no result")
    if isinstance(error, MeshClosed):
        raise CommandEnded(
            FAILED, f"the mesh is gone, item {index} and those after it have no result: {error}"
        )
    if error is None:
        return {"index": index, "item": item, "result": future.result()}
    return {"index": index, "item": item, "error": f"{type(error).__name__}: {error}"}


def _must_be_of_its_mode(fault: BaseException | None) -> None:
    """Raises CommandEnded if no node runs this function, and none has run it for another item: the next items would
    have the same fault."""
    from stealmesh_protocol.errors import NotRegistered

    if isinstance(fault, NotRegistered):
        raise CommandEnded(
            FAILED, f"{fault}; `stealmesh run --functions MODULE` is a program that names functions"
        )


def readable(wanted: Iterable[Any]) -> Iterator[Any]:
    """The items. One that cannot be read (a line that is not JSON, a file that is not text, a closed standard input)
    ends the run."""
    try:
        yield from wanted
    except ValueError as error:
        raise CommandEnded(USAGE, f"cannot read the items: {error}") from None
    except OSError as error:
        raise CommandEnded(USAGE, f"cannot read the items: {error.strerror}") from None


def _length(wanted: Iterable[Any]) -> int | None:
    return len(wanted) if isinstance(wanted, range | list) else None


Submit = Callable[[Any], "Future[Any]"]


def in_order(
    submit: Submit, wanted: Iterable[Any], ahead: int, before_waiting: Callable[[], None]
) -> Iterator[Row]:
    """Submit at most `ahead` items beyond the first unfinished one."""
    pending: deque[Row] = deque()
    source = enumerate(wanted)
    for index, item in source:
        pending.append((index, item, submit(item)))
        while pending and (len(pending) >= ahead or pending[0][2].done()):
            if not pending[0][2].done():
                before_waiting()
            yield pending.popleft()
    while pending:
        if not pending[0][2].done():
            before_waiting()
        yield pending.popleft()


def as_they_come(
    submit: Submit, wanted: Iterable[Any], ahead: int, before_waiting: Callable[[], None]
) -> Iterator[Row]:
    """Submit at most `ahead` items beyond those that are finished."""
    finished: queue.SimpleQueue[Row] = queue.SimpleQueue()
    pending = 0

    def start(index: int, item: Any) -> None:
        future = submit(item)
        future.add_done_callback(lambda _: finished.put((index, item, future)))

    def next_row() -> Row:
        if finished.empty():
            before_waiting()
        while True:
            with contextlib.suppress(queue.Empty):
                return finished.get(timeout=AWAKE_SECONDS)

    for index, item in enumerate(wanted):
        start(index, item)
        pending += 1
        while pending >= ahead or not finished.empty():
            pending -= 1
            yield next_row()
    for _ in itertools.repeat(None, pending):
        yield next_row()


class _Writer:
    """Writes JSON lines; flushes them every FLUSH_SECONDS and before the command waits."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._flushed = time.monotonic()

    def write(self, row: dict[str, Any]) -> None:
        with written():
            self._out.write(as_json(row) + "\n")
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        with written():
            self._out.flush()
        self._flushed = time.monotonic()


def as_json(row: dict[str, Any]) -> str:
    """One line that every parser of JSON reads."""
    for make in (lambda: row, lambda: finite(row), lambda: _in_words(row)):
        # What does not fit: numbers that JSON lacks; keys that are not texts, or a value inside itself.
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            return json.dumps(make(), default=lambda value: finite(plain(value)), allow_nan=False)
    raise AssertionError("texts are JSON")


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{name: repr(row[name]) for name in ("item", "result") if name in row}}


def finite(value: Any) -> Any:
    """The same with None for each NaN and Infinity: JSON has none, and only some parsers read them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def plain(value: Any) -> Any:
    """A value that JSON does not know: NumPy's arrays and sets become lists, the rest its `repr`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return repr(value)


class _Progress:
    """A bar, if one is wanted."""

    def __init__(self, arguments: argparse.Namespace, total: int | None) -> None:
        shown: bool | None = arguments.progress
        self.is_shown = sys.stderr.isatty() and not sys.stdout.isatty() if shown is None else shown
        self._name = arguments.function
        self._total = total
        self._bar: Any = None
        self._drawn = 0.0
        self._done = 0

    def __enter__(self) -> _Progress:
        if self.is_shown:
            from stealmesh.progress import Bar

            self._bar = Bar(self._name)
            self._bar.goes_on()
        return self

    def __call__(self, done: int) -> None:
        self._done = done
        if self._bar is not None and time.monotonic() - self._drawn > FLUSH_SECONDS:
            self._drawn = time.monotonic()
            self._bar(done, self._total)

    def write(self, text: str) -> None:
        """Lines on standard error, above the bar."""
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar(self._done, self._total)
            self._bar.close()
