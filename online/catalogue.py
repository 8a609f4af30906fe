"""What the worker knows of items: their texts, within a byte bound, as the compacted items topic tells them.

A thread of its own fills it (``items_topic``); requests read it. The least recently asked item leaves first; of it
stays where its record lies, so that a request that misses it can have it read again.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.streams.events import CatalogueEvent, ItemChanged, ItemRemoved
from headrace.streams.score_cache import stamp_of

ENTRY_BYTES = 460
"""About what an entry costs beside its text on CPython 3.11: two strings' heads, a place, a stamp, an order."""
PLACE_BYTES = 250
"""The same of a place alone."""
TEXT_CHARACTERS = 256
"""So much of an item's title the student reads; more tokens than that hardly move a title's vector."""
FRESH = 65_536


class Place(NamedTuple):
    """Where a record lies in the items topic."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Text:
    """An item's text and its stamp: another text has another stamp, so a vector knows which text it was made of.

    The stamp is a hash of the text, the same in every process: a score in Redis knows it too.
    """

    text: str
    stamp: int
    place: Place | None = None


def student_text(event: ItemChanged) -> str:
    """What the student reads of an item: the title, else the beginning of the description."""
    text = event.title.strip() or event.description.strip()
    return text[:TEXT_CHARACTERS]


@dataclass(slots=True)
class Catalogue:
    """Item texts by id, at most so many bytes of them; safe to use from several threads.

    Attributes:
        limit_bytes: what texts and places may take; an eighth of it is for places alone.
        size_bytes: what texts take.
        evicted: texts that left because of the bound.
    """

    limit_bytes: int = 256 << 20
    size_bytes: int = field(default=0, init=False)
    evicted: int = field(default=0, init=False)
    _texts: "OrderedDict[str, Text]" = field(default_factory=OrderedDict, init=False)
    _gone: "OrderedDict[str, Place]" = field(default_factory=OrderedDict, init=False)
    _missed: dict[str, Place] = field(default_factory=dict, init=False)
    _fresh: "deque[str]" = field(default_factory=lambda: deque(maxlen=FRESH), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __len__(self) -> int:
        """How many items have a text."""
        return len(self._texts)

    def apply(self, events: Iterable[tuple[CatalogueEvent, Place | None]]) -> None:
        """Takes changes in their order, each with where its record lies."""
        with self._lock:
            for event, place in events:
                self._gone.pop(event.item_id, None)
                self._missed.pop(event.item_id, None)
                match event:
                    case ItemChanged():
                        self._put(event.item_id, student_text(event), place)
                    case ItemRemoved():
                        self._drop(event.item_id)

    def restore(self, event: CatalogueEvent, place: Place) -> None:
        """Takes a record that was read again, unless a newer one came meanwhile."""
        with self._lock:
            self._missed.pop(event.item_id, None)
            if self._gone.get(event.item_id) == place and isinstance(event, ItemChanged):
                del self._gone[event.item_id]
                self._put(event.item_id, student_text(event), place)

    def take_missed(self, limit: int) -> list[Place]:
        """Where the records lie of items that were asked for and have left, each told once."""
        with self._lock:
            items = list(self._missed)[:limit]
            return [self._missed.pop(item) for item in items]

    def texts(self, item_ids: Sequence[str]) -> list[Text | None]:
        """The texts of some items, None where there is none; what is asked for stays longest."""
        with self._lock:
            found = [self._texts.get(item_id) for item_id in item_ids]
            for item_id, text in zip(item_ids, found, strict=True):
                if text is not None:
                    self._texts.move_to_end(item_id)
                elif (place := self._gone.get(item_id)) is not None and len(self._missed) < FRESH:
                    self._missed[item_id] = place
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

    def _put(self, item_id: str, text: str, place: Place | None) -> None:
        before = self._texts.get(item_id)
        if before is not None and before.text == text:
            self._texts[item_id] = Text(text, before.stamp, place)
            return
        self._drop(item_id)
        self._texts[item_id] = Text(text, stamp_of(text), place)
        self.size_bytes += _cost(item_id, text)
        self._fresh.append(item_id)
        while self.size_bytes > self.limit_bytes - self.limit_bytes // 8 and self._texts:
            self._evict()

    def _evict(self) -> None:
        item_id = next(iter(self._texts))
        place = self._texts[item_id].place
        self._drop(item_id)
        self.evicted += 1
        if place is not None:
            self._gone[item_id] = place
            if len(self._gone) * PLACE_BYTES > self.limit_bytes // 8:
                self._gone.popitem(last=False)

    def _drop(self, item_id: str) -> None:
        before = self._texts.pop(item_id, None)
        if before is not None:
            self.size_bytes -= _cost(item_id, before.text)


def _cost(item_id: str, text: str) -> int:
    # CPython stores one, two or four bytes a character; ids are ASCII in practice, texts are counted at their widest.
    width = 1 if text.isascii() else 4
    return ENTRY_BYTES + len(item_id) + width * len(text)
