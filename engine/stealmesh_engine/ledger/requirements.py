"""What a node must have for a job: its Python, and the resources that an item takes up.

Decides which nodes could run a job at all, as far as their records say, and how an error names what they
have. Refuses to know how much of it is in use: the node that runs counts that (holding/stock.py).
"""

from __future__ import annotations

from stealmesh_engine.ledger.passed_over import has_runtime
from stealmesh_protocol.messages import JobKind, JobSpec, Member, Resources

SHOWN_MAX = 8
"""Nodes that an error names."""


def suits(spec: JobSpec, member: Member) -> bool:
    """Could this node run the job, as far as is known?"""
    return has_runtime(spec, member) and (
        not spec.resources or has_resources(spec, member.resources)
    )


def may_be_hired_for(spec: JobSpec) -> bool:
    """Are its items such that a hired worker may run them? Not those that something bounds, that run side by side,
    or that need what only a node can bring."""
    apart = spec.max_parallel or spec.together or spec.chunk_items or spec.vectorized
    # An actor has taken up its resources for as long as it lives.
    takes_up = spec.resources and not spec.life
    return spec.kind is JobKind.SUBMIT and not (
        apart or takes_up or spec.timeout or spec.term or spec.needs or spec.priority
    )


def has_resources(spec: JobSpec, resources: Resources) -> bool:
    """Are there as many of each as one item takes up?"""
    there = dict(resources)
    return all(there.get(name, 0) >= count for name, count in spec.resources)


def lacked(spec: JobSpec, member: Member) -> str:
    """Why this node must not run the job."""
    if not has_runtime(spec, member):
        return f"it runs {member.runtime}, the job needs {spec.runtime}"
    return f"it has {in_words(member.resources)}, an item takes {in_words(spec.resources)}"


def in_words(resources: Resources) -> str:
    return ", ".join(f"{name}={count}" for name, count in resources) or "no resources"


def nobody_has(spec: JobSpec, members: list[Member]) -> str:
    """Who has what, when no node has what an item takes."""
    members = sorted(members, key=lambda member: (not member.resources, member.name))
    told = [f"{member.name} has {in_words(member.resources)}" for member in members[:SHOWN_MAX]]
    if len(members) > SHOWN_MAX:
        told.append(f"{len(members) - SHOWN_MAX} more nodes have too little as well")
    return f"an item of {spec.name} takes {in_words(spec.resources)}; {'; '.join(told)}"


RESOURCES_REMEDY = (
    "start a node that declares it (stealmesh node --resources NAME=COUNT, or "
    "Mesh(resources={name: count})), or ask for less"
)
