"""What was shown and what followed: examples to learn from, in event time.

A *search* here is all that names one (``client_id``, ``query_id``): the lists that were served (feature log), the
impressions and the touches (events). The topics are read side by side, so its records may come in any order.

A list matures ``click_ms`` after it was served. What it teaches is a function of the search's records up to that time:

- an impression belongs to the last list served at or before it that holds all its items, else to the first that does;
- a touch belongs where the last impression of its item at or before it belongs, else the first one; of an item that no
  impression names, to a list that holds it, by the same rule (a click implies its exposure);
- the rows of an example are the items shown, in the order of the list; a list that was never shown teaches nothing.

So far only the click is a label to learn from; carts and purchases of the same window come along, and what comes after
it is a `Correction`: it names the example, not its features.

Shapes: R rows of an example, F features.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace import BadEvent
from headrace.streams.feature_log import Served

Action = Literal["click", "cart", "purchase"]
BITS: Final[dict[Action, int]] = {"click": 1, "cart": 2, "purchase": 4}
CODEC: Final = b"\x01"


class Windows(msgspec.Struct, frozen=True):
    """How long after a list was served an action still counts for it."""

    click_ms: int = 30 * 60_000
    cart_ms: int = 24 * 3_600_000
    purchase_ms: int = 7 * 24 * 3_600_000

    def of(self, action: Action) -> int:
        """The window of this action, milliseconds."""
        return {"click": self.click_ms, "cart": self.cart_ms, "purchase": self.purchase_ms}[action]


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """An impression of a search: ``items [n]`` at ``positions [n]``, counted from 1, 0 = not said."""

    at_ms: int
    items: tuple[str, ...]
    positions: tuple[int, ...]


class Touched(msgspec.Struct, frozen=True, array_like=True):
    """A click, cart or purchase of a search; position 0 = not said."""

    at_ms: int
    action: Action
    item_id: str
    position: int


class Example(msgspec.Struct, frozen=True, array_like=True, tag="example"):
    """A list as it was served, joined with what followed.

    Attributes:
        id: 32 hexadecimal digits made of shopper, search and request: the same example always has the same.
        request_id: as it was served.
        client_id: as it was served.
        query_id: as it was served.
        at_ms: when it was served.
        matures_ms: when its click window closed.
        version: bundle that scored it.
        arm: arm of the rollout, "" without one.
        names: digest of the names of the features.
        items: the R items that were shown, in the order of the list.
        ranks: their places in the list, 0 = first.
        positions: where they were shown first, 1 = top, 0 = not said.
        matrix: their logged features, float16 [R, F].
        labels: one byte a row: 1 clicked, 2 put into the cart, 4 bought, added up.
    """

    id: str
    request_id: str
    client_id: str
    query_id: str
    at_ms: int
    matures_ms: int
    version: str
    arm: str
    names: int
    items: tuple[str, ...]
    ranks: tuple[int, ...]
    positions: tuple[int, ...]
    matrix: bytes
    labels: bytes


class Correction(msgspec.Struct, frozen=True, array_like=True, tag="correction"):
    """An action that came too late to be in its example.

    Whoever applies it adds the label to the row of the item, if the example has one; applying it twice changes nothing.

    Attributes:
        example_id: which example.
        action: what happened.
        item_id: to which item.
        at_ms: when.
        in_window: whether the action's own window was still open, so it is a label that counts.
    """

    example_id: str
    action: Action
    item_id: str
    at_ms: int
    in_window: bool


Label = Example | Correction
_DECODER: Final = msgspec.msgpack.Decoder(Label)


def encode(label: Label) -> bytes:
    """A record of ``search.labels.v1``: the codec byte and a msgpack array; its key is the example's id."""
    return CODEC + msgspec.msgpack.encode(label)


def decode(value: bytes | None, record_bytes: int = 1_000_000) -> Label:
    """The label that a record of ``search.labels.v1`` holds.

    Raises:
        BadEvent: it is none.
    """
    if not value or value[:1] != CODEC or len(value) > record_bytes:
        raise BadEvent("", "not_a_label")
    try:
        label: Label = _DECODER.decode(memoryview(value)[1:])
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise BadEvent("", "not_a_label", str(fault)[:200]) from None
    return label


