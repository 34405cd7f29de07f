"""`stealmesh.here()`: the mesh inside of a task.

Turns calls into children of the task that runs, and checks what the caller passes. Decides which settings
make sense for a child that shares a process with its parent. Refuses to know how children run (`family.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from stealmesh import refs
from stealmesh.client.map_futures import is_over_futures, map_futures
from stealmesh.client.missing import MISSING
from stealmesh.nested import local
from stealmesh.nested.away import AWAY
from stealmesh.nested.child import Call, ChildFuture
from stealmesh.nested.family import Family
from stealmesh.nested.inputs import PLAIN, call_with_inputs, prepared
from stealmesh.tasks import Each, is_vectorized
from stealmesh.workers.nesting import GATE
from stealmesh.workers.present import LIVE, PRESENT, Present
from stealmesh_protocol import values as vx
from stealmesh_protocol import whole
from stealmesh_protocol.errors import CannotShip

if TYPE_CHECKING:
    from stealmesh.client.arguments import Options
    from stealmesh.futures import Future
    from stealmesh.nested.task_actors import TaskActor
    from stealmesh.refs import Ref

T = TypeVar("T")

ELSEWHERE = ("durable", "keep", "max_parallel", "output", "resources", "speculate", "timeout")
"""Settings that a child in its parent's process cannot have."""


