"""What the parts of one node share: configuration, effects, counters, journal and chance.

Decides nothing. It exists so that a constructor takes one argument instead of five.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.effects import Effect


@dataclass(frozen=True, slots=True)
class Context:
    """Made once by the core and handed to each part."""

    config: Config
    effects: list[Effect]
    """What the host is to do after this step, in order. Parts append; the core empties it."""
    counters: Counters
    journal: Journal
    rng: Random
    """The only source of chance: one seed, one behaviour."""
