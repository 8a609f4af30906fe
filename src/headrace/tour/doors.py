"""The worker and the learner of the tour, asked over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from headrace.local.doors import Doors
from headrace.models.feature_names import FEATURES
from headrace.tour.acts import Ranked
from headrace.tour.shop import Product


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a simulated shopper.

    Attributes:
        text: as the shopper typed it.
        items: the candidates, in the order of the first stage.
        now_ms: event time.
        client_id: None: a visitor of whom nothing is known.
        query_id: None: nothing is logged, so nothing is learned from it.
    """

    text: str
    items: Sequence[Product]
    now_ms: int
    client_id: str | None = None
    query_id: str | None = None

    def body(self, explain: bool = False) -> bytes:
        """The body of ``POST /v1/rank``."""
        who = {"client_id": self.client_id, "query_id": self.query_id}
        return msgspec.json.encode(
            {
                "query": self.text,
                "items": [{"id": item.item_id, "price": item.price} for item in self.items],
                "now_ms": self.now_ms,
                "explain": explain,
            }
            | {name: value for name, value in who.items() if value is not None}
        )


class TourDoors(Doors):
    """Asks for lists as a simulated shopper does."""

    def answer(self, asked: Asked, explain: bool = False) -> Any:
        """The answer to a request, with scores for all items.

        Raises:
            Refused: the worker did not answer, or not all of it.
        """
        return self.scored(asked.body(explain))

    def explained(self, asked: Asked) -> Ranked:
        """The answer with what the head saw."""
        said = self.answer(asked, explain=True)
        rows = [[item["features"][name] for name in FEATURES] for item in said["items"]]
        return Ranked(
            tuple(item.item_id for item in asked.items),
            tuple(said["scores"]),
            tuple(said["order"]),
            np.array(rows, dtype=np.float32),
            said["model"]["version"],
        )
