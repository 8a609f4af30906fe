"""A real worker over real Kafka: texts in, features and events out, the student at work."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from broker_clients import Broker
from headrace.local.valkey import LocalValkey
from headrace.models.features import FEATURES
from headrace.models.pair_rows import PairNeighbours
from headrace.online.pairs import PairScorer
from headrace.streams import feature_log
from headrace.streams.events import Click, EventLimits, Impression, ItemChanged, Query, ShopperEvent, decode, encode
from headrace.streams.feature_log import FeatureLogLimits
from headrace.streams.identity import query_hash
from headrace.streams.partitioners import partition_of
from headrace.streams.redis_scores import ScoreCache
from headrace.streams.redis_wire import Wire
from headrace.streams.score_cache import decode as decode_scores
from headrace.streams.score_cache import neighbours_hash, part_name, read_command, stamp_of
from headrace.streams.topics import admin_of, all_topics, create_topics
from serving import Worker, serving
from shop_state import Shop
from tiny_models import head, publish_tiny, publish_tiny_pairs


class Topics:
    """Topics of one test."""

    def __init__(self, server: Broker, suffix: str) -> None:
        self.bootstrap = server.bootstrap
        self.suffix = suffix
        with admin_of(server.bootstrap) as admin:
            create_topics(admin, all_topics(2, 1, suffix=f".{suffix}"))

    def name(self, stem: str) -> str:
        return f"{stem}.{self.suffix}"

    def flags(self) -> list[str]:
        topics = {"--events-topic": "search.events.v1", "--items-topic": "search.items.v1"}
        topics["--features-topic"] = "search.features.v1"
        named = [part for flag, stem in topics.items() for part in (flag, self.name(stem))]
        return ["--bootstrap-servers", self.bootstrap, *named]

    def put_items(self, *items: tuple[str, str | None]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.bootstrap)
        for item, title in items:
            value = encode(ItemChanged(item, 1_700_000_000_000, title, "", {}, None)) if title is not None else None
            producer.send(self.name("search.items.v1"), key=item.encode(), value=value)
        producer.flush(10)
        producer.close()

    def records(self, stem: str, count: int) -> list[Any]:
        """The first records of a topic, waited for."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        partitions = [TopicPartition(self.name(stem), number) for number in range(2)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        found: list[Any] = []
        until = time.monotonic() + 20
        while len(found) < count and time.monotonic() < until:
            for batch in consumer.poll(timeout_ms=200).values():
                found += batch
        consumer.close()
        return found


@pytest.fixture
def topics(kafka: Broker, topic_suffix: str) -> Topics:
    return Topics(kafka, topic_suffix)


@pytest.fixture
def worker(tmp_path: Path, topics: Topics, valkey: LocalValkey, namespace: str) -> Iterator[Worker]:
    repository = tmp_path / "models"
    publish_tiny(repository, 0, student_seed=1)
    topics.put_items(("a", "red shoe"), ("b", "blue hat"), ("c", "warm coat"), ("c", None))
    with serving(tmp_path, repository, valkey.url, "--namespace", namespace, "--trust-now", *topics.flags()) as running:
        running.wait(lambda: bool(running.ready()["items_caught_up"]))
        yield running


def test_items_with_a_text_get_a_students_score_and_the_others_are_named(worker: Worker, topics: Topics) -> None:
    worker.wait(lambda: worker.rank("red shoe", ["a", "b"]).json()["student"] == "computed")
    said = worker.rank("red shoe", ["b", "a", "c", "never"], explain=True).json()
    assert said["student"] == "partial"
    assert (said["no_text"], said["pending"]) == (2, 0)
    assert said["missing"]["student"] == 2
    by_id = {item["id"]: item for item in said["items"]}
    assert by_id["a"]["features"]["student"] == pytest.approx(1.0, abs=1e-3)  # the same words as the query's
    assert said["order"][0] == 1
    assert "student" in by_id["never"]["missing"] and "student" in by_id["c"]["missing"]
    assert worker.rank("red shoe", ["c", "never"]).json()["student"] == "absent"
    topics.put_items(("d", "red shoe"), ("a", None))
    worker.wait(lambda: worker.rank("red shoe", ["d"]).json()["student"] == "computed")
    worker.wait(lambda: worker.rank("red shoe", ["a"]).json()["student"] == "absent")
    assert worker.metric('headrace_catalogue_records_total{result="applied"}') == 6


