"""The worker and the learner of the tour, asked over HTTP."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import numpy as np

from headrace.local.replay import Refused
from headrace.models.feature_names import FEATURES
from headrace.tour.acts import Ranked
from headrace.tour.shop import Product

WAIT_S = 60.0


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


class Doors:
    """Asks, and refuses what no shopper could be shown."""

    def __init__(self, serve_url: str, refresh_url: str) -> None:
        self._http = httpx.Client(timeout=WAIT_S, headers={"content-type": "application/json"})
        self._serve_url, self._status_url = serve_url, f"{refresh_url}/status"

    def answer(self, asked: Asked, explain: bool = False) -> Any:
        """The answer to a request, with scores for all items.

        Raises:
            Refused: the worker did not answer, or not all of it.
        """
        answer = self._http.post(f"{self._serve_url}/v1/rank", content=asked.body(explain))
        if answer.status_code != 200:
            raise Refused(f"the worker answered {answer.status_code}: {answer.text[:300]}; see serve.log")
        said = msgspec.json.decode(answer.content)
        if None in said["scores"]:
            raise Refused(f"the worker scored only a part of a list: {said['degraded']}; see serve.log")
        return said

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

    def ready(self) -> Mapping[str, Any]:
        """What the worker says of itself."""
        found: Mapping[str, Any] = self._http.get(f"{self._serve_url}/readyz").json()
        return found

    def wait_for_model(self, version: str) -> None:
        """Returns when the worker serves a version.

        Raises:
            Refused: it does not, after a minute.
        """
        until_s = time.monotonic() + WAIT_S
        while (model := self.ready()["model"]) != version:
            if time.monotonic() > until_s:
                raise Refused(f"the worker serves {model}, not {version}: see serve.log")
            time.sleep(0.01)

    def status(self) -> Mapping[str, Any]:
        """What the learner says of itself."""
        found: Mapping[str, Any] = self._http.get(self._status_url).json()
        return found

    def wait_for_learner(self, ends: Mapping[str, int]) -> Mapping[str, Any]:
        """The learner's status once it has read "topic/partition" up to these offsets.

        Raises:
            Refused: it does not, after a minute.
        """
        until = ",".join(f"{source}:{offset}" for source, offset in ends.items())
        answer = self._http.get(self._status_url, params={"until": until, "timeout_ms": 50_000})
        if answer.status_code != 200:
            raise Refused(f"the learner did not read up to {until}: see refresh.log ({answer.text[:200]})")
        found: Mapping[str, Any] = answer.json()
        return found

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()
