"""The page in a real browser, over a mesh of eight nodes at work: each view, wide and narrow, light and dark.

Needs Playwright and a Chromium: `pip install playwright`, and `apt install chromium` or `playwright install chromium`.
With STEALMESH_PICTURES=DIR every view is also drawn into DIR, for a person to look at.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Command, Shell
from tests.cli.test_page_real import page_of
from tests.patience import until

playwright = pytest.importorskip(
    "playwright.sync_api", reason="pip install playwright, and apt install chromium"
)
pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]

NODES = 8
PATIENCE_MS = 300_000.0
"""Of one wait for something to be seen: only ever reached by a defect."""
VIEWS = ("mesh", "stream", "jobs", "slow", "memory", "counters", "look")
TASKS = """
import threading, time
def quick(x):
    time.sleep(0.05)
    return x
def stuck(x):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()  # for ever
def fails(x):
    time.sleep(0.2)
    raise ValueError("<b>no</b>")
"""
PROGRAM = """
import sys, stealmesh
from browser_tasks import quick, stuck, fails
with stealmesh.Mesh(sys.argv[1]) as mesh:
    kept = mesh.options(name="<script>window.broken=1</script>").submit(stuck, 0)
    failing = [mesh.submit(fails, x) for x in range(200)]
    for _ in mesh.options(name="quick ones").map(quick, range(10**6), buffersize=2000):
        pass
