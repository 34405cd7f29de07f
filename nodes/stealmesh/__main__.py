"""`python -m stealmesh` is the command `stealmesh`; in an uninstalled clone it finds its packages itself."""

import sys


def run() -> int:
    """Ctrl-C may come while anything is imported."""
    try:
        find_packages()
        from stealmesh.cli import main

        return main()
    except KeyboardInterrupt:
        return 130


def find_packages() -> None:
    import importlib.util
    from pathlib import Path

    if importlib.util.find_spec("stealmesh_protocol") is None:
        clone = Path(__file__).resolve().parents[2]
        sys.path[:0] = [str(clone / room) for room in ("protocol", "engine", "nodes", "bench")]


if __name__ == "__main__":
    sys.exit(run())
