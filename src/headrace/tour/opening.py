"""Opens the shop of the tour: servers, products, the first bundle, the three processes, and a warm student."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from kafka import KafkaProducer

from headrace.local.child import StartFailed
from headrace.local.line import LocalLine
from headrace.models.feature_names import INDEX
from headrace.models.head import Head
from headrace.streams.events import ItemChanged, encode
from headrace.streams.topics import ITEMS
from headrace.tour.bundles import first_bundle
from headrace.tour.doors import Asked, TourDoors
from headrace.tour.flow import listed
from headrace.tour.shop import Shop
from headrace.tour.shoppers import ClickModel

HEADS: Final = 15
"""So many heads are learned on the way."""
POLL_MS: Final = 20
WARM_S: Final = 60.0


def open_line(
    line: LocalLine, shop: Shop, model: ClickModel, student: Path, doing: Callable[[str], None], head: Head
) -> str:
    """Starts everything; the version of the first bundle.

    Args:
        line: not started.
        shop: whose products the worker shall know.
        model: of the simulated shoppers.
        student: the folder of the student part.
        doing: told what happens.
        head: the first one.

    Raises:
        StartFailed: with the end of the log of what did not come up.
    """
    doing("making the first bundle")
    version = first_bundle(line.repository, student, head)
    line.start(lambda what: doing(f"starting {what}"))
    doing(f"writing {len(shop.products)} products")
    _send_products(line.bootstrap, shop, model.start_ms)
    line.start_verbs(verbs_of(line, model.searches), lambda what: doing(f"starting {what}"))
    return version


def verbs_of(line: LocalLine, searches: int) -> dict[str, Sequence[str]]:
    """The three processes with their flags, as anybody could start them by hand."""
    kafka = ("--bootstrap-servers", line.bootstrap)
    state = ("--redis-url", line.redis_url, "--namespace", line.namespace)
    models = ("--repository", str(line.repository))
    pace = ("--every-examples", str(max(10, searches // HEADS)), "--every-seconds", "0")
    return {
        "consume": (*kafka, *state),
        "serve": (*kafka, *state, *models, "--port", str(line.port("serve")), "--trust-now", "--poll-ms", str(POLL_MS)),
        "refresh": (
            *(*kafka, *models, *pace),
            *("--state", str(line.folder / "refresh"), "--port", str(line.port("refresh"))),
        ),
    }


def warm(doors: TourDoors, shop: Shop, texts: Sequence[str], at_ms: int) -> dict[str, dict[str, float]]:
    """What the student says of every candidate of these queries: text -> item -> score.

    Raises:
        StartFailed: the worker does not know all texts after a minute.
    """
    found = {}
    until_s = time.monotonic() + WARM_S
    for text in texts:
        asked = Asked(text, listed(shop, text), at_ms)
        while (said := doors.answer(asked))["student"] != "computed":
            if time.monotonic() > until_s:
                raise StartFailed(f"the worker's student is {said['student']} for {text!r}: see serve.log")
            time.sleep(0.05)
        column = doors.explained(asked).features[:, INDEX["student"]].tolist()
        found[text] = {item.item_id: score for item, score in zip(asked.items, column, strict=True)}
    return found


def _send_products(bootstrap: str, shop: Shop, at_ms: int) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    try:
        for item in shop.products:
            changed = ItemChanged(
                item.item_id, at_ms, item.title, item.description, dict(item.attributes), price=item.price
            )
            producer.send(ITEMS, key=item.item_id.encode(), value=encode(changed), timestamp_ms=at_ms)
        producer.flush(30)
    finally:
        producer.close()
