"""A program that submits durable calls, to be killed: `… chaos.durable_caller ADDRESS JOB COUNT LOG SEED`.

Prints a line when it has begun, and then the id of each call or search once the mesh has accepted it: from then
on it must come to its result. Ends when its standard input ends, like `launcher`.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from stealmesh import Mesh
from stealmesh_bench.chaos import durable_work
from stealmesh_bench.chaos.launcher import end_with_our_owner


def main() -> None:
    address, job, count, log, seed = sys.argv[1:]
    threading.Thread(target=end_with_our_owner, daemon=True).start()
    with Mesh(address) as mesh:
        print("begun", flush=True)
        calls: list[Any] = []
        for number in range(int(count)):
            calls.append(durable_work.begun(mesh, job, int(seed), number, log, calls))
        for call in calls:
            print(call.accepted(), flush=True)
        threading.Event().wait()  # to be killed is what we are for


if __name__ == "__main__":
    main()
