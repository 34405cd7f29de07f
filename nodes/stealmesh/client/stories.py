"""The files of `options(report=path)`: the story of a job as one HTML page, written when the job has ended.

Decides when: as soon as the ledger, or the primary of a durable job, says that the job is over, whatever it came to, and
before this program leaves the mesh, because the nodes have the story. Refuses to know what is on the page (`job_story.py`). A thread of its own
writes each file: it asks all nodes, which may take a second.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stealmesh.client.telling import tell
from stealmesh_protocol.errors import MeshError
from stealmesh_protocol.ids import JobId

if TYPE_CHECKING:
    from stealmesh.client.session import ProgramLink

END_SECONDS_MAX = 2.0
"""How long the end of the program waits for jobs to be over whose items have all ended."""
LOOK_SECONDS = 0.01


class Stories:
    """The files that one program still wants."""

    def __init__(self, link: ProgramLink) -> None:
        self._link = link
        self._wanted: dict[JobId, str] = {}
        self._lock = threading.Lock()
        """A job is wanted, or has a writer: who waits must see one of the two."""
        self._writers: set[threading.Thread] = set()

    def want(self, job: JobId, path: str) -> None:
        self._wanted[job] = path

    def over(self, job: JobId, name: str) -> None:
        """The job has ended. Called in the driver's thread."""
        if job not in self._wanted:
            return
        with self._lock:
            path = self._wanted.pop(job)
            writer = threading.Thread(
                target=self._write, args=(job, name, path), name="stealmesh-report", daemon=True
            )
            writer.start()
            self._writers = {each for each in self._writers if each.is_alive()} | {writer}

    def wait(self) -> None:
        """Until the files of all jobs that have ended are written."""
        until = time.monotonic() + END_SECONDS_MAX
        while self._wanted.keys() & self._link.jobs.keys() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        with self._lock:
            writers = self._writers
        for writer in writers:
            writer.join()

    def _write(self, job: JobId, name: str, path: str) -> None:
        from stealmesh.client.journals import JournalReader
        from stealmesh.job_story import of_job, page

        try:
            reader = JournalReader(self._link)
            found = list(of_job(reader.read(), job.hex()))
            part = Path(f"{path}.{job.hex()}.part")  # who sees the file sees all of it
            part.write_text(page(name, found, reader.missed), encoding="utf-8")
            part.replace(path)
        except (OSError, MeshError, TimeoutError) as error:
            tell(f"no report of {name} in {path}: {str(error) or 'the mesh did not answer'}")