def test_what_was_served_is_logged_as_it_was_scored(worker: Worker, topics: Topics) -> None:
    worker.wait(lambda: worker.rank("red shoe", ["a", "b"]).json()["student"] == "computed")
    items = [{"id": "b", "price": 3.0}, "a", "zz", "a"]
    said = worker.rank("red  SHOE", items, client_id="c", query_id="q", now_ms=1_700_000_000_000).json()
    assert said["logged"] is True
    assert worker.rank("red shoe", ["a"], client_id="c").json()["logged"] is False  # no search could name it
    [record] = topics.records("search.features.v1", 1)
    assert (record.key, record.timestamp) == (b"c", 1_700_000_000_000)
    served = feature_log.decode(record.value, FeatureLogLimits())
    assert (served.request_id, served.client_id, served.query_id) == (said["request_id"], "c", "q")
    assert served.items == ("b", "a", "zz")  # each once, as the log wants it
    assert served.names == feature_log.names_digest(FEATURES)
    assert served.version == said["model"]["version"]
    features = feature_log.features_of(served)
    assert head().score(features).tolist() == feature_log.scores_of(served).tolist() == said["scores"][:3]
    assert features[0, FEATURES.index("student")] != 0
    worker.wait(lambda: worker.metric('headrace_feature_log_total{result="sent"}') == 1)


def test_events_are_in_kafka_when_the_answer_comes(worker: Worker, topics: Topics) -> None:
    good = Click("e1", "shopper", "q", int(time.time() * 1000), "a", 1)
    body = [json.loads(encode(good)), {"action_name": "click"}, 5]
    reply = worker.call("POST", "/v1/events", body)
    assert reply.status == 202
    said = reply.json()
    assert said["accepted"] == 1
    assert [(one["index"], one["reason"]) for one in said["refused"]] == [(1, "missing"), (2, "wrong_type")]
    [record] = topics.records("search.events.v1", 1)
    assert (record.key, record.partition) == (b"shopper", partition_of(b"shopper", 2))
    assert decode(record.value, EventLimits()) == good
    assert worker.call("POST", "/v1/events", b"nonsense").status == 400
    assert worker.call("POST", "/v1/events", []).json() == {"accepted": 0, "refused": []}


def test_a_broker_that_is_away_costs_no_answer(tmp_path: Path, valkey: LocalValkey) -> None:
    repository = tmp_path / "models"
    publish_tiny(repository, 0)
    with serving(tmp_path, repository, valkey.url, "--bootstrap-servers", "127.0.0.1:1", "--log-buffer", "2") as worker:
        replies = [worker.rank(client_id="c", query_id="q") for _ in range(20)]
        assert {reply.status for reply in replies} == {200}
        assert any(reply.json()["logged"] is False for reply in replies)  # and each answer says so
        assert worker.metric('headrace_feature_log_total{result="dropped"}') >= 1
        event = json.loads(encode(Click("e1", "shopper", "q", 1_700_000_000_000, "a", 1)))
        assert worker.call("POST", "/v1/events", [event]).status == 503
        assert worker.stop() == 0


def test_vectors_are_kept_within_their_bound(tmp_path: Path, topics: Topics, valkey: LocalValkey) -> None:
    repository = tmp_path / "models"
    publish_tiny(repository, 0, student_seed=1)
    topics.put_items(*((f"item-{number}", f"red shoe {number}") for number in range(300)))
    with serving(tmp_path, repository, valkey.url, *topics.flags()) as worker:
        items = [f"item-{number}" for number in range(300)]
        worker.wait(lambda: worker.rank(items=items).json()["student"] == "computed")
        assert worker.metric('headrace_catalogue_items{kind="vectors"}') >= 300
        scores = worker.rank(items=items).json()["scores"]
        assert np.isfinite(scores).all()


def test_a_text_that_had_to_leave_is_read_again_behind_the_answer(
    tmp_path: Path, topics: Topics, valkey: LocalValkey
) -> None:
    repository = tmp_path / "models"
    publish_tiny(repository, 0, student_seed=1)
    topics.put_items(*((f"item-{number}", f"red shoe {number}") for number in range(2_300)))
    with serving(tmp_path, repository, valkey.url, "--catalogue-mib", "1", *topics.flags()) as worker:
        worker.wait(lambda: bool(worker.ready()["items_caught_up"]))
        held = worker.ready()["items"]
        assert 1_500 < held < 2_200
        # Every item in turn: so those that have left are among them, and come back as others leave.
        pages = [[f"item-{number}" for number in range(start, start + 100)] for start in range(0, 2_300, 100)]
        missed = [page for page in pages if worker.rank(items=page).json()["no_text"]]
        assert missed
        worker.wait(lambda: worker.rank(items=missed[0]).json()["student"] == "computed")
        assert worker.metric('headrace_catalogue_bytes{kind="texts"}') <= 1 << 20


