"""`headrace skew` against real `consume` and `serve`: an honest log does not differ, and what was altered is found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from kafka import KafkaProducer
from msgspec.structs import replace

from broker_clients import Broker
from consumed_topics import Stage, environment, headrace_command, publish, running, shopping, wait_for
from headrace.commands.main import main
from headrace.commands.recipes import redis_settings
from headrace.local.valkey import LocalValkey
from headrace.models.features import FEATURES
from headrace.streams import feature_log
from headrace.streams.feature_log import FeatureLogLimits, Served, features_of, pack_features
from headrace.streams.ingestion import Record
from headrace.streams.log_extent import log_extent
from headrace.streams.redis_generations import Generations
from headrace.streams.replay import replay
from headrace.streams.topics import EVENTS, ITEMS, admin_of, all_topics, create_topics
from headrace.streams.topics import FEATURES as FEATURES_TOPIC
from serving import Worker, serving
from tiny_models import publish_tiny

PARTITIONS = 2
BATCHES, EACH, STEP = 15, 4, 60
LISTS = BATCHES * EACH
ALTERED = "search_5min"


@dataclass(frozen=True)
class Shop:
    """Topics and a namespace of one test, with everything that runs on them."""

    stage: Stage
    features: str
    folder: Path

    def skew(self, *flags: str, code: int = 0) -> Any:
        """What `headrace skew` wrote as JSON, once it ended with this code."""
        file = self.folder / "skew.json"
        file.unlink(missing_ok=True)
        words = ["skew", "--features-topic", self.features, "--json", str(file), *flags]
        done = CliRunner().invoke(main, words, env=environment(self.stage))
        assert done.exit_code == code, done.output
        return json.loads(file.read_bytes()) | {"said": done.output} if file.exists() else done.output

    def caught_up(self) -> bool:
        """Whether the consumer has committed all there is."""
        settings = redis_settings(self.stage.valkey.socket_url, "memory", 1, "test")
        with Generations(settings, self.stage.namespace) as generations:
            generation = generations.find(generations.current() or "")
        return generation is not None and self.stage.committed(generation) == self.stage.ends()

    def served(self) -> list[Served]:
        """The feature log."""
        extent = log_extent(self.stage.kafka.bootstrap, self.features, PARTITIONS)
        batches = replay(self.stage.kafka.bootstrap, self.features, extent)
        return [feature_log.decode(record.value, FeatureLogLimits()) for batch in batches for record in batch]

    def log(self, served: Served) -> None:
        """One record more in the feature log."""
        producer = KafkaProducer(bootstrap_servers=self.stage.kafka.bootstrap)
        try:
            value, key = feature_log.encode(served), served.client_id.encode()
            producer.send(self.features, key=key, value=value, timestamp_ms=served.at_ms).get(20)
        finally:
            producer.close()


@pytest.fixture
def shop(kafka: Broker, valkey: LocalValkey, topic_suffix: str, namespace: str, tmp_path: Path) -> Shop:
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, all_topics(PARTITIONS, 1, suffix=f".{topic_suffix}"))
    stage = Stage(kafka, valkey, f"{EVENTS}.{topic_suffix}", PARTITIONS, namespace)
    return Shop(stage, f"{FEATURES_TOPIC}.{topic_suffix}", tmp_path)


def ranked(worker: Worker, random: Random, number: int, now_ms: int) -> None:
    """A list for somebody; every tenth asks for an item twice, every second knows prices."""
    items: list[Any] = random.sample([f"item-{item}" for item in range(8)], random.randrange(2, 8))
    if number % 10 == 0:
        items.insert(1, items[0])
    if number % 2:
        items = [{"id": item, "price": random.uniform(1, 100)} for item in items]
    query, client_id = f"{random.choice(['Red', 'blue'])} shoe {random.randrange(4)}", f"shopper-{random.randrange(40)}"
    said = worker.rank(query, items, client_id=client_id, query_id=f"q{number}", now_ms=now_ms).json()
    assert said["logged"] is True, said


def trade(shop: Shop, worker: Worker, records: Sequence[tuple[Record, bool]]) -> None:
    """Events come in while lists are served: most of them from a state that is behind, one from one that is not."""
    random = Random(7)
    for number in range(BATCHES):
        batch = records[number * STEP : (number + 1) * STEP]
        publish(shop.stage.kafka, shop.stage.topic, PARTITIONS, batch)
        for place in range(EACH):
            ranked(worker, random, number * EACH + place, batch[-1][0].timestamp_ms)
        if number % 5 == 0:
            wait_for(shop.caught_up, "the state holds what was sent")
    worker.wait(lambda: worker.metric('headrace_feature_log_total{result="sent"}') == LISTS)


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # slow, and no broker's own: one of them
def test_an_honest_log_has_no_skew_and_an_altered_record_is_found(shop: Shop, tmp_path: Path) -> None:
    stage, repository = shop.stage, tmp_path / "models"
    publish_tiny(repository, 0)
    suffix = stage.topic.removeprefix(EVENTS)
    topics = ("--events-topic", stage.topic, "--items-topic", ITEMS + suffix, "--features-topic", shop.features)
    flags = ("--bootstrap-servers", stage.kafka.bootstrap, "--namespace", stage.namespace, "--trust-now", *topics)
    consume = headrace_command(stage, "consume", "--driver", "bulk")
    with running(consume, tmp_path / "consume", environment(stage)) as consumer:
        wait_for(lambda: "reading" in consumer.said(), f"it reads: {consumer.said()}")
        assert "holds no list" in shop.skew(code=1)
        with serving(tmp_path, repository, stage.valkey.url, *flags) as worker:
            trade(shop, worker, shopping(seed=21, events=BATCHES * STEP))

        honest = shop.skew()
        assert (honest["lists"], honest["skipped"], honest["exceeding"]) == (LISTS, {}, [])
        assert honest["partly"] == {"item_asked_twice": LISTS // 10}
        lines = {line["name"]: line for line in honest["features"]}
        assert tuple(lines) == FEATURES
        assert lines["touch_stay"]["rows"] == honest["rows"] == sum(len(served.items) for served in shop.served())
        assert {line["standing"] for line in lines.values()} == {"recomputed", "as logged", "not recomputable"}
        used = np.abs(np.vstack([features_of(served) for served in shop.served()])).max(axis=0)
        for name in ("query_rate", "query_share", "touch_stay", "search_5min", "price_rank"):
            assert used[FEATURES.index(name)] > 0
        assert 0 < honest["sequence"]["stale"] < LISTS
        assert shop.skew("--lists", "7")["lists"] == 7
        assert 0 < shop.skew("--sample", "0.5")["lists"] < LISTS

        served = shop.served()[0]
        features = features_of(served)
        features[:, FEATURES.index(ALTERED)] += 0.5
        shop.log(replace(served, matrix=pack_features(features)))
        found = shop.skew(code=1)
        assert found["exceeding"] == [ALTERED]
        [line] = [line for line in found["features"] if line["differing"]]
        assert (line["name"], line["differing"]) == (ALTERED, len(served.items))
        assert line["max_abs"] == pytest.approx(0.5, abs=1e-3)
        assert f"differs in more than 0.00%: {ALTERED}" in found["said"]
        assert shop.skew("--tolerance", "0.5")["exceeding"] == []
