"""A program that launches a durable job, to be killed: `… chaos.launcher ADDRESS ITEMS LOG`.

Prints the job's id once the mesh has accepted the job (the key is at STEALMESH_KEY_FILE). Then it
collects, and prints the number of each item that arrives, or -1 for a wrong value. It ends when its
standard input ends, because the process that started it may be killed too.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial

from stealmesh import Mesh
from stealmesh_bench.chaos.jobs import ITEM_SECONDS
from stealmesh_bench.chaos.ledger import answer, noted_sleep


def main() -> None:
    address, items, log = sys.argv[1:]
    threading.Thread(target=end_with_our_owner, daemon=True).start()
    with Mesh(address) as mesh:
        job = mesh.launch(partial(noted_sleep, log, ITEM_SECONDS), range(int(items)))
        print(job.id, flush=True)
        for item, value in job.results():
            print(item if value == answer(item) else -1, flush=True)
        threading.Event().wait()  # to be killed is what we are for


def end_with_our_owner() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