def test_records_lie_where_the_topics_other_producers_put_them(
    tmp_path: Path, topics: Topics, valkey: LocalValkey
) -> None:
    repository = tmp_path / "models"
    publish_tiny(repository, 0)
    clients = [f"shopper-{number}" for number in range(12)]
    with serving(tmp_path, repository, valkey.url, "--partitioner", "crc32", *topics.flags()) as worker:
        for client in clients:
            event = json.loads(encode(Click(f"e-{client}", client, "q", int(time.time() * 1000), "a", 1)))
            assert worker.call("POST", "/v1/events", event).status == 202
            assert worker.rank(client_id=client, query_id="q").json()["logged"]
        assert worker.stop() == 0  # what waits is sent first
    for stem in ("search.events.v1", "search.features.v1"):
        found = topics.records(stem, len(clients))
        assert {record.key.decode(): record.partition for record in found} == {
            client: partition_of(client.encode(), 2, "crc32") for client in clients
        }


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_cross_encoders_scores_come_from_whoever_has_them_first(
    tmp_path: Path, topics: Topics, valkey: LocalValkey, namespace: str
) -> None:
    repository = tmp_path / "models"
    version = publish_tiny_pairs(repository, student_seed=1, teacher="a teacher", calibration_error=0.03)
    topics.put_items(("a", "red shoe"), ("b", "blue hat"), ("c", "warm coat"))
    flags = ("--namespace", namespace, "--trust-now", *topics.flags())
    cache = ScoreCache(valkey.url, namespace)
    with serving(tmp_path, repository, valkey.url, *flags) as worker:
        worker.wait(lambda: bool(worker.ready()["items_caught_up"]))
        first = worker.rank("Red  SHOE", "abcx", explain=True).json()
        assert first["model"]["version"] == version and first["model"]["calibration_error"] == 0.03
        assert (first["student"], first["degraded"], first["no_text"]) == ("partial", None, 1)
        assert first["student_sources"] == sources(computed=3, absent=1)
        assert [item["source"] for item in first["items"]] == ["computed"] * 3 + ["absent"]
        again = worker.rank("red shoe", "abcx", explain=True).json()
        assert again["student_sources"] == sources(student_cache=3, absent=1)
        assert again["scores"] == first["scores"]
        worker.wait(lambda: worker.metric('headrace_score_cache_writes_total{result="sent"}') == 3)
        assert worker.metric('headrace_student_scores_total{source="student_cache"}') == 3
        cache.put("red shoe", [("a", stamp_of("red shoe"), 0.875)], part_name("a teacher"), "teacher")
        cache.put("red shoe", [("b", stamp_of("an older text"), 0.5)], part_name("a teacher"), "teacher")
        cache.put("red shoe", [("c", stamp_of("warm coat"), 0.5)], part_name("another teacher"), "teacher")
        taught = worker.rank("red shoe", "abc", client_id="c", query_id="q", explain=True).json()
        assert taught["student_sources"] == sources(teacher_cache=1, student_cache=2)
        assert taught["items"][0]["features"]["student"] == 0.875
        [record] = topics.records("search.features.v1", 1)
    # another worker, with nothing in memory, that keeps to itself what it computes
    with serving(tmp_path, repository, valkey.url, "--no-score-cache", *flags) as worker:
        worker.wait(lambda: bool(worker.ready()["items_caught_up"]))
        found = worker.rank("red shoe", "abc").json()
        assert found["student_sources"] == sources(teacher_cache=1, student_cache=2)
        assert found["scores"] == taught["scores"]
        other = publish_tiny_pairs(repository, student_seed=2, teacher="another teacher")
        worker.wait_version(other)
        found = worker.rank("red shoe", "abc").json()
        assert found["student_sources"]["teacher_cache"] == 1  # of c, whatever became of the student
        assert found["model"]["calibration_error"] is None
        assert worker.rank("red shoe", "abc").json()["student_sources"]["student_cache"] == 2
        assert worker.metric('headrace_score_cache_writes_total{result="sent"}') == 0
    cache.close()
    served = feature_log.decode(record.value, FeatureLogLimits())
    assert feature_log.features_of(served)[0, FEATURES.index("student")] == 0.875
    assert head().score(feature_log.features_of(served)).tolist() == feature_log.scores_of(served).tolist()
    assert feature_log.scores_of(served).tolist() == taught["scores"]


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_part_that_reads_neighbours_is_told_those_of_the_state(
    tmp_path: Path, topics: Topics, valkey: LocalValkey, namespace: str
) -> None:
    """The query led to b and d, two queries led to a; a score is that of the part itself, whoever else is asked for."""
    repository = tmp_path / "models"
    publish_tiny_pairs(repository, student_seed=1, neighbours=True)
    titles = {"a": "red shoe", "b": "a mouse", "c": "xyz 12", "d": "shoes"}
    topics.put_items(*titles.items())
    shop = Shop(valkey, namespace)
    for query, item, clicks in (("red shoe", "b", 60), ("red shoe", "d", 40), ("mouse", "a", 50)):
        shop.happen([event for number in range(120) for event in search(query, item, number, number < clicks)])
    led = ((titles["b"], 1.0), (titles["d"], 1.0))
    told = {"a": PairNeighbours(led, (("mouse", 1.0),)), "c": PairNeighbours(led)}
    told |= dict.fromkeys("bd", PairNeighbours(led, (("red shoe", 1.0),)))
    scorer = next(PairScorer(part) for part in (repository / "parts").iterdir() if (part / "config.json").exists())
    wanted = scorer.score(["red shoe"] * 4, [titles[item] for item in "abcd"], [told[item] for item in "abcd"])
    flags = ("--namespace", namespace, "--trust-now", *topics.flags())
    with serving(tmp_path, repository, valkey.url, *flags) as worker:
        worker.wait(lambda: bool(worker.ready()["items_caught_up"]))
        worker.rank("red shoe", "abcd", now_ms=SHOP_MS)
        worker.wait(lambda: worker.metric('headrace_query_texts_total{result="read"}') == 2)
        worker.rank("red shoe", "abcd", now_ms=SHOP_MS)
        said = worker.rank("red shoe", "abcd", now_ms=SHOP_MS, explain=True).json()
        assert said["student_sources"] == sources(student_cache=4)
        served = [item["features"]["student"] for item in said["items"]]
        assert served == wanted.astype(np.float16).astype(np.float32).tolist()
        assert (wanted != scorer.score(["red shoe"] * 4, [titles[item] for item in "abcd"])).all()
        alone = worker.rank("RED shoe", "a", now_ms=SHOP_MS, explain=True).json()  # b and d are near all the same
        assert alone["student_sources"] == sources(student_cache=1)
        assert alone["items"][0]["features"]["student"] == served[0]
        # four as they were first, and three again once the texts of queries had come
        worker.wait(lambda: worker.metric('headrace_score_cache_writes_total{result="sent"}') == 7)
        assert worker.ready() and worker.metric('headrace_catalogue_items{kind="queries"}') == 2
    wire = Wire(valkey.url)
    [values] = wire.call([read_command(shop.keys, query_hash("red shoe"), "abcd")])
    wire.close()
    shop.close()
    assert isinstance(values, list)
    kept = [record for value in values for record in decode_scores(value)]
    assert [record.neighbours for record in kept] == [
        neighbours_hash([text for text, _ in one.query], [text for text, _ in one.item])
        for one in (told[item] for item in "abcd")
    ]


SHOP_MS = 20_000 * 86_400_000 + 43_200_000


def search(query: str, item: str, number: int, clicked: bool) -> list[ShopperEvent]:
    """A shopper who sees one item and perhaps clicks it."""
    client, at_ms = f"{query}-{item}-{number}", SHOP_MS - 60_000
    found: list[ShopperEvent] = [
        Query(f"{client}-1", client, "q", at_ms, query),
        Impression(f"{client}-2", client, "q", at_ms + 1, (item,), (1,)),
        Click(f"{client}-3", client, "q", at_ms + 2, item, 1),
    ]
    return found if clicked else found[:2]


def sources(**items: int) -> dict[str, int]:
    return {"absent": 0, "pending": 0, "computed": 0, "student_cache": 0, "teacher_cache": 0, **items}
