"""Plays the tour on a line: its acts one after the other, each shown as soon as it is over."""

import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from headrace.local.doors import Refused
from headrace.local.line import LocalLine
from headrace.local.replay import EventLog
from headrace.models.feature_names import INDEX
from headrace.streams.events import View
from headrace.streams.identity import DAY_MS
from headrace.streams.inspection import query_facts
from headrace.streams.neighbours import NeighbourRule
from headrace.streams.topics import EVENTS
from headrace.tour import faults, screen
from headrace.tour.acts import Events, Ranked, Tour, Why, moved
from headrace.tour.bundles import read_head
from headrace.tour.doors import TourDoors
from headrace.tour.first_head import first_head
from headrace.tour.flow import Flow, listed
from headrace.tour.opening import open_line, warm
from headrace.tour.playing import Playing, Stage
from headrace.tour.quality import quality
from headrace.tour.shop import Shop
from headrace.tour.shoppers import ClickModel, Shoppers
from headrace.tour.texts import Scores, cosines, judged, shipped

FIRST_PART: Final = 0.4
"""Share of the searches before the second list."""
KILL_AT: Final = 0.6
"""Share of the searches before the consumer is killed."""
PROBES: Final = 15
PROBE_S: Final = 30.0


def play(line: LocalLine, shop: Shop, model: ClickModel, seed: int, encoder: Path, stage: Stage) -> Tour:
    """The whole tour; the line is started here, and stopped by whoever made it.

    Args:
        line: not started.
        shop: of the tour.
        model: of the simulated shoppers.
        seed: of all that is drawn.
        encoder: the folder of the bi-encoder's part, to compare with.
        stage: shows it.

    Raises:
        StartFailed: something did not come up.
        Refused: something did not do what it must within its time.
    """
    shoppers = Shoppers(shop, model, seed)
    began_s = time.monotonic()
    first = open_line(line, shop, model, shipped(), stage.doing, first_head())
    with ExitStack() as ending:
        doors = ending.enter_context(closing(TourDoors(line.serve_url, line.refresh_url)))
        stage.doing("reading item texts, scoring them")
        texts = [query.text for query in shoppers.queries]
        student = warm(doors, shop, texts, model.start_ms)
        log = ending.enter_context(closing(EventLog(line.bootstrap, EVENTS, line.redis_url, line.namespace)))
        flow = Flow(shop, shoppers, log, doors, student)
        playing = Playing(line, shop, shoppers, log, doors, flow, stage, shown_query(shoppers))
        stage.show(screen.opened(shop, model, time.monotonic() - began_s))
        by_cosine = cosines(encoder, shop, texts)
        return _acts(playing, first, by_cosine)


def _acts(playing: Playing, first: str, by_cosine: Scores) -> Tour:
    stage, model, flow = playing.stage, playing.shoppers.model, playing.flow
    before = playing.ask()
    both = {"distilled student": flow.student, "the encoder it began as, cosine": by_cosine}
    means = {name: judged(playing.shop, scores) for name, scores in both.items()}
    rows = {name: scores[playing.text] for name, scores in both.items()}
    stage.show(screen.first_list(playing.text, rows, means, playing.shop))
    playing.flow_until(round(FIRST_PART * model.searches), "events flow")
    events = _events(playing, before, first)
    stage.show(screen.second_list(playing.text, events, playing.shop))
    playing.flow_until(round(KILL_AT * model.searches), "events flow")
    killed = faults.kill_consumer(playing)
    playing.flow_until(model.searches, "events flow")
    flow.finish()
    killed = faults.compare(playing, killed)
    stage.show(screen.killed(killed))
    refused = faults.refuse_flipped(playing)
    stage.show(screen.refused(refused))
    swaps = faults.swap(playing)
    stage.show(screen.swapped(swaps))
    stage.doing("bootstrap over simulated shoppers")
    found = quality(flow.fold, model.searches // 2)
    return Tour(events, killed, refused, swaps, found, _heads(flow, first))


def shown_query(shoppers: Shoppers) -> str:
    """The query to show: one with many judged products that the simulated shoppers will ask often."""
    asked = Counter(shoppers.search(number).text for number in range(shoppers.model.searches))
    return max(shoppers.queries, key=lambda query: asked[query.text] * len(query.grades)).text


def _events(playing: Playing, before: Ranked, first: str) -> Events:
    """The second act: the same list again, what moved in it, and how fast an event reaches a score."""
    playing.log.settle(wait=True)
    playing.until(playing.seen, "the state takes in what was sent", "consume.log")
    after = playing.ask()
    found = moved(before, after, read_head(playing.line.repository, after.version))
    why = _why(playing, found.item) if found is not None else Why(0, 0)
    fresh = tuple(_probe(playing, number) for number in range(PROBES))
    return Events(after, found, why, playing.flow.done, _heads(playing.flow, first), fresh)


def _why(playing: Playing, item: str) -> Why:
    """What the state has counted of an item for the query that is shown."""
    log, day = playing.log, playing.now_ms // DAY_MS
    facts = query_facts(log.wire, log.keys, playing.text, day, replace(NeighbourRule(), window_days=30))
    for edge in facts["edges"]:
        if edge["name"] == item:
            return Why(int(edge["exposures"]), int(edge["clicks"]))
    return Why(0, 0)


def _probe(playing: Playing, number: int) -> float:
    """Milliseconds from sending a shopper's event to the end of the first answer that knew of it."""
    playing.stage.doing(f"timing events: {number + 1} of {PROBES}")
    client_id, items = f"simulated-probe-{number}", listed(playing.shop, playing.text)
    place = number % len(items)
    sent_s = time.monotonic()
    playing.log.send([View(f"probe-{number}", client_id, "", playing.now_ms, items[place].item_id)])
    while time.monotonic() - sent_s < PROBE_S:
        if playing.ask(client_id).features[place, INDEX["touched_last"]]:
            return (time.monotonic() - sent_s) * 1000
    raise Refused(f"no score knew of an event after {PROBE_S:.0f} s: see consume.log")


def _heads(flow: Flow, first: str) -> int:
    """How many learned heads have served a list."""
    return len(set(flow.fold.versions) - {first})
