"""Make a new mesh key. The old one counts for a while, so that nodes can be restarted one after another.

1. `stealmesh rotate-key` writes the new key, with the old one beside it, into the key file, and prints a line for
   hosts that do not share the file: paste it there (`stealmesh join --key-only …`).
2. Restart the nodes, one after another. Until the time that this command prints they take both keys, so old and new
   nodes, and programs with either key, are in one mesh. Tokens of the old key end then, too: print new ones.
3. After that time the old key is refused. Run `stealmesh rotate-key --finish` on each host and restart the nodes
   once more: then none of them uses anything of the old key.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from stealmesh.cli import arguments as shared
from stealmesh.cli.exits import DONE, USAGE, CommandEnded, say
from stealmesh.cli.joining import key_path, key_problems, this_users
from stealmesh.cli.token import duration

if TYPE_CHECKING:
    from stealmesh.host.security import MeshKey

WINDOW = "1d"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--window", metavar="TIME", type=duration, default=duration(WINDOW),
        help=f"how long the old key counts, as in 2h or 7d (default: {WINDOW})",
    )  # fmt: skip
    parser.add_argument("--finish", action="store_true", help="forget the old key, after its time")
    shared.add_seeds(parser)
    shared.add_key_file(parser)


def run(arguments: argparse.Namespace) -> int:
    from stealmesh.host.security import MeshKey

    path = key_path(arguments)
    with key_problems():
        key = MeshKey.load(path)
        return _finish(key, path) if arguments.finish else _begin(arguments, key, path)


def _begin(arguments: argparse.Namespace, key: MeshKey, path: str) -> int:
    from stealmesh.host.security import JoinToken

    if key.former is not None and time.time() < key.former.until:
        raise CommandEnded(
            USAGE,
            f"the key before {key.fingerprint()} still counts until {_day(key.former.until)}: a third one has to "
            "wait for that",
        )
    found = this_users(arguments) if not arguments.seeds else None
    new = key.rotated(time.time() + arguments.window)
    new.save(path, replace=True)
    assert new.former is not None
    say(
        f"new mesh key {new.fingerprint()} in {path}; {key.fingerprint()} counts until {_day(new.former.until)}"
    )
    seeds = [each for several in arguments.seeds for each in several]
    seeds = seeds or ([] if found is None else found.addresses[:4])
    say(
        "on hosts that do not share this file, paste this line; then restart the nodes one after another:"
    )
    print(f"stealmesh join --key-only {JoinToken(new, tuple(seeds)).encode()}")
    return DONE


def _finish(key: MeshKey, path: str) -> int:
    if key.former is None:
        say(f"{path} has the key {key.fingerprint()} alone: nothing to do")
        return DONE
    if time.time() < key.former.until:
        raise CommandEnded(
            USAGE, f"the old key counts until {_day(key.former.until)}: finish after that"
        )
    key.alone().save(path, replace=True)
    say(f"{path} has the key {key.fingerprint()} alone: restart the nodes one after another")
    return DONE


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
