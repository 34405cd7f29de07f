"""How a value travels that has no name elsewhere: a lambda, a class of `__main__`, what refers to them.

By itself it is cloudpickle that sends them. A program, and a worker, knows better which of them the
other side has by name, and says so here. `pickle.loads` opens either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Sender:
    """How values travel: cloudpickle's way, unless a subclass knows a better one."""

    def dumps(self, value: Any) -> bytes:
        """Raises what pickling raises."""
        import cloudpickle  # 20 ms that a client who sends numbers does not need

        blob: bytes = cloudpickle.dumps(value, 5)
        return blob

    def pickler(self) -> Any:
        """A subclass of pickle's Pickler, made with (file, protocol)."""
        import cloudpickle

        return cloudpickle.Pickler

    def beside(self, named: Any) -> Sequence[Any] | None:
        """What has to be in place elsewhere before the name of this function or class will do.

        None: its name will not do. It is asked for each value, so it must be quick.
        """
        return None if named.__module__ == "__main__" else ()

    def own_way(self, value: Any) -> Any:
        """What a `reducer_override` returns for a value that pickle would spoil; NotImplemented: it would not."""
        return NotImplemented

    def joined(self, beside: Sequence[Any], blob: bytes) -> bytes:
        """A pickle that puts this in place and then opens the blob."""
        raise AssertionError("nothing was asked to be in place")


_sender = Sender()


def sender() -> Sender:
    return _sender


def send_with(sender: Sender) -> None:
    """From now on values travel as this one says."""
    global _sender
    _sender = sender


def dumps(value: Any) -> bytes:
    """Raises what pickling raises."""
    return _sender.dumps(value)


def pickler() -> Any:
    """A subclass of pickle's Pickler, made with (file, protocol)."""
    return _sender.pickler()
