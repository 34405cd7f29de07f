"""A replica of an explore job: the account of one primary, up to one of its words, and never a mixture.

Decides what a KEEP adds here, and which of two accounts holds. Refuses to know who leads the job, and what
is in a bag.

Steps of an explore job follow from each other: a step uses up one bag and makes others, and only together
do they count. Copies that went on from the same bag on the two sides of a cut are both right, and their
union is wrong. So an account is never joined with another. It has a viewstamp, the word of the primary
after which it stands, and

* a word of a primary is joined only into the account that it follows (`since`), whole;
* the whole account comes in pages and takes the place of ours with the last of them, at once;
* of two accounts one that is over holds, and otherwise the later viewstamp.

Every account is right by itself. What is lost with one that gives way is work, and it is done again.

Invariant: results and bags here are one account: each number below `total` is in a result or in a bag.

Ideas: viewstamps and state transfer after Viewstamped Replication (Oki and Liskov).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from stealmesh_engine.base.blocks import Blocks
from stealmesh_engine.base.intervals import IntervalSet
from stealmesh_engine.durable.replica import Added, Replica
from stealmesh_protocol.accounts import NO_WORD, BagAccount
from stealmesh_protocol.messages import (
    Block,
    JobKind,
    JobLine,
    JobSpec,
    Keep,
    Kept,
    Offer,
    Part,
    Reign,
)


def replica_of(spec: JobSpec, configuration: Reign) -> Replica:
    """An empty replica of the right kind."""
    kind = BagReplica if spec.kind is JobKind.EXPLORE else Replica
    return kind(spec, configuration)


class BagReplica(Replica):
    """One explore job, as far as this node knows."""

    def __init__(self, spec: JobSpec, configuration: Reign) -> None:
        super().__init__(spec, configuration)
        self.at = NO_WORD
        """The word after which this account stands."""
        self.visited = 0
        self._is_behind = False
        """There is more than we have, and we have nothing."""
        self._coming = NO_WORD
        self._pages: list[Keep] = []
        """Of this account, which is on its way."""

    # ------------------------------------------------------------ joining

    def join(self, keep: Keep) -> Added:
        account = keep.account
        if account is None:
            return super().join(keep)  # its function, the roots, or its end
        if account.since is None:
            return self._page(keep, account)
        if account.since != self.at:
            added = super().join(_without_account(keep))
            self._is_behind |= self.at == NO_WORD
            return added
        added = super().join(keep)
        if account.at != self.at:
            self.at, self.visited = account.at, account.visited
        return added

    def step(self, made: list[tuple[Block, bytes]], part: Part, blob: bytes, visited: int) -> Added:
        """A step of the account that we lead: what it made, and the result of the bag that it used up."""
        self.visited += visited
        blocks = [block for block, _ in made]
        blobs = [*(items for _, items in made), blob]
        kept = [Kept(part.lo, part.hi, part)]
        return super().join(
            Keep(self.spec, self.configuration, blocks=blocks, results=kept, blobs=blobs)
        )

    def add_block(self, block: Block, blob: bytes) -> bool:
        added = super().add_block(block, blob)
        self._is_behind &= not added
        return added

    def stamp(self, keep: Keep) -> None:
        """This word of ours, the primary's, makes news known: the account stands after it from now on."""
        if keep.blocks or keep.results:
            self.at = (keep.reign.term, keep.reign.primary, keep.number)
            assert keep.account is not None
            keep.account = replace(self.account(), since=keep.account.since)

    def takes(self, keep: Keep) -> bool:
        """Is this, which another replica sends us, later than what we have?"""
        return keep.account is None or keep.account.rank > self.rank

    def _page(self, keep: Keep, account: BagAccount) -> Added:
        """A page of a whole account. With the last one it takes the place of ours."""
        added = super().join(_without_account(keep))
        if account.page == 0 or account.at != self._coming:
            self._pages, self._coming = [], account.at
        if account.page != len(self._pages):
            self._pages = []  # some of it is lost: the rest is of no use
            return added
        self._pages.append(keep)
        if not account.whole:
            self._is_behind |= self.at == NO_WORD
            return added
        pages, self._pages = self._pages, []
        if self.state or (self.is_over and not account.over):
            return added
        self._clear()
        for page in pages:
            super().join(_without_functions(page))
        self.at, self.visited = account.at, account.visited
        added.replaced = True
        return added

    def _clear(self) -> None:
        for _, blob in (*self.blocks, *self._results.values()):
            self.octets -= len(blob)
        self.blocks = Blocks()
        self.covered = IntervalSet()
        self._results.clear()
        self._lows.clear()
        self.total = self.failed = self.floor = 0
        self.closed = self._is_behind = False
        self.lost = []

    def count_items(self) -> bool:
        """Never: how many there are is not known before the end."""
        return False

    def extend(self, total: int) -> bool:
        """A client says how many roots it gave, which says nothing of the account."""
        return False

    # ------------------------------------------------------------ reading

    @property
    def is_over(self) -> bool:
        return self.complete and self.at != NO_WORD

    @property
    def rank(self) -> tuple[bool, tuple[int, bytes, int]]:
        return self.account().rank

    @property
    def unbacked(self) -> list[tuple[int, int]]:
        """Bags that are neither here nor used up. A number stands for all of it if nothing is here yet."""
        return [(0, 1)] if self._is_behind and not self.state else super().unbacked

    def line(self) -> JobLine:
        free = sum(block.hi - block.lo for block, _ in self.blocks)
        return replace(super().line(), total=self.visited + free, done=self.visited, free=free)

    # ------------------------------------------------------------ telling others

    def header(self, number: int = 0) -> Keep:
        keep = super().header(number)
        keep.account = replace(self.account(), since=self.at)
        return keep

    def pages(
        self,
        results: list[tuple[int, int]] | None = None,
        blocks: list[tuple[int, int]] | None = None,
        *,
        functions: bool = True,
    ) -> Iterator[Keep]:
        """The account as messages: whole, unless only functions are wanted."""
        if results is not None and not (results or blocks):
            if functions:
                yield next(super().pages([], []))
            return
        pages = list(super().pages(functions=functions))
        for number, page in enumerate(pages):
            whole = number == len(pages) - 1
            page.account = replace(self.account(), page=number, whole=whole)
            yield page

    def offers(self, store: bytes) -> list[Offer]:
        offers = super().offers(store)
        for offer in offers:
            offer.account = self.account()
        return offers

    def told_by(self, offer: Offer) -> Keep:
        return Keep(self.spec, self.configuration, state=offer.state)

    def lacks(
        self, covered: IntervalSet, inputs: IntervalSet, account: BagAccount | None = None
    ) -> tuple[list[tuple[int, int]], ...]:
        """All of an account that is later than ours, and nothing of another."""
        if account is None or account.rank <= self.rank:
            return [], []
        return list(covered) or [(0, 1)], list(inputs)

    def account(self) -> BagAccount:
        return BagAccount(self.at, visited=self.visited, over=self.is_over)


def _without_account(keep: Keep) -> Keep:
    """What of this holds for any account: the functions, and the job's end."""
    extra = keep.blobs[len(keep.blocks) + len(keep.results) :]
    return Keep(keep.spec, keep.reign, state=keep.state, blobs=extra)


def _without_functions(keep: Keep) -> Keep:
    """The same without functions, which are here already."""
    count = len(keep.blocks) + len(keep.results)
    return replace(keep, blobs=keep.blobs[:count])
