"""Functions and modules that came from the owners of jobs, and those that have yet to come.

Decides which are asked for, and how long one that no job needs is kept. Refuses to know what is in them:
nothing is unpickled in this process. A bundle of a program's own modules (`JobSpec.code`) comes like a
function: named by its digest, once for each node, and kept for the next job of that program.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.config import Config
from stealmesh_protocol.ids import Digest, digest_of
from stealmesh_protocol.messages import FnPut, JobSpec


def needed(spec: JobSpec) -> tuple[Digest, ...]:
    """The digests of what a worker needs before it can run anything of this job."""
    if not (spec.combine or spec.code):
        return (spec.function,)
    return tuple(filter(None, (spec.function, spec.combine, spec.code)))


class ShippedFunctions:
    """The functions that a node has, by their digests."""

    def __init__(self, config: Config, counters: Counters) -> None:
        self.config = config
        self.counters = counters
        self.blobs: OrderedDict[Digest, bytes] = OrderedDict()
        self.awaited: dict[Digest, float] = {}
        """Digest → since when; needed by held jobs, and not here yet."""
        self._latest_code: Digest = b""
        """The bundle of the job that came last. The next job probably needs it, so it stays even if it is large."""

    def want(self, spec: JobSpec, now: float) -> list[Digest]:
        """A job needs its functions. Returns those that are to be asked for."""
        asked = []
        self._latest_code = spec.code or self._latest_code
        for digest in needed(spec):
            if digest in self.blobs:
                self.blobs.move_to_end(digest)
            elif digest not in self.awaited:
                self.awaited[digest] = now
                asked.append(digest)
        return asked

    def lacks(self, spec: JobSpec) -> bool:
        awaited = self.awaited
        return bool(awaited) and any(digest in awaited for digest in needed(spec))

    def of(self, spec: JobSpec) -> list[bytes]:
        """The functions of this job that are here."""
        return [self.blobs[digest] for digest in needed(spec) if digest in self.blobs]

    def came(self, message: FnPut) -> bool:
        """A function came. Is it one that we wait for?"""
        if message.digest not in self.awaited:
            self.counters.count("functions-unasked")
            return False
        if message.blobs and digest_of(message.blobs[0]) != message.digest:
            self.counters.count("functions-forged")
            return False
        if not message.blobs:
            # Asked again with the next beat. If the owner really lacks it, it ends the job.
            return False
        del self.awaited[message.digest]
        self.blobs[message.digest] = message.blobs[0]
        return True

    def tidy(self, specs: Iterable[JobSpec]) -> None:
        """Jobs are over: wait only for what these jobs need, and keep the rest within bounds."""
        used = {digest for spec in specs for digest in needed(spec)}
        for digest in [d for d in self.awaited if d not in used]:
            del self.awaited[digest]
        used.add(self._latest_code)
        spare = [digest for digest in self.blobs if digest not in used]
        octets = sum(len(self.blobs[digest]) for digest in spare)
        for digest in spare:
            if octets <= self.config.functions_octets_max:
                return
            octets -= len(self.blobs.pop(digest))
