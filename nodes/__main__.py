"""Start from an uninstalled clone: `python -m nodes --seed …` is a node, anything else the command line."""

import sys
from pathlib import Path

ROOMS = [str(Path(__file__).parents[1] / room) for room in ("protocol", "engine", "nodes", "bench")]
sys.path[:0] = ROOMS

if __name__ == "__main__":
    from stealmesh.cli import main

    argv = sys.argv[1:]
    is_node = (
        bool(argv) and argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")
    )
    sys.exit(main(["node", *argv] if is_node else argv))