def example_id(client_id: str, query_id: str, request_id: str) -> str:
    """The name of the example that this request becomes."""
    text = "\x1f".join((client_id, query_id, request_id))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def features_of(example: Example) -> NDArray[np.float32]:
    """The features as they were served, float32 [R, F]."""
    return np.frombuffer(example.matrix, "<f2").reshape(len(example.items), -1).astype(np.float32)


def clicked_of(example: Example) -> NDArray[np.bool_]:
    """Which rows were clicked, bool [R]."""
    return (np.frombuffer(example.labels, "u1") & BITS["click"]).astype(bool)


class Attribution:
    """Which list of a search each impression and each touch belongs to, by the rules at the top of this module.

    Args:
        lists: what was served in this search.
        shows: its impressions.
        until_ms: nothing later is looked at, so what is read ahead of time changes no answer.
    """

    def __init__(self, lists: Iterable[Served], shows: Iterable[Shown], until_ms: int) -> None:
        lists = (one for one in lists if one.at_ms <= until_ms)
        shows = (one for one in shows if one.at_ms <= until_ms)
        self._lists = sorted(lists, key=lambda one: (one.at_ms, one.request_id))
        self._holds = [frozenset(one.items) for one in self._lists]
        self._shows = sorted(shows, key=lambda one: (one.at_ms, one.items, one.positions))
        self._owners = [self._list_with(show.items, show.at_ms) for show in self._shows]

    def of_touch(self, touch: Touched) -> Served | None:
        """The list a touch belongs to, if there is one."""
        with_item = [at for at, show in enumerate(self._shows) if touch.item_id in show.items]
        if not with_item:
            return self._list_with((touch.item_id,), touch.at_ms)
        before = [at for at in with_item if self._shows[at].at_ms <= touch.at_ms]
        return self._owners[before[-1] if before else with_item[0]]

    def shows_of(self, served: Served) -> list[Shown]:
        """The impressions that belong to a list, in the order of time."""
        return [
            show
            for show, owner in zip(self._shows, self._owners, strict=True)
            if owner is not None and owner.request_id == served.request_id
        ]

    def homeless(self) -> int:
        """How many impressions name items that no single list holds."""
        return sum(owner is None for owner in self._owners)

    def _list_with(self, items: Sequence[str], at_ms: int) -> Served | None:
        holding = [at for at, held in enumerate(self._holds) if held.issuperset(items)]
        before = [at for at in holding if self._lists[at].at_ms <= at_ms]
        if before:
            return self._lists[before[-1]]
        return self._lists[holding[0]] if holding else None


def example_of(
    served: Served, attribution: Attribution, touches: Iterable[Touched], windows: Windows
) -> tuple[Example, tuple[Touched, ...]] | None:
    """What a matured list teaches and the touches that are its labels, or None when it was not shown in its window.

    Args:
        served: the list.
        attribution: of its search, until the list's window closed.
        touches: touches of the search.
        windows: how long actions count.
    """
    closes_ms = served.at_ms + windows.click_ms
    positions: dict[str, int] = {}
    for show in attribution.shows_of(served):
        for item, position in zip(show.items, show.positions, strict=True):
            positions.setdefault(item, position)
    if not positions:
        return None
    labels: Counter[str] = Counter()
    used: list[Touched] = []
    for touch in sorted(touches, key=lambda one: (one.at_ms, one.action, one.item_id, one.position)):
        owner = attribution.of_touch(touch) if touch.at_ms <= closes_ms else None
        if owner is not None and owner.request_id == served.request_id:
            used.append(touch)
            labels[touch.item_id] |= BITS[touch.action]
            positions.setdefault(touch.item_id, touch.position)
    ranks = [rank for rank, item in enumerate(served.items) if item in positions]
    items = tuple(served.items[rank] for rank in ranks)
    matrix = np.frombuffer(served.matrix, "<f2").reshape(len(served.items), -1)
    example = Example(
        id=example_id(served.client_id, served.query_id, served.request_id),
        request_id=served.request_id,
        client_id=served.client_id,
        query_id=served.query_id,
        at_ms=served.at_ms,
        matures_ms=closes_ms,
        version=served.version,
        arm=served.arm,
        names=served.names,
        items=items,
        ranks=tuple(ranks),
        positions=tuple(positions[item] for item in items),
        matrix=matrix[ranks].tobytes(),
        labels=bytes(labels[item] for item in items),
    )
    return example, tuple(used)
