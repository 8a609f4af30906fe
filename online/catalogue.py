"""What the worker knows of items: their texts, within a byte bound, as the compacted items topic tells them.

A thread of its own fills it (``items_topic``); requests read it. The least recently asked item leaves first.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headrace.streams.events import CatalogueEvent, ItemChanged, ItemRemoved

ENTRY_BYTES = 260
"""About what an entry costs beside its text on CPython 3.11: two strings' heads, a stamp, a place in the order."""
TEXT_CHARACTERS = 256
"""So much of an item's title the student reads; more tokens than that hardly move a title's vector."""
FRESH = 65_536


@dataclass(frozen=True, slots=True)
class Text:
    """An item's text and its stamp: another text has another stamp, so a vector knows which text it was made of."""

    text: str
    stamp: int


def student_text(event: ItemChanged) -> str:
    """What the student reads of an item: the title, else the beginning of the description."""
    text = event.title.strip() or event.description.strip()
    return text[:TEXT_CHARACTERS]


@dataclass(slots=True)
class Catalogue:
    """Item texts by id, at most so many bytes of them; safe to use from several threads.

    Attributes:
        limit_bytes: what texts and their places may take.
        size_bytes: what they take.
        evicted: texts that left because of the bound.
    """

    limit_bytes: int = 256 << 20
    size_bytes: int = field(default=0, init=False)
    evicted: int = field(default=0, init=False)
    _texts: "OrderedDict[str, Text]" = field(default_factory=OrderedDict, init=False)
    _fresh: "deque[str]" = field(default_factory=lambda: deque(maxlen=FRESH), init=False)
    _stamp: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __len__(self) -> int:
        """How many items have a text."""
        return len(self._texts)

    def apply(self, events: Iterable[CatalogueEvent]) -> None:
        """Takes changes in their order."""
        with self._lock:
            for event in events:
                match event:
                    case ItemChanged():
                        self._put(event.item_id, student_text(event))
                    case ItemRemoved():
                        self._drop(event.item_id)

    def texts(self, item_ids: Sequence[str]) -> list[Text | None]:
        """The texts of some items, None where there is none; what is asked for stays longest."""
        with self._lock:
            found = [self._texts.get(item_id) for item_id in item_ids]
            for item_id, text in zip(item_ids, found, strict=True):
                if text is not None:
                    self._texts.move_to_end(item_id)
        return found

    def recent(self, limit: int) -> list[tuple[str, Text]]:
        """The items asked for or changed last, newest first."""
        with self._lock:
            found: list[tuple[str, Text]] = []
            for item_id in reversed(self._texts):
                if len(found) >= limit:
                    break
                found.append((item_id, self._texts[item_id]))
        return found

    def take_fresh(self, limit: int) -> list[tuple[str, Text]]:
        """Items whose text is new since they were last taken, oldest first; under a flood the oldest are forgotten."""
        with self._lock:
            found: list[tuple[str, Text]] = []
            while self._fresh and len(found) < limit:
                item_id = self._fresh.popleft()
                text = self._texts.get(item_id)
                if text is not None:
                    found.append((item_id, text))
        return found

    def renew(self) -> None:
        """Every text counts as new, those asked for last first: another student has to read them all."""
        with self._lock:
            self._fresh.clear()
            self._fresh.extend(list(reversed(self._texts))[:FRESH])

    def _put(self, item_id: str, text: str) -> None:
        before = self._texts.get(item_id)
        if before is not None and before.text == text:
            return
        self._drop(item_id)
        self._stamp += 1
        self._texts[item_id] = Text(text, self._stamp)
        self.size_bytes += _cost(item_id, text)
        self._fresh.append(item_id)
        while self.size_bytes > self.limit_bytes and self._texts:
            self._drop(next(iter(self._texts)))
            self.evicted += 1

    def _drop(self, item_id: str) -> None:
        before = self._texts.pop(item_id, None)
        if before is not None:
            self.size_bytes -= _cost(item_id, before.text)


def _cost(item_id: str, text: str) -> int:
    # CPython stores one, two or four bytes a character; ids are ASCII in practice, texts are counted at their widest.
    width = 1 if text.isascii() else 4
    return ENTRY_BYTES + len(item_id) + width * len(text)
