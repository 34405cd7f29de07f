"""A line on standard error for whoever looks at a program that seems to stand still.

Said in a thread of its own: sys.stderr may be anything that the program put there, and a pipe that
nobody reads must not stop the mesh. Decides no more than the words; when, is the engine's (waiting.py).
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
            return  # it is closed: there is nobody to tell

    threading.Thread(target=say, name="stealmesh-tell", daemon=True).start()
