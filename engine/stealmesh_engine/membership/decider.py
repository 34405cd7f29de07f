"""What all deciders of this package read and speak through. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from stealmesh_engine.base.context import Context
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.membership.dissemination import Dissemination
from stealmesh_engine.membership.told import ToldLives


@dataclass(slots=True)
class Shared:
    """One peer's knowledge of the mesh, and its ways to act on it."""

    context: Context
    links: Links
    detector: Detector
    news: Dissemination
    told: ToldLives


class Decider:
    def __init__(self, shared: Shared) -> None:
        self.config = shared.context.config
        self.links = shared.links
        self.view = shared.links.view
        self.detector = shared.detector
        self.news = shared.news
        self.journal = shared.context.journal
        self.counters = shared.context.counters
        self.told = shared.told
