"""The line to a proxy process: what its owner calls, in the words of `proxy.Proxy`."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
from typing import Any

ANSWER_SECONDS_MAX = 20.0


class ProxyProcess:
    """Starts a proxy, tells it what to do, ends it. Calls may come from several threads."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stealmesh_bench.chaos.proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C in the terminal is the owner's to handle
            env=environment,
        )
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, do: str, **arguments: Any) -> Any:
        """Have it done; returns the answer. Raises RuntimeError when the proxy is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                raise RuntimeError(f"the proxy ended (status {self._process.wait()})") from None
            if not select.select([self._process.stdout], [], [], ANSWER_SECONDS_MAX)[0]:
                raise RuntimeError("the proxy does not answer")
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the proxy ended (status {self._process.wait()})")
        return json.loads(line)["is"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # it was killed with something unread
