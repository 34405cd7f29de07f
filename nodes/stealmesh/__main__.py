"""`python -m stealmesh` is the command `stealmesh`; in an uninstalled clone it finds its packages itself."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("stealmesh_protocol") is None:
    CLONE = Path(__file__).resolve().parents[2]
    ROOMS = [str(CLONE / room) for room in ("protocol", "engine", "nodes", "bench")]
    sys.path[:0] = ROOMS

from stealmesh.cli import main

if __name__ == "__main__":
    sys.exit(main())
