"""A node of a chaos mesh: `python -m stealmesh_bench.chaos.node FD HOST LOG`.

The node that everybody runs, with two differences: it takes itself for a machine of its own, so
that it talks to its neighbours over TCP, where a proxy can stand between; and it writes to LOG
what it comes to believe about the others.
"""

from __future__ import annotations

import sys

from stealmesh import identity, node
from stealmesh_bench.chaos import eyes


def main() -> int:
    fd, host, log = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    identity.host_id = lambda: host  # type: ignore[assignment]
    with eyes.writing(log):
        return node.main(fd)


if __name__ == "__main__":
    sys.exit(main())
