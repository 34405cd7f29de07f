"""Actors that a task makes: `here().actor(cls, …)`.

This worker's client owns them (`away.py`), so they run in processes of their own, somewhere in the mesh, and die with
this worker. A call is a child that is elsewhere from its beginning: what waits for it runs other children meanwhile,
and the task's result counts when all its calls are over. Decides that an actor ends with the task that made it, and
that its handle stays in the task's process. Refuses to know where the object lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from stealmesh import refs
from stealmesh.client.actors import Actor, ActorStream, refuse_settings
from stealmesh.client.arguments import Options, fitting_name
from stealmesh.client.item_words import words_for
from stealmesh.client.needs import must_fit_one_order
from stealmesh.functions import name_of
from stealmesh.futures import Future
from stealmesh.host.identity import runtime
from stealmesh.shipping.bundle import Bundle
from stealmesh.workers.actor_body import ActorBody
from stealmesh.workers.printing import HERE
from stealmesh_engine.events import OpenJob
from stealmesh_protocol import limits
from stealmesh_protocol import values as vx
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.ids import digest_of
from stealmesh_protocol.messages import JobKind, JobSpec, Output

if TYPE_CHECKING:
    from stealmesh.nested.away import Client
    from stealmesh.nested.family import Family
    from stealmesh.workers.nesting import Luggage

ENDED = "the actor has been shut down, or has ended with the task that made it"
BOUND = (
    "an actor that a task has made ends with that task, so its handle can be neither returned nor sent to another "
    "process: return what its methods return; or have the program make the actor, with mesh.actor()"
)


class ActorCall:
    """One call, as long as it is under way (in the place of `away.Away`)."""

    has_helper = False

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def is_late(self) -> bool:
        return False

    def withdraw(self) -> bool:
        """Cancel it, if it has not begun. It never comes back to run here."""
        self._future.cancel()
        return False


class TaskActor(Actor):
    """The handle on an actor that a task has made: `here().actor(cls, ...)` returns it.

    Its methods are those of the object; each call returns the future of a child. It ends with its task.
    """

    def __init__(self, family: Family, client: Client, stream: ActorStream, cls: type) -> None:
        super().__init__(client, None, stream, cls)
        self._family, self._client = family, client

    def _ends(self) -> None:
        """The task is over. (Other names are those of the object's methods.)"""
        self._stream.end()

    def __reduce__(self) -> NoReturn:
        raise TypeError(BOUND)

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        with self._client.keeps_values():
            future = self._stream.submit((name, *args), kwargs)
        if future is None:
            raise RuntimeError(f"cannot call {name}: {ENDED}")
        family, call = self._family, ActorCall(future)
        child = family.add_elsewhere(call)

        def over(one: Future[Any]) -> None:
            if one.cancelled():
                family.dropped(child, call)
                return
            error = one.exception()
            family.came(child, call, one.result() if error is None else None, error)

        future.add_done_callback(over)  # type: ignore[arg-type]
        return child


def make_task_actor(
    family: Family,
    client: Client,
    luggage: Luggage,
    options: Options,
    cls: type[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> TaskActor:
    """The client is held for it by the caller, and is let go when the actor is over. Raises ValueError, CannotShip,
    MeshClosed."""
    with client.keeps_values():
        stream = _opened(client, luggage, options, cls, args, kwargs)
    return TaskActor(family, client, stream, cls)


def _opened(
    client: Client,
    luggage: Luggage,
    options: Options,
    cls: type[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> ActorStream:
    refuse_settings(options)
    body = ActorBody(cls, args, kwargs, options.name or name_of(cls))
    packed, needs = refs.noting(lambda: vx.pack(body), leaves=client.leaves)
    function = luggage.with_value(*packed)
    if len(function) > limits.BLOB_OCTETS_MAX:
        raise CannotShip(
            f"the arguments of {name_of(cls)} do not fit into a message: scatter large ones, and pass the Refs"
        )
    must_fit_one_order(needs, name_of(cls))
    digest, link = digest_of(function), client.link
    if luggage.code:
        link.carries(Bundle(luggage.code, luggage.bundle))
    spec = JobSpec(
        job=link.new_job_id(),
        kind=JobKind.SUBMIT,
        owner=link.me,
        name=options.name or fitting_name(name_of(cls)),
        function=digest,
        priority=options.priority,
        retries=options.retries,
        runtime=runtime(),
        code=luggage.code,
        chunk_items=options.chunksize or 0,
        needs=needs,
        life=1,
        restarts=options.restarts,
        output=Output(HERE.mode),
    )
    words = words_for(link.user_threads, options.report)
    stream = ActorStream(link, spec, None, words, client.lets_go)
    stream.leaves = client.leaves
    link.open(spec.job, stream, OpenJob(spec, open_ended=True, functions={digest: function}))
    return stream
