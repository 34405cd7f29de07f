"""A second program on the same mesh, to be killed: `python -m stealmesh_bench.chaos.rival ADDRESS`.

Submits work without end (the key is at STEALMESH_KEY_FILE), and says so once results come in. Its
work has priority, so the mesh is busy with it alone when it is killed.
"""

from __future__ import annotations

import itertools
import os
import sys
from functools import partial

from stealmesh import Mesh
from stealmesh_bench.chaos.ledger import noted_sleep

AHEAD_ITEMS = 1000


def main() -> None:
    task = partial(noted_sleep, os.devnull, 0.01)
    with Mesh(sys.argv[1]) as mesh:
        results = mesh.options(priority=1).map(
            task, itertools.count(), ordered=False, buffersize=AHEAD_ITEMS
        )
        next(results)
        print("at work", flush=True)
        for _ in results:
            pass


if __name__ == "__main__":
    main()
