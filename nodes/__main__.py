"""Start the command line from an uninstalled clone: `python -m nodes node --seed …`."""

import os
import sys
from pathlib import Path

ROOMS = [str(Path(__file__).parents[1] / room) for room in ("protocol", "engine", "nodes", "bench")]
sys.path[:0] = ROOMS
# Worker processes start with an interpreter of their own and must find the same code.
os.environ["PYTHONPATH"] = os.pathsep.join([*ROOMS, *filter(None, [os.getenv("PYTHONPATH")])])

if __name__ == "__main__":
    from stealmesh.cli import main

    sys.exit(main())
