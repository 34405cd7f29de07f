"""A line on standard error that says why the program seems to stand still.

Decides the words only; the engine decides when (`presence/waiting.py`). A thread of its own prints the line,
because sys.stderr may be any object of the program's, and a full pipe must not stop the mesh.
"""

from __future__ import annotations

import sys
import threading

from stealmesh_engine.effects import WaitsForNodes


def waits(effect: WaitsForNodes) -> str:
    what = "1 item waits" if effect.items == 1 else f"{effect.items:,} items wait"
    if not effect.items:
        what = "a durable job waits"
    where = ", ".join(effect.endpoints) or "this program's own nodes"
    return (
        f"no node has answered for {effect.seconds:.1f} s: {what} for one at {where}; "
        "the work goes on by itself when one is back"
    )


def tell(text: str) -> None:
    """One line on standard error, soon; none where there is no standard error."""

    def say() -> None:
        stream = sys.stderr
        if stream is None:
            return
        try:
            print(f"stealmesh: {text}", file=stream, flush=True)
        except (OSError, ValueError):
            return  # it is closed

    threading.Thread(target=say, name="stealmesh-tell", daemon=True).start()
