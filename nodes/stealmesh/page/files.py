"""What the browser loads once: the page, its scripts, and two libraries that lie beside them.

Decides which files there are. The list is read when the server starts, so a request can never name a file of the disk. Refuses to know what is in them.
"""

from __future__ import annotations

from importlib.resources import files

_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
NAMES = (
    "index.html", "page.css", "page.js", "views.js", "details.js", "drawing.js", "words.js",
    "icon.svg", "vendor/uPlot.js", "vendor/uPlot.css", "vendor/htm-preact.js",
)  # fmt: skip


def load() -> dict[str, tuple[str, bytes]]:
    """Path → type and octets."""
    static = files("stealmesh.page") / "static"
    found = {
        f"/{name}": (_KINDS[name.rpartition(".")[2]], static.joinpath(name).read_bytes())
        for name in NAMES
    }
    found["/"] = found["/index.html"]
    return found
