"""Which commands there are, and what all of them share: parsing, statuses, Ctrl-C.

Refuses to know what a command does. A command of our own is a module in this package with
`add_arguments(parser)` and `run(arguments) -> status`; only the named one is imported. Other packages
add commands by entry points (see `added.py`); those parse their own arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any, NoReturn

from stealmesh.cli.added import AddedCommand, added_commands, summary_of
from stealmesh.cli.exits import BROKEN_PIPE, DONE, INTERRUPTED, USAGE, CommandEnded, ended_by, say
from stealmesh.cli.output import written

COMMANDS = {
    "start": "first machine: make a key, listen, print the one line to paste elsewhere",
    "join": "another machine: join with the token that start printed",
    "node": "be a node: join the mesh behind --seed, or found one",
    "token": "print a token for a program that only submits or looks, or revoke one",
    "rotate-key": "make a new mesh key; the old one counts for a while",
    "status": "show nodes, jobs and counters of a running mesh",
    "top": "show what runs in a mesh, live",
    "events": "show what happened on a running mesh: who came, went, died, stole, and why",
    "trace": "write what ran where and when, for a viewer of traces",
    "report": "write the story of a job as one HTML file",
    "dashboard": "serve the page: the mesh live in a browser, and /metrics",
    "metrics": "print the figures of a running mesh for Prometheus",
    "jobs": "show the jobs of a running mesh, also those that ended lately",
    "results": "collect the results of a durable job as JSON lines",
    "cancel": "stop a durable job",
    "explain": "why a job or an item is not running, and where it has been tried",
    "stacks": "the Python stacks of a node's workers, or of the one that runs an item",
    "doctor": "look for what keeps a mesh from working, and say what to do",
    "run": "run a function over items, results as JSON lines",
    "demo": "a local mesh loses a node halfway, and still gets it right",
}
"""Name of the command and of its module → summary."""

EPILOG = """\
exit status: 0 done; 1 the work failed; 2 wrong usage (also: cannot listen at the address);
3 could not join (unreachable, another key, no key); 130 interrupted
"""


def dispatch(argv: list[str]) -> int:
    """Run the command that `argv` names; returns the exit status."""
    _open_what_is_closed()
    try:
        with _interruptible():
            status = _run_in_words(argv)
            with written():
                sys.stdout.flush()  # what argparse printed, too
            return status
    except CommandEnded as end:
        if str(end):
            say(str(end))
        return end.status
    except KeyboardInterrupt:
        # CPython kills itself at its end if an interrupt ever left an `exec` of text, as in the middle of making
        # a dataclass. The next `exec` makes it forget that.
        exec("")
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    finally:
        _let_go_of_output()


class _Parser(argparse.ArgumentParser):
    """One that says when its help cannot be written: argparse itself passes over that."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not sys.stdout:
            super()._print_message(message, file)
            return
        with written():
            file.write(message)


class _Version(argparse.Action):
    """Prints the version, which is imported only then: its module imports heavier ones."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from stealmesh.host.core_in_use import core_in_use
        from stealmesh.host.identity import VERSION

        print(f"stealmesh {VERSION}, core: {core_in_use()}")
        parser.exit()


def build_parser(wanted: str | None, added: dict[str, AddedCommand]) -> argparse.ArgumentParser:
    """A parser that knows all names of commands, and the arguments of the wanted one only."""
    parser = _Parser(
        prog="stealmesh",
        description="A mesh of Python processes that steal work from each other, with nothing in the middle.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show it and exit")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="command")
    for name, summary in COMMANDS.items():
        if name != wanted:
            commands.add_parser(name, help=summary, add_help=False)
            continue
        module = _module(name)
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
    for name, other in added.items():
        commands.add_parser(name, help=summary_of(other), add_help=False)
    return parser


# ---------------------------------------------------------------- inside


def _run_in_words(argv: list[str]) -> int:
    """Our own errors say what to do: they are a line, and no traceback."""
    try:
        return _run(argv)
    except Exception as error:
        end = ended_by(error)
        if end is None:
            raise
        raise end from None


def _run(argv: list[str]) -> int:
    wanted = argv[0] if argv else None
    added = {} if wanted in COMMANDS else added_commands()
    try:
        if wanted is not None and wanted in added:
            return added[wanted](argv[1:]) or DONE
        parser = build_parser(wanted, added)
        with written():
            arguments = parser.parse_args(argv)
    except SystemExit as end:  # argparse has printed the reason
        return end.code if isinstance(end.code, int) else USAGE
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    status: int = _module(arguments.command).run(arguments)
    return status


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"stealmesh.cli.{name.replace('-', '_')}")


def _open_what_is_closed() -> None:
    """Open closed ones of the three standard descriptors. Otherwise a socket of ours would get the number
    of one, and prints would go there. Who reads the closed input or writes to the closed output hears of it, as
    without us: results must not be lost in silence."""
    standard = (0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_RDWR)
    for number, name, mode in standard:
        try:
            os.fstat(number)
        except OSError:
            assert os.open(os.devnull, mode) == number, "the lowest number that is free"
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _let_go_of_output() -> None:
    """Flush standard output. If its reader is gone, send the rest to /dev/null, so that the interpreter
    does not complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt, for a tidy end. The second ends this process at once;
    our nodes and workers notice that and end too."""

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored on purpose, or a test or an embedding program has a handler of its own
        return
    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is first:
            signal.signal(signal.SIGINT, signal.default_int_handler)
