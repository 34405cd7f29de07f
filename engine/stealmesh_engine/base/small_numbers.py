"""Small numbers by item, for many items that lie close together: four octets each, where a dictionary takes fifty.

Decides nothing. Knows pages of numbers; a page without any goes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

PAGE = 128
"""Items of a page. More: one item far from all others costs more; fewer: the page itself counts."""


class SmallNumbers:
    """A number above zero for some items, zero for all others."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        """Each has one place more, for how many of its numbers are not zero."""

    def __getitem__(self, item: int) -> int:
        page = self._pages.get(item // PAGE)
        return 0 if page is None else page[item % PAGE]

    def __contains__(self, item: int) -> bool:
        return self[item] > 0

    def __iter__(self) -> Iterator[int]:
        """The items with a number, in the order of the pages."""
        for number, page in self._pages.items():
            for at in range(PAGE):
                if page[at]:
                    yield number * PAGE + at

    def __setitem__(self, item: int, count: int) -> None:
        page = self._pages.get(item // PAGE)
        if page is None:
            if not count:
                return
            page = self._pages[item // PAGE] = array("I", bytes(4 * (PAGE + 1)))
        at = item % PAGE
        page[PAGE] += (count > 0) - (page[at] > 0)
        page[at] = count
        if not page[PAGE]:
            del self._pages[item // PAGE]

    def __bool__(self) -> bool:
        return bool(self._pages)
