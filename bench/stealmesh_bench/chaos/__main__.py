"""`python -m stealmesh_bench.chaos`: the same command as `stealmesh chaos`."""

from __future__ import annotations

import sys

from stealmesh_bench.chaos import main

if __name__ == "__main__":
    sys.exit(main())
