"""The commands that this package adds to `stealmesh` (entry points `stealmesh.commands` in pyproject.toml).

The first line of a docstring is the summary in `stealmesh --help`. That help loads this file, so the
heavy imports are inside the functions.
"""

from __future__ import annotations


def bench(argv: list[str]) -> int:
    """measure, beside the standard library's pool"""
    from stealmesh_bench.__main__ import main

    return main(argv)


def chaos(argv: list[str]) -> int:
    """break things on purpose and check that nothing is lost"""
    from stealmesh_bench.chaos import main

    return main(argv)
