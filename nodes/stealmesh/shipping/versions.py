"""Versions of installed packages: what is installed here, and where the program has another version.

Decides how a version is found: by the names of what installers leave beside a package
(`numpy-2.1.0.dist-info`). That costs a look into one directory; importlib.metadata costs 20 ms and
runs files that the user's own may shadow (`email.py`). Packages installed in other ways have no known
version, and we say nothing of them.

A worker keeps here what differs for the code that runs. Refuses to know which packages matter
(needs.py) and how the program hears of it (workers/outcome.py, client/remarks.py).
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterable

Need = tuple[str, str]
"""A distribution, by its plain name, and the version that the program has."""
Other = tuple[str, str, str]
"""A distribution, its version here, and its version in the program."""

KINDS = ("dist-info", "egg-info")

met: tuple[Other, ...] = ()
"""Packages in other versions than the code that runs now was written for."""
news: dict[str, Other] = {}
"""By distribution: differences that the program has not heard of. A worker belongs to one program."""
fresh: list[Other] = []
"""Differences that the node has not heard of."""
_known: set[str] = set()


def begin() -> None:
    """Start a list for other code that is about to run."""
    global met
    met = ()


def add(others: Iterable[Other]) -> None:
    """Add to that list."""
    global met
    met += tuple(other for other in others if other not in met)


def compare(needs: tuple[Need, ...]) -> None:
    """Compare the versions that code was written for with those here."""
    found = []
    for name, there in needs:
        here = _version_of(name)
        if here and here != there:
            other = (name.replace("_", "-"), here, there)
            found.append(other)
            if name not in _known:
                _known.add(name)
                news[name] = other
                fresh.append(other)
    add(found)


def in_words(others: Iterable[Other]) -> str:
    return ", ".join(f"{name} {here} (the program has {there})" for name, here, there in others)


def _version_of(name: str) -> str:
    """The version that would be imported here; empty if unknown."""
    for directory in sys.path:
        version = versions_in(directory).get(name)
        if version is not None:
            return version
    return ""


# ---------------------------------------------------------------- what is installed


@functools.lru_cache(1024)
def versions_in(directory: str) -> dict[str, str]:
    """Distribution → version. Empty where two are there at once, or the name does not say it."""
    found: dict[str, str] = {}
    try:
        entries = os.listdir(directory) if directory else []
    except OSError:
        return found
    for entry in entries:
        stem, _, kind = entry.rpartition(".")
        if kind in KINDS:
            name, _, version = stem.partition("-")
            version = version.partition("-py")[0]  # an egg says for which Python, too
            found[plain(name)] = "" if plain(name) in found else version
    return found


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()
