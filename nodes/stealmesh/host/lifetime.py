"""How long a mesh lives: what goes on when its `Mesh` is gone, and what ends it.

A `Mesh` is what the program holds. What works for it (the driver's thread, the link, the node
processes) is a `Lifetime`, and knows no `Mesh`: so a `Mesh` that the program has dropped is collected,
and its lifetime finishes what was submitted and ends. Every way to the end comes through here:

* `shutdown()`, or the end of a `with` block, in the thread that calls it;
* `shutdown(wait=False)` and the forgotten `Mesh`: in a thread that starts with the lifetime, because a
  finalizer may run between any two instructions, and Python 3.12 and later start no thread while they
  end;
* the end of the program: `atexit`, or the finalizers of multiprocessing in a child of it, which does
  not run `atexit`. It finishes what was submitted, unless the program ends by Ctrl-C;
* a fork: the child is not the program. There every lifetime is disowned: nothing in it reaches the
  parent's nodes, its end means nothing to them, and using it raises an error that says so.

Refuses to know what is submitted and what comes of it.
"""

from __future__ import annotations

import atexit
import os
import queue
import select
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from stealmesh.client.session import ProgramLink, closed
from stealmesh.client.stories import Stories
from stealmesh.client.user_threads import UserThreads
from stealmesh.host.driver import Driver
from stealmesh.host.guest_key import GuestKey
from stealmesh.host.identity import (
    new_life,
    new_member,
    new_rng,
    runtime,
    submitter,
    wall_offset,
)
from stealmesh.host.interrupts import AWAKE_SECONDS
from stealmesh.host.local import LocalMesh
from stealmesh.host.machine import temporary_directory
from stealmesh.host.security import AnyKey, keep_key
from stealmesh.transport import Transport
from stealmesh.values.room import Room, resolved
from stealmesh_engine.config import Config
from stealmesh_engine.core import NodeCore
from stealmesh_engine.events import BarTokens, Drain, Join
from stealmesh_protocol.data_only import RUNTIME as DATA_ONLY
from stealmesh_protocol.errors import JoinRefused, MeshClosed
from stealmesh_protocol.messages import Role
from stealmesh_protocol.passes import TokenSecrets

if TYPE_CHECKING:
    from stealmesh.host.node import NodeOptions

JOIN_SECONDS_MAX = 15.0
LEAVE_SECONDS_MAX = 3.0


class MeshHolder(Protocol):
    """What the program holds: a `Mesh`."""

    def end_with_program(self) -> None:
        """Finish what was submitted, and come back when all is over."""

    def disown(self, error: MeshClosed) -> None:
        """In a forked child: refuse everything with this error from now on."""


