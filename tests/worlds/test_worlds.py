"""Every state of every tiny world: nothing lost, nothing counted twice, and it can always still end."""

from __future__ import annotations

import pytest

from .explorer import explore
from .model import Setting, TinyWorld
from .settings import LARGE, STANDARD


def name(setting: Setting) -> str:
    size = len(setting.tree) if setting.tree is not None else setting.items
    return f"{setting.name} ({size}, {setting.nodes})"


@pytest.mark.parametrize("setting", STANDARD, ids=name)
def test_no_state_is_wrong_or_stuck(setting: Setting) -> None:
    found = explore(TinyWorld(setting), states_max=400_000)
    assert found.ends
    assert not found.stuck, "\n".join(["stuck:", *found.stuck_example])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("setting", LARGE, ids=name)
def test_no_state_of_the_large_worlds_is_wrong_or_stuck(setting: Setting) -> None:
    found = explore(TinyWorld(setting), states_max=3_000_000)
    assert not found.stuck, "\n".join(["stuck:", *found.stuck_example])


def test_the_search_is_deterministic() -> None:
    setting = Setting("twice", items=2, steals=1, crashes=1)
    once, again = explore(TinyWorld(setting)), explore(TinyWorld(setting))
    assert (once.states, once.transitions, once.ends) == (
        again.states,
        again.transitions,
        again.ends,
    )


def test_trouble_is_really_had() -> None:
    """A budget that changed nothing would be a fault that the search never tries."""
    calm = explore(TinyWorld(Setting("calm", items=2, chunk_items=2))).states
    for trouble in (
        "crashes",
        "suspicions",
        "doubts",
        "steals",
        "expiries",
        "cancels",
        "returns",
        "mishaps",
        "divisions",
    ):
        world = TinyWorld(Setting(trouble, items=2, chunk_items=2, **{trouble: 1}))  # type: ignore[arg-type]
        assert explore(world).states > calm, trouble
