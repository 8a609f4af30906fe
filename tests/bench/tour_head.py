"""Makes the head that the tour begins with: `python tests/bench/tour_head.py [--searches 6000 --seed 101] [--write]`.

Simulated shoppers search for the queries that the tour does not show, on a whole local line; the head that was learned
at the end is printed, and with --write it becomes the one that ships. The seed is none of those that CI plays.
"""

import argparse
import logging
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec

from headrace.commands.terminal import Terminal
from headrace.local.broker.process import LocalBroker
from headrace.local.kafka import LocalKafka
from headrace.local.line import Broker, LocalLine
from headrace.local.replay import EventLog
from headrace.models.head import Head
from headrace.streams.topics import EVENTS
from headrace.tour import faults, first_head
from headrace.tour.bundles import read_head
from headrace.tour.doors import TourDoors
from headrace.tour.flow import Flow
from headrace.tour.opening import open_line, warm
from headrace.tour.playing import Playing
from headrace.tour.quality import NAMES, quality
from headrace.tour.shop import load
from headrace.tour.shoppers import ClickModel, Shoppers
from headrace.tour.texts import shipped

ROOT = Path(__file__).parents[2]


def make(line: LocalLine, given: argparse.Namespace) -> Head:
    """The head that was learned from these searches."""
    terminal, shop = Terminal(), load()
    shoppers = Shoppers(shop, replace(ClickModel(), searches=given.searches), given.seed, held_out=False)
    model = shoppers.model
    open_line(line, shop, model, shipped(), terminal.doing, Head.cold())
    with (
        closing(TourDoors(line.serve_url, line.refresh_url)) as doors,
        closing(EventLog(line.bootstrap, EVENTS, line.redis_url, line.namespace)) as log,
    ):
        student = warm(doors, shop, [query.text for query in shoppers.queries], model.start_ms)
        flow = Flow(shop, shoppers, log, doors, student)
        playing = Playing(line, shop, shoppers, log, doors, flow, terminal, "")
        playing.flow_until(given.searches, "events flow")
        flow.finish()
        faults.settle_learner(playing)
        terminal.clear()
        found = quality(flow.fold, given.searches // 2)
        print({name: round(found.whole.mean[name].mean, 4) for name in NAMES}, "from a head that knew nothing")
        return read_head(line.repository, str(doors.ready()["model"]))


def main() -> None:
    """Prints the head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=6_000)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--jars", type=Path, help="of Apache Kafka; without them the embedded broker")
    parser.add_argument("--write", action="store_true", help="into the package")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("httpx").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        folder = Path(name)
        broker: Broker = LocalKafka(folder / "k", given.jars) if given.jars else LocalBroker(folder / "b")
        line = LocalLine(folder, broker)
        try:
            head = make(line, given)
        finally:
            line.stop()
    made = f"tests/bench/tour_head.py --searches {given.searches} --seed {given.seed}"
    content = msgspec.json.format(msgspec.json.encode(first_head.write(head, made)), indent=1)
    for file in [given.json] * bool(given.json) + [ROOT / "src/headrace/tour" / first_head.FILE] * given.write:
        file.write_bytes(content + b"\n")
    print(content.decode())


if __name__ == "__main__":
    main()
