"""Children that are `async def`: each runs to its end where it was begun.

Decides on which event loop: one of its own. A parent that is a coroutine itself has a loop in its thread, and
blocks it while it asks for a result: then the child runs in a thread beside.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def ended(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns. Raises what it raises."""
    import asyncio  # here: few tasks need it, and it takes 30 ms

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, coroutine).result()