class NestedMesh(Executor):
    """The mesh as a task sees it: what `stealmesh.here()` returns. Its methods are those of `Mesh`.

    A child runs in its parent's worker, when its result is asked for, with the very objects that it was
    given: neither it nor its parent may change them. While other workers have nothing to do the oldest
    children that have not begun run there, with copies.
    """

    def __init__(self, family: Family, options: Options | None = None) -> None:
        self._family = family
        self._options = options
        self._calls = count()

    # ------------------------------------------------------------ work

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run `fn(*args, **kwargs)` once, as a child of this task.

        It begins when its result is asked for, and costs a few microseconds. Futures anywhere in the
        arguments are its inputs, as with `Mesh.submit`.

        A task's result counts when all its children are over: those that it never waited for are run after
        it returns, the newest first; if it raises, those that have not begun are cancelled. The exception
        of a child that nobody asks for is nobody's, as with any future. Raises RuntimeError when the task
        is over.
        """
        for value in args:
            if type(value) not in PLAIN:
                break
        else:
            if not kwargs and self._options is None and not refs.in_use:
                return self._family.add((fn, args, kwargs))
        return self._add(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool = False,
    ) -> Iterator[T]:
        """A lazy iterator over the results, in order. An item is a child of this task, and runs when the
        iterator comes to it. Leaving the iterator (or its `close()`) cancels the rest.

        Arguments:
            timeout: seconds from this call after which no further item is begun, but TimeoutError raised.
            chunksize: how many items a `vectorized` function gets at once; others take them one by one.
            buffersize, ordered, progress: as for `Mesh.map`; nothing runs ahead here, and no bar is drawn.
        """
        if not iterables:
            return iter(())
        until = None
        if (timeout, chunksize, buffersize) != (None, None, None):
            from stealmesh.client.arguments import checked_sizes, seconds

            chunksize, buffersize = checked_sizes(chunksize, buffersize)
            if timeout is not None:
                until = time.monotonic() + seconds("timeout", timeout)
        if is_over_futures(iterables):
            return map_futures(
                self.submit, fn, iterables, ahead=buffersize, until=until, ordered=ordered
            )
        if is_vectorized(fn):
            items = iter(iterables[0]) if len(iterables) == 1 else zip(*iterables, strict=False)
            return local.mapped_whole(self._family.inline, fn, items, chunksize)
        calls = zip(*iterables, strict=False)
        if self._options is not None:
            return (self._item(fn, args, until) for args in calls)
        return local.mapped(self._family, fn, calls, until)

    def map_reduce(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any = MISSING,
    ) -> Future[Any]:
        """The future of `combine` over `fn(item)` of all items, in index order. See `Mesh.map_reduce`."""
        loop = partial(local.reduced, whole=is_vectorized(fn), name=_name_of(fn))
        return self._loop(loop, fn, iter_once(items), combine, initial)

    def explore(
        self,
        visit: Callable[[list[Any], int], tuple[Any, list[Any]]],
        roots: Iterable[Any],
        combine: Callable[[Any, Any], Any],
        *,
        initial: Any = MISSING,
    ) -> Future[Any]:
        """The future of `combine` over items that make items. See `Mesh.explore`."""
        if isinstance(visit, Each):
            visit = Each(visit.expand, combine)
        loop = partial(local.explored, name=_name_of(visit))
        return self._loop(loop, visit, list(roots), combine, initial)

    # ------------------------------------------------------------ data

    def scatter(self, value: T) -> Ref[T]:
        """Pack a value once, and get a name for it that any child takes in its place, here or elsewhere.

        Each child may change what it gets. A Ref in the task's result, anywhere in it, comes home as a Ref of the
        program, which keeps the value from then on. Otherwise the value goes when no Ref and no child needs it,
        and with the worker at the latest.

        Raises CannotShip for a value that cannot be pickled, TypeError for one with Refs in it, StoreFull when
        neither memory nor disk has room for it.
        """
        from stealmesh.nested.task_values import HERE

        return HERE.scatter(value, GATE.order())

    def gather(self, values: Any, timeout: float | None = None) -> Any:
        """The same structure with values in the place of Refs, and results in that of futures. See `Mesh.gather`."""
        from stealmesh.gathering import gathered

        return gathered(values, timeout)

    # ------------------------------------------------------------ actors

    def actor(self, cls: type[Any], /, *args: Any, **kwargs: Any) -> TaskActor:
        """One object `cls(*args, **kwargs)` in a process of its own, as long as this task runs. See `Mesh.actor`.

        The task and its children call `handle.method(...)`; children with the handle stay in the task's process.
        The object ends when the task is over, or with `handle.shutdown()`. The handle cannot be returned.

        Raises TypeError for what is no class, CannotShip, RuntimeError where a worker cannot join the mesh, or
        the task is over.
        """
        if not isinstance(cls, type):
            raise TypeError(f"actor: a class is needed, not {type(cls).__qualname__}")
        sender = whole.sender()
        from stealmesh.client.arguments import Options
        from stealmesh.nested.task_actors import make_task_actor

        whole.send_with(sender)  # importing them has changed how values travel
        family = self._family
        family.must_go_on()
        luggage, door = GATE.door()
        client = AWAY.for_an_actor(door)
        try:
            actor = make_task_actor(
                family, client, luggage, self._options or Options(), cls, args, kwargs
            )
        except BaseException:
            client.lets_go(cls)
            raise
        family.owns(actor)
        return actor

    # ------------------------------------------------------------ settings

    def options(self, **settings: Any) -> NestedMesh:
        """The same methods, with these settings. They are those of `Mesh.options`.

        A child runs in its parent's process. So `timeout`, `resources`, `max_parallel`, `output`, `keep` and
        `speculate` are settings of the outer task, and raise ValueError here, as `durable` does. `retries` runs a child again that
        raises; `report` hears what it says of its progress; `priority` and `progress` do nothing here.
        """
        sender = whole.sender()
        from stealmesh.client.arguments import Options, checked_resources
        from stealmesh.functions import module_names

        whole.send_with(sender)  # importing them has changed how values travel
        if "resources" in settings:
            settings["resources"] = checked_resources(settings["resources"])
        for name in ("ship", "no_ship"):
            if name in settings:
                settings[name] = module_names(settings[name], name)
        options = Options(**settings)
        for name in ELSEWHERE:
            if getattr(options, name) if name != "output" else name in settings:
                raise ValueError(
                    f"{name}: a task inside a task runs in its parent's process; set it for the outer task"
                )
        return NestedMesh(self._family, options)

    # ------------------------------------------------------------ ending

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish what this task has submitted (`with stealmesh.here() as mesh:` does it at its end). The
        mesh itself is not this task's, and goes on."""
        if wait or cancel_futures:
            self._family.finish_here(cancel=cancel_futures)

    def __repr__(self) -> str:
        return "<stealmesh.here()>"

    # ------------------------------------------------------------ inside

    def hears(self, done: float, total: float) -> bool:
        """A task says how far it is. False: it is the outer one."""
        pile = self._family.pile()
        if not pile.level:
            return False
        if pile.report is not None:
            pile.report(done, None if total < 0 else total)
        return True

    def _add(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        family, options = self._family, self._options
        call: Call
        try:
            call = prepared(fn, args, kwargs)
        except CannotShip as error:
            return family.add((_fail, (error,), {}))
        if options is not None and options.retries:
            call = (_attempts, (self._family, options.retries, call), {})
        child = family.add(call)
        if options is not None and options.report is not None:
            child.report = partial(options.report, next(self._calls))
        return child

    def _item(self, fn: Callable[..., Any], args: tuple[Any, ...], until: float | None) -> Any:
        """One item of a map with settings."""
        if until is not None and time.monotonic() >= until:
            raise TimeoutError
        return self._add(fn, args, {}).result()

    def _loop(
        self, loop: Any, fn: Any, items: Any, combine: Callable[[Any, Any], Any], initial: Any
    ) -> Future[Any]:
        options = self._options
        if options is not None and options.retries:
            fn = partial(_retried, self._family, options.retries, fn)
        return self._family.add((loop, (self._family, fn, items, combine, initial), {}))


def _fail(error: BaseException) -> None:
    raise error


def _retried(family: Family, retries: int, fn: Any, *args: Any) -> Any:
    return _attempts(family, retries, (fn, args, {}))


def _attempts(family: Family, retries: int, call: Call) -> Any:
    """Call until it does not raise. Another attempt gets the arguments as they were, if they can be packed."""
    fn, args, kwargs = call
    try:
        packed = vx.pack((args, kwargs)) if call[0] is not call_with_inputs else None
    except CannotShip:
        packed = None
    while True:
        child: ChildFuture = family.add((fn, args, kwargs))
        error = child.exception()
        if error is None:
            return child.result()
        if retries <= 0:
            raise error
        retries -= 1
        if packed is not None:
            args, kwargs = vx.unpack(*packed)


def iter_once(items: Iterable[Any]) -> Iterable[Any]:
    """A list as it is now; what can be read only once is read when it is needed."""
    return list(items) if isinstance(items, list) else items


def _name_of(fn: Any) -> str:
    named = getattr(fn, "stealmesh_name", None) or getattr(fn, "__qualname__", None)
    return str(named or type(fn).__qualname__)


# ---------------------------------------------------------------- where a task finds it


def here() -> NestedMesh:
    """In a task: the mesh, for tasks inside of it. `stealmesh.here().submit(fn, x).result()` never deadlocks.

    In a thread that a task has started it is the task's mesh. Raises RuntimeError outside of a task, and
    when the task is over.
    """
    one = PRESENT.get()
    if one is None or one.over:
        one = _of_this_thread(one)
    mesh: NestedMesh | None = one.mesh
    if mesh is None:
        mesh = _open(one)
    return mesh


def _open(one: Present) -> NestedMesh:
    family = Family(one)
    one.family = family
    one.mesh = NestedMesh(family)
    GATE.opens(partial(AWAY.wanted, family))
    return one.mesh  # type: ignore[no-any-return]


def _of_this_thread(one: Present | None) -> Present:
    """A thread that a task has started belongs to the task that ran when it first asked."""
    if one is not None:
        raise RuntimeError("here(): the task that this thread or process belongs to is over")
    living = list(LIVE)
    if not living:
        raise RuntimeError(
            "here() is for tasks, and no task runs in this process: make a mesh for your program with "
            "`with stealmesh.Mesh() as mesh:`"
        )
    if len(living) > 1:
        raise RuntimeError(
            "here(): several tasks run side by side in this process, and this thread could belong to each "
            "of them: call here() in the task itself, and give the thread what it returns"
        )
    PRESENT.set(living[0])
    return living[0]
