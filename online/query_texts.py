"""Texts of queries by hash, in memory within a byte bound: what a student reads of the queries that led to an item.

The state keeps queries by hash; a text is read from it once, behind the requests. Which text a hash stands for never
changes, whatever generation it was read from. Belongs to the event loop's thread.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace import StoreUnavailable

LIMIT_BYTES: Final = 16 << 20
ENTRY_BYTES: Final = 200
"""About what an entry costs beside its characters on CPython 3.11: a hash, a string's head, a place in the order."""
AT_ONCE: Final = 1_000
"""So many are read with one command."""
WANTED: Final = 10_000
"""So many may wait to be read; the others are left to the next request that misses them."""
READ_S: Final = 1.0
RESULTS: Final = ("read", "absent", "failed")
"""What becomes of a text that is wanted: it came, the state has none, the state is away or late."""

ReadTexts = Callable[[Sequence[int]], Awaitable[Sequence[bytes | None]]]


async def read_nothing(names: Sequence[int]) -> Sequence[bytes | None]:
    """Knows no text."""
    return [None] * len(names)


@dataclass(slots=True)
class QueryTexts:
    """Texts by hash; the one used least recently leaves first.

    Attributes:
        read: the texts of some hashes, None for an unknown one; raises StoreUnavailable.
        count: told one of ``RESULTS`` and of how many.
        limit_bytes: about what they may take.
        size_bytes: about what they take.
    """

    read: ReadTexts = read_nothing
    count: Callable[[str, int], None] = lambda result, names: None
    limit_bytes: int = LIMIT_BYTES
    size_bytes: int = field(default=0, init=False)
    _texts: "OrderedDict[int, str]" = field(default_factory=OrderedDict, init=False)
    _wanted: dict[int, None] = field(default_factory=dict, init=False)
    _filling: "asyncio.Task[None] | None" = field(default=None, init=False)

    def __len__(self) -> int:
        """How many texts it holds."""
        return len(self._texts)

    def of(self, names: Iterable[int]) -> dict[int, str]:
        """The texts that are known; the others are read behind the request that asks, for the next one."""
        found: dict[int, str] = {}
        for name in names:
            text = self._texts.get(name)
            if text is not None:
                self._texts.move_to_end(name)
                found[name] = text
            elif len(self._wanted) < WANTED:
                self._wanted[name] = None
        if self._wanted and (self._filling is None or self._filling.done()):
            self._filling = asyncio.get_running_loop().create_task(self._fill())
        return found

    async def _fill(self) -> None:
        while self._wanted:
            names = list(self._wanted)[:AT_ONCE]
            try:
                async with asyncio.timeout(READ_S):
                    values = await self.read(names)
            except (StoreUnavailable, TimeoutError):
                self.count("failed", len(self._wanted))
                self._wanted.clear()
                return
            known = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
            for name in names:
                self._wanted.pop(name, None)
            for name, value in known:
                self._put(name, value.decode("utf-8", "replace"))
            self.count("read", len(known))
            self.count("absent", len(names) - len(known))

    def _put(self, name: int, text: str) -> None:
        if name not in self._texts:
            self._texts[name] = text
            self.size_bytes += _cost(text)
        while self.size_bytes > self.limit_bytes and self._texts:
            self.size_bytes -= _cost(self._texts.popitem(last=False)[1])


def _cost(text: str) -> int:
    # CPython stores one, two or four bytes a character; counted at the widest, as the catalogue does.
    return ENTRY_BYTES + (1 if text.isascii() else 4) * len(text)
