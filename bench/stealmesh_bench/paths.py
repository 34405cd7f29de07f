"""Where this program found our packages, for those that it starts: they must find the same ones.

A variable, because what is measured and what is broken are ordinary programs, which are started like
any other. Nodes and workers need none (see stealmesh/interpreter.py).
"""

from __future__ import annotations

import os

import stealmesh
import stealmesh_bench
import stealmesh_engine
import stealmesh_protocol


def python_path() -> str:
    packages = (stealmesh, stealmesh_engine, stealmesh_protocol, stealmesh_bench)
    roots = [os.path.dirname(os.path.dirname(os.path.abspath(p.__file__ or ""))) for p in packages]
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([*roots, *filter(None, inherited)]))
