"""The tiny worlds that are searched: the quick ones with every test run, the large ones by hand."""

from __future__ import annotations

from .exploring import FORK, PATH, TWIG
from .model import Network, Setting

LOOSE, KEEPING = Network.LOOSE, Network.KEEPING

STANDARD = [
    # In order and once, as the channel gives it. Without the backstop: the protocol needs no
    # deadlines to survive deaths and false alarms. They are there for what was not foreseen.
    Setting("no trouble", items=3, steals=2),
    Setting("three nodes", items=3, nodes=3, steals=1, crashes=1, backstop=False),
    Setting("two workers", items=3, workers=2, steals=1, crashes=1, backstop=False),
    Setting("death and alarm", items=2, steals=1, crashes=1, suspicions=1, backstop=False),
    Setting("alarm, three nodes", items=2, nodes=3, steals=1, suspicions=1, backstop=False),
    Setting("owner given up", items=3, steals=1, doubts=1, crashes=1),
    Setting("early expiry", items=2, steals=1, crashes=1, expiries=1),
    Setting("lost workers", items=3, steals=1, mishaps=1, returns=1, crashes=1, backstop=False),
    Setting("cancelled item", items=3, steals=1, cancels=1, chunk_items=2, backstop=False),
    Setting(
        "cancelled in a reduction",
        items=3, steals=1, cancels=1, chunk_items=2, whole_parts=True, backstop=False,
    ),
    Setting("divided", items=3, chunk_items=3, divisions=2, steals=1, backstop=False),
    Setting(
        "divided, death and mishap",
        items=3, chunk_items=3, divisions=1, mishaps=1, crashes=1, backstop=False,
    ),
    Setting(
        "divided in a reduction",
        items=3, chunk_items=3, divisions=1, cancels=1, whole_parts=True, backstop=False,
    ),
    Setting("divided, alarm", items=2, chunk_items=2, divisions=1, suspicions=1, backstop=False),
    Setting("held back", items=2, released=1, steals=1, suspicions=1, backstop=False),
    Setting("explore", tree=TWIG, steals=2, crashes=1, backstop=False),
    Setting("explore, three nodes", tree=PATH, nodes=3, steals=1, crashes=1, backstop=False),
    Setting("explore, alarm", tree=FORK, steals=1, suspicions=1, backstop=False),
    Setting("explore, owner given up", tree=FORK, steals=1, doubts=1),
    Setting("explore, early expiry", tree=FORK, steals=1, expiries=1),
    Setting("explore, lost workers", tree=FORK, steals=1, mishaps=1, returns=1, crashes=1),
    # Any order, repeats and losses: nothing is counted twice or lost without the channel either.
    Setting("loose", network=LOOSE, steals=1, losses=1, repeats=1),
    Setting("loose, alarm", network=LOOSE, steals=1, suspicions=1),
    Setting("loose, early expiry", network=LOOSE, steals=1, expiries=1),
    Setting("keeping, death", network=KEEPING, steals=1, crashes=1),
    Setting("keeping, alarm", network=KEEPING, suspicions=1),
    Setting("keeping, loss", items=1, network=KEEPING, steals=1, losses=1),
    Setting("loose explore", tree=FORK, network=LOOSE, steals=1),
    Setting("keeping explore", tree=FORK, network=KEEPING, steals=1, losses=1),
]  # fmt: skip

LARGE = [
    Setting(
        "one block an item", items=2, lease_items_max=1, steals=1, suspicions=1, backstop=False
    ),
    Setting("death and alarm", items=3, steals=1, crashes=1, suspicions=1, backstop=False),
    Setting("two alarms", items=2, steals=1, suspicions=2, backstop=False),
    Setting("two steals", items=2, steals=2, crashes=1, suspicions=1, backstop=False),
    Setting("two steals", items=3, steals=2, crashes=1, suspicions=1, backstop=False),
    Setting("alarm and doubt", items=2, steals=1, suspicions=1, doubts=1),
    Setting("three nodes", items=3, nodes=3, steals=2, crashes=1, backstop=False),
    Setting("death and alarm, three nodes", items=2, nodes=3, steals=1, crashes=1, suspicions=1),
    Setting("everything", items=3, steals=1, returns=1, mishaps=1, cancels=1, crashes=1),
    Setting("held back", items=3, released=2, steals=1, suspicions=1, backstop=False),
    Setting("early expiry", items=3, steals=1, crashes=1, expiries=1),
    Setting("explore", tree=FORK, steals=1, crashes=1, suspicions=1, backstop=False),
    Setting("explore, two steals", tree=FORK, steals=2, suspicions=1, backstop=False),
    Setting("loose", network=LOOSE, steals=1, losses=1, repeats=1, crashes=1),
    Setting("loose, alarm and loss", network=LOOSE, steals=1, losses=1, suspicions=1),
    Setting("loose, alarm and repeat", network=LOOSE, steals=1, repeats=1, suspicions=1),
    Setting("loose explore, loss", tree=FORK, network=LOOSE, losses=1),
    Setting("keeping, loss", network=KEEPING, steals=1, losses=1),
    Setting("keeping, alarm", items=1, network=KEEPING, steals=1, suspicions=1),
    Setting("keeping explore, alarm", tree=FORK, network=KEEPING, suspicions=1),
]