"""
UNNAMED = """() => [...document.querySelectorAll("a, button, input, select, [role=img], canvas, table")].filter((each) => {
  if (each.parentElement.closest("[role=img]")) return false;
  const label = each.id && document.querySelector(`label[for="${each.id}"]`);
  const words = each.getAttribute("aria-label") || each.caption?.textContent || label?.textContent ||
    each.closest("label")?.textContent || each.textContent;
  return !words.trim();
}).map((each) => each.outerHTML.slice(0, 120))"""


@pytest.fixture
def browser() -> Iterator[Any]:
    where = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with playwright.sync_playwright() as driver:
        try:
            found = driver.chromium.launch(
                executable_path=where, args=["--no-sandbox"], timeout=0
            )  # however busy this machine is: the test has a limit of its own
        except playwright.Error as error:
            pytest.skip(
                f"no Chromium: apt install chromium, or playwright install chromium ({error})"
            )
        yield found
        found.close()


@pytest.fixture
def nodes(shell: Shell, key: Path) -> list[Command]:
    del key
    shell.patience = (
        PATIENCE_MS / 1000
    )  # eight interpreters start at once, maybe beside others' work
    shell.config.mkdir(exist_ok=True)
    (shell.config / "browser_tasks.py").write_text(TASKS)
    (shell.config / "program.py").write_text(PROGRAM)
    first = shell.node("--listen", "tcp://127.0.0.1:0", "--name", "n0", "--dashboard")
    seed = first.address()
    found = [first]
    for at in range(1, NODES):
        page = ["--dashboard"] if at == 1 else []
        found.append(shell.node("--seed", seed, "--name", f"n{at}", *page))
    for each in found:
        each.address()
    return found


class Visitor:
    """One window, with all that a browser complains of."""

    def __init__(self, browser: Any, base: str, width: int, scheme: str) -> None:
        self.base, self.width, self.scheme = base, width, scheme
        self.complaints = list[str]()
        height = 844 if width < 600 else 900
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        context.set_default_timeout(PATIENCE_MS)
        self.window = context.new_page()
        self.window.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.window.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.window.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(self.base):
            self.complaints.append(f"outside: {request.url}")

    def opens(self, view: str) -> None:
        self.window.goto(f"{self.base}#/{view}")
        current = self.window.locator("nav [aria-current=page]")
        current.wait_for()
        place = current.bounding_box()
        assert place["x"] >= 0, "the menu shows where one is"
        assert place["x"] + place["width"] <= self.width
        self.window.wait_for_selector("main :is(table, .tiles, canvas, form, p)")

    def sees(self, words: str) -> None:
        self.window.get_by_text(words).first.wait_for()

    def is_titled(self, words: str) -> None:
        """Asked from here: the policy of the page lets no text become a script there."""
        until(lambda: words in self.window.title(), words)

    def fits(self) -> None:
        assert self.window.evaluate("document.documentElement.scrollWidth") <= self.width

    def draws(self, name: str) -> None:
        directory = os.environ.get("STEALMESH_PICTURES")
        if directory:
            self.window.wait_for_timeout(3000)  # so that there is something in the picture
            file = Path(directory) / f"{name}-{self.width}-{self.scheme}.png"
            self.window.screenshot(path=str(file), full_page=True)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_every_view_shows_a_mesh_at_work_and_goes_on_at_another_node(
    shell: Shell, nodes: list[Command], browser: Any, width: int, scheme: str
) -> None:
    one, two = page_of(nodes[0]), page_of(nodes[1])
    seed = nodes[0].address()
    with_python = shell.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    program = Program(shell, seed, with_python)
    try:
        visitor = Visitor(browser, one, width, scheme)
        visitor.opens("mesh")
        visitor.sees(f"{NODES} alive")
        numbers_move(visitor)
        for view in VIEWS:
            visitor.opens(view)
            visitor.draws(view)
            visitor.fits()
            assert visitor.window.evaluate(UNNAMED) == [], view
        visitor.opens("jobs")
        visitor.sees("<script>window.broken=1</script>")
        visitor.sees("ValueError: <b>no</b>")
        visitor.opens("stream")
        visitor.sees("quick ones")
        what_failed_is_one_line(visitor)
        the_stuck_item_is_found(visitor)
        assert visitor.window.evaluate("window.broken") is None
        by_keyboard(visitor)
        assert visitor.complaints == []
        the_serving_node_is_killed(visitor, nodes[0], nodes[1], two)
    finally:
        program.end()
        nodes[1].process.send_signal(signal.SIGCONT)


class Program:
    """Gives the mesh something to do."""

    def __init__(self, shell: Shell, seed: str, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "program.py", seed], env=environment, cwd=shell.config,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def numbers_move(visitor: Visitor) -> None:
    done = "document.querySelectorAll('.tile dd')[2].textContent"
    before = visitor.window.evaluate(done)
    until(lambda: visitor.window.evaluate(done) != before, "numbers move")
    visitor.window.wait_for_selector("svg.ring .load")


def the_stuck_item_is_found(visitor: Visitor) -> None:
    """Two clicks: what runs longest, and its story."""
    visitor.opens("slow")
    window = visitor.window
    row = window.locator("tr", has_text="<script>").first
    row.locator("th a").click()
    visitor.sees("it runs on worker 0")
    visitor.sees("lock.acquire()  # for ever")
    visitor.fits()
    visitor.draws("story")


def what_failed_is_one_line(visitor: Visitor) -> None:
    """With how often, and one item to look at: two hundred calls fail in the same words."""
    row = visitor.window.locator("main tr", has_text="fails: ValueError: <b>no</b>")
    row.get_by_text(re.compile(r"^[\d,]{2,}\sitems$")).wait_for()
    assert row.count() == 1
    assert "#/look/" in row.locator("a", has_text="item").get_attribute("href")


def by_keyboard(visitor: Visitor) -> None:
    visitor.opens("mesh")
    window = visitor.window
    window.reload()  # the focus is where a visitor begins
    window.wait_for_selector("main table")
    for _ in range(4):  # the first link of the menu, then Jobs
        window.keyboard.press("Tab")
        if window.evaluate("document.activeElement.textContent") == "Jobs":
            break
    assert window.evaluate("document.activeElement.textContent") == "Jobs"
    window.keyboard.press("Enter")
    visitor.is_titled("Jobs")


def the_serving_node_is_killed(
    visitor: Visitor, node: Command, second: Command, other: str
) -> None:
    """While the node of the other page is too busy to answer: its page is known all the same."""
    visitor.opens("jobs")
    visitor.window.wait_for_selector("main table")
    second.process.send_signal(signal.SIGSTOP)
    visitor.sees(" answering")
    node.process.send_signal(signal.SIGKILL)
    second.process.send_signal(signal.SIGCONT)
    visitor.sees("The server of this page does not answer.")
    visitor.draws("killed")
    visitor.base = other
    visitor.window.locator(".banner a").first.click()
    visitor.is_titled("Jobs")
    visitor.sees("quick ones")
    visitor.opens("mesh")
    visitor.sees(f"{NODES - 1} alive")
