"""One key holder lies, in as many virtual worlds as you like: ``python -m stealmesh_bench.insider``.

Does: plays worlds of `stealmesh_sim.insider` from consecutive seeds, with more of the lies that had outcomes which
were new (coverage of pairs of message and reaction), and for each world that came to harm prints the one command
that repeats it, and the shortest attack that does the same. Exit 1 if there was any.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from stealmesh_sim.insider import RECIPES, SEQUENCE, InsiderOutcome, minimised, play, recipes_of
from stealmesh_sim.insider_guests import play_guest

GUIDED_SHARE = 0.35
"""How many lies come from those that were news before."""
LIES = 4 * RECIPES
"""In one world: told in the time of RECIPES, as a world without any lie costs as much as 200 of them."""
SAID_EVERY = 200
"""Worlds between two lines on how it goes."""


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    if options.one is not None:
        recipes = [int(each) for each in options.recipes.split(",")] if options.recipes else None
        recipes = recipes_of(options.one, options.lies) if recipes is None else recipes
        return _tell(_player(options)(options.one, recipes), recipes, guests=options.guests)
    gc.collect()
    gc.freeze()  # what was imported is no garbage
    gc.disable()  # a world is one large cycle: garbage is for afterwards
    try:
        return _many(options)
    finally:
        gc.enable()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.insider", description=__doc__)
    parser.add_argument("--worlds", type=int, default=0, help="how many; 0: until the time is over")
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long")
    parser.add_argument("--seed", type=int, default=1, help="the first world's seed")
    parser.add_argument("--lies", type=int, default=LIES, help="in one world")
    parser.add_argument("--one", type=int, metavar="N", help="play world N alone")
    parser.add_argument(
        "--recipes", default="", help="with --one: these lies only, by their numbers"
    )
    parser.add_argument(
        "--guests", action="store_true", help="the liar holds a submit or view token, and nothing is excused"
    )  # fmt: skip
    parser.add_argument("--raw", action="store_true", help="do not look for shorter attacks")
    return parser.parse_args(arguments)


def _player(options: argparse.Namespace) -> Callable[..., InsiderOutcome]:
    return play_guest if options.guests else play


def replay(seed: int, recipes: list[int], *, guests: bool = False) -> str:
    """The command that repeats a world."""
    told = " --guests" if guests else ""
    if recipes == recipes_of(seed, len(recipes)):
        told += f" --lies {len(recipes)}"  # shorter than naming them
    else:
        told += " --recipes " + ",".join(map(str, recipes))
    return f"python -m stealmesh_bench.insider --one {seed}{told}"


def guided(seed: int, corpus: list[int], lies: int) -> list[int]:
    """The lies of this world: some are those that were news before."""
    rng = Random(f"{seed}/guided")
    own = recipes_of(seed, lies)
    if not corpus or rng.random() < 0.3:
        return own
    return [rng.choice(corpus) if rng.random() < GUIDED_SHARE else each for each in own]


def _many(options: argparse.Namespace) -> int:
    begun = time.perf_counter()
    known: set[str] = set()
    corpus: dict[int, None] = {}
    totals: Counter[str] = Counter()
    rude: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    slowest = (0.0, 0)
    most = (0, 0)
    seed = options.seed
    while not options.worlds or seed < options.seed + options.worlds:
        if not options.worlds and time.perf_counter() - begun > 60 * options.minutes:
            break
        recipes = guided(seed, list(corpus)[-RECIPES * 20 :], options.lies)
        outcome = _player(options)(seed, recipes, known)
        corpus.update(dict.fromkeys(outcome.found))
        totals["worlds"] += 1
        totals["lies"] += outcome.lies
        totals["steps"] += outcome.steps
        totals["jobs"] += outcome.jobs
        totals["excused"] += outcome.excused
        totals["steps above 50 ms"] += outcome.slow_steps
        rude.update(outcome.rude)
        slowest = max(slowest, (outcome.step_seconds_most, seed))
        most = max(most, (outcome.effects_most, seed))
        if outcome.kind:
            bad[outcome.kind] += 1
            print(
                f"world {seed}: {outcome.text}\n    {replay(seed, recipes, guests=options.guests)}",
                flush=True,
            )
            if not options.raw:
                _shorten(seed, recipes, outcome.kind, guests=options.guests)
        seed += 1
        if totals["worlds"] % 10 == 0:
            gc.collect()
        if totals["worlds"] % SAID_EVERY == 0:
            _how_it_goes(totals, len(known), bad, time.perf_counter() - begun)
    _how_it_goes(totals, len(known), bad, time.perf_counter() - begun)
    print(
        f"most effects of a step: {most[0]} (world {most[1]}); slowest step {slowest[0]:.3f} s (world {slowest[1]})"
    )
    print("refused: " + ", ".join(f"{name} {count}" for name, count in sorted(rude.items())))
    return 1 if bad else 0


def _shorten(seed: int, recipes: list[int], kind: str, *, guests: bool) -> None:
    plays = play_guest if guests else play
    shorter = minimised(seed, recipes, kind, plays)
    _tell(plays(seed, shorter), shorter, guests=guests)


def _how_it_goes(totals: Counter[str], paths: int, bad: Counter[str], seconds: float) -> None:
    figures = ", ".join(f"{count} {name}" for name, count in totals.items())
    sequences = totals["lies"] // SEQUENCE
    print(
        f"{sequences} sequences in {seconds:.0f} s ({figures}), {paths} pairs of message and reaction, "
        f"{sum(bad.values())} bad {dict(bad)}",
        flush=True,
    )


def _tell(outcome: InsiderOutcome, recipes: list[int], *, guests: bool = False) -> int:
    print(f"world {outcome.seed}: {outcome.text or 'fine'}, {outcome.lies} lies")
    if outcome.kind:
        print(f"    {replay(outcome.seed, recipes, guests=guests)}")
        for _, to, lie in outcome.said:
            print(f"    to {to}: {lie!r}"[:1000], flush=True)
    return 1 if outcome.kind else 0


if __name__ == "__main__":
    sys.exit(main())
