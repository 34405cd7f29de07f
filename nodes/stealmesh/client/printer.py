"""What tasks print, shown to the person in front of the program.

Decides how a line looks, and how many wait to be shown. A thread of its own writes them: `sys.stderr` may be any
object of the program's, and a terminal that stands still must not stop the mesh. What does not find room
is counted, and said in one line.

It goes to standard error: a program's results are on its standard output, and a task's prints must not get
between them. In a notebook it goes to `sys.stdout`, which is part of the cell there, as standard error is
shown as an alarm.

    [node3 item 7] half done
    [node3 items 4-9] said by a child process
    [node3 item 7] (12,345 lines dropped)

A mesh of one local node has no need to say which: `[item 7] half done`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from typing import Any

from stealmesh.host.interrupts import AWAKE_SECONDS
from stealmesh_engine.effects import JobPrinted
from stealmesh_protocol.messages import Output
from stealmesh_protocol.printed import readable

OCTETS_MAX = 4 * 1024 * 1024
"""Of texts that wait to be shown."""
UNDER_WAY_SECONDS = 0.1
"""How long a line waits for company on its way."""
END_SECONDS_MAX = 1.0
"""How long the end of the program waits for a terminal that takes no more."""

Shown = tuple[str, int, int, bytes, int]


class Printer:
    """Of one mesh."""

    def __init__(self) -> None:
        self.node_names = True
        """More than one node may be meant."""
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._quiet = threading.Condition(self._lock)
        self._waiting: deque[Shown] = deque()
        self._octets = 0
        self._lost: dict[tuple[str, int, int], int] = {}
        """Lines that found no room here."""
        self._writing = False
        self._has_thread = False
        self._over = False
        self._unshown = 0
        """Lines that the stream did not take."""
        self.expects = False
        """Some job has its output come here."""

    def default(self) -> Output:
        """Where output goes if the program does not say."""
        return Output.CALLER if in_notebook() or _is_terminal(sys.stderr) else Output.NODE

    def show(self, effect: JobPrinted) -> None:
        """Soon. In the driver's thread: it only puts it down."""
        node = effect.node if self.node_names else ""
        with self._lock:
            for lo, hi, text, dropped in effect.texts:
                if self._octets + len(text) > OCTETS_MAX:
                    key = (node, lo, hi)
                    if key in self._lost or len(self._lost) < 1000:
                        self._lost[key] = self._lost.get(key, 0) + text.count(b"\n") + dropped
                    continue
                self._octets += len(text)
                self._waiting.append((node, lo, hi, text, dropped))
            if not self._has_thread:
                self._has_thread = self._start()
            self._came.notify()

    def finish(self) -> None:
        """Wait until all is shown, as long as that makes sense. Then the thread ends."""
        left = int(END_SECONDS_MAX / AWAKE_SECONDS)
        with self._lock:
            while self._has_thread and self._is_busy() and left > 0:
                left -= 1
                self._quiet.wait(AWAKE_SECONDS)
            self._over = True
            self._came.notify()

    def _is_busy(self) -> bool:
        return bool(self._waiting or self._lost or self._writing)

    # ------------------------------------------------------------ the thread

    def _start(self) -> bool:
        thread = threading.Thread(target=self._serve, name="stealmesh-output", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending
            self._waiting.clear()
            return False
        return True

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._writing = False
                self._quiet.notify_all()
                while not self._waiting and not self._lost:
                    if self._over:
                        self._has_thread = False
                        return
                    self._came.wait()
                self._writing = True
                shown, self._waiting = self._waiting, deque()
                lost, self._lost = self._lost, {}
                self._octets = 0
            written = [_lines(*each) for each in shown]
            written += [_lines(*key, b"", lines) for key, lines in lost.items()]
            self._show(written)

    def _show(self, texts: list[str]) -> None:
        text = "".join(texts)
        if self._unshown:
            text = f"({_lines_in_words(self._unshown)} could not be shown)\n{text}"
        try:
            _write(text)
            self._unshown = 0
        except Exception:  # noqa: BLE001  it is closed, gone, or an object of the program's that raises anything
            self._unshown += sum(each.count("\n") for each in texts)


def _lines(node: str, lo: int, hi: int, text: bytes, dropped: int) -> str:
    head = _head(node, lo, hi)
    lines = [f"{head}{line}\n" for line in readable(text).split("\n")[:-1]]
    if dropped:
        lines.append(f"{head}({_lines_in_words(dropped)} dropped)\n")
    return "".join(lines)


def _lines_in_words(number: int) -> str:
    return "1 line" if number == 1 else f"{number:,} lines"


def _head(node: str, lo: int, hi: int) -> str:
    item = "" if lo == hi else f"item {lo}" if hi == lo + 1 else f"items {lo}-{hi - 1}"
    name = f"{node} {item}".strip()
    return f"[{name}] " if name else ""


def _write(text: str) -> None:
    stream = sys.stdout if in_notebook() else sys.stderr
    try:
        stream.write(text)
    except UnicodeEncodeError:  # it is a strict one
        encoding = getattr(stream, "encoding", None) or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def in_notebook() -> bool:
    """Does this program run in a notebook's kernel?"""
    return "ipykernel" in sys.modules and "get_ipython" in getattr(
        sys.modules.get("IPython"), "__dict__", {}
    )


def _is_terminal(stream: Any) -> bool:
    try:
        return os.isatty(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
