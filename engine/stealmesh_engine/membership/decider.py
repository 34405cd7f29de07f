"""What all deciders of this package read and speak through. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.journal import Journal
from stealmesh_engine.config import Config
from stealmesh_engine.links.links import Links
from stealmesh_engine.membership.detector import Detector
from stealmesh_engine.membership.dissemination import Dissemination
from stealmesh_engine.membership.told import ToldLives
from stealmesh_engine.view.membership_view import MembershipView


@dataclass(slots=True)
class Shared:
    """One peer's knowledge of the mesh, and its ways to act on it."""

    config: Config
    links: Links
    view: MembershipView
    detector: Detector
    news: Dissemination
    journal: Journal
    counters: Counters
    told: ToldLives


class Decider:
    def __init__(self, shared: Shared) -> None:
        self.config = shared.config
        self.links = shared.links
        self.view = shared.view
        self.detector = shared.detector
        self.news = shared.news
        self.journal = shared.journal
        self.counters = shared.counters
        self.told = shared.told
