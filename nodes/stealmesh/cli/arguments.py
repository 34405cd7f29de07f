"""Options that several commands share, and the values that people write in them.

Nothing here touches the network or a file. A value without sense raises ArgumentTypeError, which
argparse turns into one line and exit status 2.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from stealmesh.client.arguments import MEMORY_LIMIT_MIN, octets_of
from stealmesh.host import interfaces, seeds
from stealmesh_protocol import limits

SEED_HELP = (
    "address of any node: tcp://host:port; also file:///path (one address a line), "
    "dns://name:port (all its addresses), slurm://:port (all hosts of the job), env://NAME; "
    "repeatable, or separated by commas"
)


def add_seeds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", dest="seeds", metavar="ADDRESS", action="append", type=seed_list, default=[], help=SEED_HELP
    )  # fmt: skip


def add_key_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key-file", metavar="PATH", help="the mesh key (default: that of $STEALMESH_TOKEN, then $STEALMESH_KEY_FILE, then the user's own)"
    )  # fmt: skip


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE.toml", help="knobs (default: the user's config.toml)"
    )


def add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "job", metavar="JOB", help="its id as `stealmesh jobs` shows it, or its name"
    )


def add_mesh(parser: argparse.ArgumentParser) -> None:
    """The options that say which mesh is meant."""
    add_seeds(parser)
    add_key_file(parser)
    add_config(parser)


def add_node_options(parser: argparse.ArgumentParser) -> None:
    """The options of `node`, `start` and `join`."""
    parser.add_argument(
        "--listen", metavar="ADDRESS", type=listening, help="where to listen: tcp://host:port, port 0 for any"
    )  # fmt: skip
    parser.add_argument(
        "--advertise", metavar="ADDRESS", action="append", type=dialable, default=[],
        help="where others should dial this node, if not where it listens; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--nworkers", metavar="N", type=at_least_one, help="worker processes (default: one a core)"
    )
    parser.add_argument(
        "--nthreads", metavar="N", type=thread_count, default=1,
        help="plain functions side by side in one worker, for those that release the interpreter's lock (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--resources", metavar="NAME=COUNT", type=resource_counts, action=_Together, default={},
        help="what this node has beside its workers, as in GPU=2; tasks ask for it by options(resources=...); "
        "repeatable, or separated by commas",
    )  # fmt: skip
    parser.add_argument(
        "--functions", metavar="MODULE", type=module_list, action="extend", default=[],
        help="data-only: run the public functions of these modules by name, on plain data, and unpickle "
        "nothing; repeatable, or separated by commas",
    )  # fmt: skip
    parser.add_argument(
        "--role", choices=("auto", "super", "plain"), default="auto",
        help="auto: serve as a supernode when the mesh wants one (the default); super: always; plain: never",
    )  # fmt: skip
    parser.add_argument(
        "--name",
        default="",
        type=node_name,
        help="what status calls it (default: host and process id)",
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        type=octets,
        help="of each worker process, as in 512M or 4GiB",
    )
    parser.add_argument(
        "--state", metavar="DIR", default="",
        help="where durable jobs outlive this process, 'off' for nowhere (default: the user's state "
        "directory for this mesh and address; nowhere for a port that the system chooses)",
    )  # fmt: skip
    parser.add_argument(
        "--no-peer-cache", action="store_true",
        help="neither use nor store the addresses of earlier peers ($XDG_STATE_HOME/stealmesh/peers)",
    )  # fmt: skip
    parser.add_argument(
        "--dashboard", metavar="HOST:PORT", nargs="?", type=page_place, const="127.0.0.1:0",
        help="serve the page of the mesh, too (default: a free port of 127.0.0.1; elsewhere it wants a view token)",
    )  # fmt: skip
    parser.add_argument(
        "--log-json", action="store_true", help="what the node says on standard error is JSON, one object a line"
    )  # fmt: skip
    add_key_file(parser)
    add_config(parser)


def workers_default() -> int:
    """As many as cores that this process may use."""
    return len(os.sched_getaffinity(0))


# ---------------------------------------------------------------- values


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def thread_count(text: str) -> int:
    if at_least_one(text) > limits.THREADS_MAX:
        raise argparse.ArgumentTypeError(f"at most {limits.THREADS_MAX} threads a worker")
    return int(text)


class _Together(argparse.Action):
    """Every use of the option adds to what those before it said."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None
    ) -> None:
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), **values})


def resource_counts(text: str) -> dict[str, int]:
    """GPU=2,licence=1"""
    from stealmesh.client.arguments import checked_resources

    counts: dict[str, int] = {}
    for each in text.split(","):
        name, _, count = each.partition("=")
        if not count.isdecimal():
            raise argparse.ArgumentTypeError(f"{each!r} is not NAME=COUNT, with a whole number")
        counts[name] = int(count)
    try:
        return dict(checked_resources(counts))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def module_list(text: str) -> list[str]:
    """package.module,other"""
    from stealmesh.functions import module_names

    try:
        return list(module_names(text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of modules; write package.module,other"
        ) from None


def not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def octets(text: str) -> int:
    """512M, 4GiB, 1.5g, 800000000. K, M, G and T are powers of 1024, with or without an i."""
    size = octets_of(text)
    if size is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 512M or 4GiB")
    if size < MEMORY_LIMIT_MIN:
        raise argparse.ArgumentTypeError(
            f"{text!r} is less than a worker needs to start; write 512M or 4GiB"
        )
    return size


def seed_list(text: str) -> list[str]:
    try:
        return [seeds.checked(seed) for seed in seeds.split(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def dialable(text: str) -> str:
    if not text.startswith("tcp://"):
        raise argparse.ArgumentTypeError(
            f"not an address that others can dial: {text!r}; write tcp://host:port"
        )
    address = seed_list(text)[0]
    if address.removeprefix("tcp://").rpartition(":")[0] in interfaces.WILDCARDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is where a node listens; others dial the address of one of its interfaces"
        )
    return address


def node_name(text: str) -> str:
    """What peers take: a node with another name could say nothing to them."""
    if not text.isprintable() or len(text) > limits.NAME_CHARS_MAX:
        raise argparse.ArgumentTypeError(
            f"{text[: limits.NAME_CHARS_MAX]!r} is no name: at most {limits.NAME_CHARS_MAX} printable characters"
        )
    return text


def page_place(text: str) -> str:
    from stealmesh.page.place import place_of

    try:
        place_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def listening(text: str) -> str:
    """tcp://host:port; the port may be left out."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in ("tcp", "ipc") or not rest:
        raise argparse.ArgumentTypeError(
            f"not an address to listen at: {text!r}; write tcp://host:port"
        )
    try:
        return seeds.with_port(text) if scheme == "tcp" else text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
