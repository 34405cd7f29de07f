"""How well work spreads over a thousand nodes, in virtual time: ``python -m stealmesh_bench.scale``.

Does: one job over P nodes of one worker each, all of it given to one of them by one client;
prints parallel efficiency W / (P · makespan), how soon all nodes were busy, and what stealing
cost. Nothing is sent and nothing is computed, so the figures are those of the decisions alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from dataclasses import asdict

from stealmesh_sim.scale import Scale, run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.scale", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100], help="how many nodes")
    parser.add_argument("--seconds", type=float, default=10.0, help="of work for each node")
    parser.add_argument("--latency", type=float, default=0.00025, help="one way, in seconds")
    parser.add_argument("--grain", type=float, default=0.02, help="longest chunk, in seconds")
    parser.add_argument("--law", default="const", help="const, exponential, pareto or skewed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one object a run, one a line")
    options = parser.parse_args(arguments)
    for nodes in options.nodes:
        gc.disable()  # a world is one large cycle: to look for garbage in it takes a third of the time
        found = run(
            nodes,
            seconds_a_node=options.seconds,
            latency_seconds=options.latency,
            grain_seconds=options.grain,
            law=options.law,
            seed=options.seed,
        )
        print(json.dumps(asdict(found)) if options.json else _line(found), flush=True)
        gc.enable()
        gc.collect()
    return 0


def _line(found: Scale) -> str:
    return (
        f"{found.nodes} nodes, {found.seconds_a_node:g} s of work each: "
        f"efficiency {found.efficiency:.2%}, all busy after {1000 * found.all_busy_seconds:.1f} ms, "
        f"{found.steals_a_node:.1f} steals a node, {found.success:.0%} of requests granted, "
        f"{found.messages_a_node:.0f} messages a node, at most {found.leases_max} leases, "
        f"{found.owner_events_a_second:.0f} events/s at the owner; "
        f"simulated in {found.wall_seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
