"""Says whether protocol and engine run compiled in this process. Decides nothing: `stealmesh_fast` does."""

from __future__ import annotations

import sys

import stealmesh_protocol  # noqa: F401  with it comes the compiled core, if there is one

COMPILED = "compiled"


def core_in_use() -> str:
    """`compiled`, or `pure Python`, and why if the compiled core is installed and is not used."""
    compiled = sys.modules.get("stealmesh_fast")
    return "pure Python" if compiled is None else str(compiled.verdict)