class Lifetime:
    """The part of a mesh that its threads know."""

    def __init__(
        self, holder: MeshHolder, key: AnyKey, config: Config, *, by_name: bool = False
    ) -> None:
        """`by_name`: the program is in data-only mode."""
        self._pid = os.getpid()
        self._key = key
        self._config = resolved(config)
        if isinstance(key, GuestKey):
            life, self._proof = key.new_life()
            name = f"{key.told.name}-{self._pid}"
        else:
            life, self._proof = new_life()
            name = f"client-{self._pid}"
        self._runs = DATA_ONLY if by_name else runtime()
        self._member = new_member(Role.CLIENT, name, [], 0, life=life, runs=self._runs)
        self.link = ProgramLink(self._member.id, Room.of(self._config))
        self._stories = Stories(self.link)
        self.link.wants_story, self.link.job_over = self._stories.want, self._stories.over
        self.local: LocalMesh | None = None
        self.driver: Driver | None = None
        self.transport: Transport | None = None
        self.thread: threading.Thread | None = None
        self.accepted: Callable[..., None] = lambda hurried: None
        """Waits until everything that was submitted has ended; `hurried`: not for streams that the program has
        begun to read. Set by the mesh; must not hold it."""
        self.closed = threading.Event()
        self._closing = threading.Lock()
        self._directory: str | None = None
        self._key_is_gone = False
        self._ends: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._holder = weakref.ref(holder)
        self._forgotten = weakref.finalize(holder, self._ends.put, None)
        self._forgotten.atexit = False  # the end of the program is another matter
        _living.add(self)
        _callbacks.add(self.link.user_threads)
        _be_told_of_the_end()

    # ------------------------------------------------------------ beginning

    def start_nodes(self, count: int, options: NodeOptions, *, respawn: bool) -> list[str]:
        """Start the program's own node processes. Returns their endpoints."""
        self.local = LocalMesh(count, options, self._new_node, self._broken, respawn=respawn)
        return [endpoints[0] for endpoints in self.local.endpoints()]

    def _new_node(self, endpoints: list[str]) -> None:
        if self.driver is not None:
            self.driver.post(Join(endpoints[:1]))

    def _broken(self, reason: str) -> None:
        self.link.close(MeshClosed(reason))

    def join(self, seeds: list[str]) -> tuple[Driver, threading.Thread]:
        """Become a client of the mesh that these nodes belong to. Returns what works for it."""
        epoll = select.epoll()
        self.transport = Transport(self._key, epoll=epoll)
        core = NodeCore(
            self._member,
            config=self._config,
            rng=new_rng(),
            mesh=self._key.mesh_id(),
            runtime=self._runs,
            wall_offset=wall_offset(),
            submitter=submitter(),
            tokens=TokenSecrets(self._proof),
        )
        self.driver = Driver(core, self.transport, epoll, self.link, shelf=self.link.values.shelf)
        self.link.values.on_first = self.driver.neighbours.serve
        self.link.wake, self.link.act = self.driver.wake, self.driver.act
        self.link.attend, self.link.hand = self.driver.attend, self.driver.hand
        self.link.ways = self.driver.hired.by_job
        self.thread = threading.Thread(target=self._drive, name="stealmesh", daemon=True)
        self.thread.start()
        threading.Thread(target=self._await_end, name="stealmesh-end", daemon=True).start()
        self.driver.post(Join(seeds))
        try:
            self.link.joined.result(timeout=JOIN_SECONDS_MAX)
        except TimeoutError:
            raise JoinRefused("no-answer", f"no answer from {', '.join(seeds)}") from None
        return self.driver, self.thread

    def _drive(self) -> None:
        assert self.driver is not None
        assert self.transport is not None
        try:
            self.driver.run()
        except MeshClosed as error:
            self.link.close(error)
        except BaseException as error:
            self.link.close(MeshClosed(f"the mesh's own thread failed: {error!r}"))
            raise
        finally:
            self.transport.close()

    def bar(self, names: list[str]) -> None:
        """Tell the mesh that tokens of these names count no more."""
        assert self.driver is not None
        self.driver.post(BarTokens(names))

    def key_file(self) -> str:
        """The key of this mesh, or the token that we came with, in a private file that goes with it. Raises MeshClosed
        when the mesh is over."""
        if self._directory is None and not self._key_is_gone:
            self._directory = tempfile.mkdtemp(
                prefix=f"stealmesh-{os.getpid()}-key-", dir=temporary_directory()
            )
            keep_key(self._key, os.path.join(self._directory, "mesh.key"))
        if self._key_is_gone:
            self._remove_key()  # it may have been written a moment too late for `close`
            raise closed()
        assert self._directory is not None
        return os.path.join(self._directory, "mesh.key")

    def _remove_key(self) -> None:
        self._key_is_gone = True
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    # ------------------------------------------------------------ ending

    def finish(self, *, hurried: bool = False) -> None:
        """Let everything that was accepted end, then close. Several threads may ask for it, and a thread
        may ask again after its wait was broken off (Ctrl-C)."""
        if self.closed.is_set():
            return
        self.accepted(hurried=hurried)
        self._stories.wait()
        self.link.values.bring_all(hurried=hurried)
        self.close(closed())
        self.link.user_threads.wait_until_quiet()  # callbacks are part of what was accepted

    def finish_later(self) -> None:
        """The same in the background. The end of the program waits for it."""
        self._ends.put(None)

    def _await_end(self) -> None:
        """The thread for ends in the background."""
        self._ends.get()
        try:
            self.finish()
        finally:
            self.close(MeshClosed("this mesh could not be finished"))

    def close(self, error: MeshClosed) -> None:
        """Close now: what is still pending ends with `error`."""
        with self._closing:
            if self.closed.is_set():
                return
            try:
                self._leave(error)
                self.link.printer.finish()
            finally:
                if self.local is not None:
                    self.local.close()
                self._remove_key()
                self._forget()

    def _leave(self, error: MeshClosed) -> None:
        if self.driver is not None and self.thread is not None:
            self.driver.post(Drain())
            self.link.left.wait(LEAVE_SECONDS_MAX)
            self.driver.stop()
            while self.thread.is_alive():
                self.thread.join(AWAKE_SECONDS)
        self.link.close(error)

    def _forget(self) -> None:
        """Take it off all lists: it is over."""
        self._forgotten.detach()
        self.closed.set()
        _living.discard(self)
        self._ends.put(None)  # the thread that waits for an end may go

    def end_with_program(self, *, interrupted: bool) -> None:
        if interrupted:
            self.close(MeshClosed("this program was interrupted"))
        holder = self._holder()
        if holder is not None:
            holder.end_with_program()
        else:  # forgotten, and about to finish
            self.finish(hurried=True)

    # ------------------------------------------------------------ in a forked child

    def disown(self) -> None:
        """This process is not the program. The program's other threads do not exist here, and their locks stay
        locked: we touch nothing of theirs, and end what is waited for."""
        error = MeshClosed(
            f"this mesh belongs to process {self._pid}, and this one (process {os.getpid()}) was "
            "forked from it: create a Mesh here, after the fork, or hand the work to the parent"
        )
        self._closing = threading.Lock()
        self.closed = threading.Event()
        self._ends = queue.SimpleQueue()
        if self.driver is not None:
            self.driver.disown()
        if self.local is not None:
            self.local.disown()
        self.link.disown(error)
        holder = self._holder()
        if holder is not None:
            holder.disown(error)
        self._forget()


_living: set[Lifetime] = set()
"""Those that have not ended yet, in this process."""


def any_living() -> bool:
    """Is any mesh of this process open?"""
    return bool(_living)


_callbacks: weakref.WeakSet[UserThreads] = weakref.WeakSet()
"""Threads that may run callbacks now, also of meshes that have ended in the background."""

_told_in = 0
"""The child of multiprocessing that tells us of its end."""


def _be_told_of_the_end() -> None:
    """A child of multiprocessing ends without running `atexit`: it has an end of its own."""
    global _told_in
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _told_in == os.getpid():
        return
    from multiprocessing.util import Finalize

    _told_in = os.getpid()
    # Before its queues are closed (10), which results' callbacks may still fill.
    Finalize(None, end_all, exitpriority=100)


@atexit.register
def end_all() -> None:
    """The program ends without shutting down: finish what is pending, as the standard library does,
    unless it ends by Ctrl-C."""
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for life in list(_living):
        life.end_with_program(interrupted=interrupted)
    if not interrupted:
        for threads in list(_callbacks):
            threads.wait_until_quiet()


def _disown_all() -> None:
    _callbacks.clear()  # they run in the parent
    for life in list(_living):
        life.disown()


os.register_at_fork(after_in_child=_disown_all)
