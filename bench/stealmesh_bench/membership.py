"""Membership in virtual time, at any number of nodes: ``python -m stealmesh_bench.membership``.

Does: kills, pauses and restarts nodes of meshes that have no work, and prints how soon deaths were
found, how often a living node was taken for dead, what a leaf says and hears, and how long many
nodes take to find each other. Nothing is sent, so the figures are those of the decisions alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from dataclasses import replace

from stealmesh_engine.config import Config
from stealmesh_sim import membership_scale as scale

PARTS = ("silent", "process", "pauses", "load", "bootstrap", "herd", "restart", "catastrophe")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stealmesh_bench.membership", description=__doc__
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[32, 100], help="how many nodes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--kills", type=int, default=30, help="at most a quarter of the nodes")
    parser.add_argument("--node-hours", type=float, default=5.0, help="of pauses")
    parser.add_argument("--newcomers", type=int, default=200, help="of a herd")
    parser.add_argument(
        "--attach", type=float, default=Config().attach_a_second,
        help="newcomers that a supernode lets in each second",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=0, help="of each node (idle ones look for work)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one object a part, one a line")
    options = parser.parse_args(arguments)
    for nodes in options.nodes:
        for part in options.parts:
            gc.disable()  # a world is one large cycle
            begun = time.process_time()
            figures = measure(part, nodes, options)
            took = time.process_time() - begun
            gc.enable()
            gc.collect()
            if options.json:
                print(json.dumps({"part": part, "nodes": nodes, **figures}), flush=True)
            else:
                text = ", ".join(f"{name} {value:.5g}" for name, value in figures.items())
                print(f"{nodes} nodes, {part}: {text} (simulated in {took:.0f} s)", flush=True)
    return 0


def measure(part: str, nodes: int, options: argparse.Namespace) -> dict[str, float]:
    seed = options.seed
    if part in ("silent", "process"):
        found = scale.detection(nodes, kills=options.kills, silent=part == "silent", seed=seed)
        return {
            "kills": found.kills, "p50_s": found.first_p50, "p99_s": found.first_p99,
            "all_supernodes_p99_s": found.everybody_p99, "missed": found.missed,
        }  # fmt: skip
    if part == "pauses":
        false, still, hours = scale.false_verdicts(nodes, node_hours=options.node_hours, seed=seed)
        return {"false_verdicts": false, "on_nodes_standing_still": still, "node_hours": hours}
    if part == "load":
        cost = scale.load(nodes, workers=options.workers, seed=seed)
        return {
            "messages_a_s": cost.messages_a_second, "octets_a_s": cost.octets_a_second,
            "links": cost.links, "members": cost.members,
            "busiest_supernode_messages_a_s": cost.super_messages_a_second_max,
            "cpu_s_a_virtual_s": cost.wall_seconds_a_second,
        }  # fmt: skip
    if part == "bootstrap":
        return {"agreed_s": scale.bootstrap(nodes, seed=seed)}
    if part == "herd":
        config = replace(Config(), attach_a_second=options.attach)
        agreed, unread, supers = scale.herd(nodes, options.newcomers, seed=seed, config=config)
        return {"agreed_s": agreed, "unread_s": unread, "supernodes": supers}
    if part == "restart":
        return {"agreed_s": scale.restart(nodes, seed=seed)}
    restored, agreed = scale.catastrophe(nodes, seed=seed)
    return {"supernodes_s": restored, "agreed_s": agreed}


if __name__ == "__main__":
    sys.exit(main())
