"""`headrace label` on real servers: from candidates over topics to training, and the teacher's scores in the cache."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from broker_clients import Broker
from consumed_topics import records_of
from headrace.commands import label
from headrace.commands.main import main
from headrace.commands.recipes import made, redis_settings
from headrace.local.valkey import LocalValkey
from headrace.models.prompts import Pair
from headrace.models.training_pairs import read
from headrace.online.catalogue import student_text
from headrace.streams.demand import most_shown
from headrace.streams.dump import EdgeFact
from headrace.streams.events import Click, Impression, ItemChanged, Query, ShopperEvent, encode
from headrace.streams.generations import Recipe
from headrace.streams.identity import DAY_MS, query_hash
from headrace.streams.label_files import labels_of
from headrace.streams.redis_generations import Generations
from headrace.streams.redis_store import read_facts
from headrace.streams.redis_wire import Wire
from headrace.streams.score_cache import Cached, decode, neighbours_hash, part_name, read_command, stamp_of
from headrace.streams.searches import StateBounds
from headrace.streams.topic_writer import TopicWriter
from headrace.streams.topics import Source, Topic, admin_of, create_topics
from label_worker import HashTeacher
from shop_state import Shop

PARTITIONS = 3
NOW_MS = time.time_ns() // 1_000_000


class Listening(HashTeacher):
    """A teacher that remembers what it was asked."""

    asked: list[Pair]

    def logits(self, pairs: Sequence[Pair], /) -> NDArray[np.float64]:
        self.asked = [*getattr(self, "asked", []), *pairs]
        return super().logits(pairs)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    found = Listening()
    monkeypatch.setattr(label, "open_teacher", lambda given: found)
    yield found
    for name, handler in before.items():
        signal.signal(name, handler)


def headrace(*args: object) -> Result:
    result = CliRunner().invoke(main, ["label", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result


def test_from_a_catalogue_over_topics_to_what_a_student_is_trained_on(
    kafka: Broker, topic_suffix: str, teacher: Listening, tmp_path: Path
) -> None:
    pairs, labels = f"pairs.{topic_suffix}", f"labels.{topic_suffix}"
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(name, PARTITIONS) for name in (pairs, f"{pairs}.dlq", labels)])
    where = ("--bootstrap-servers", kafka.bootstrap, "--labels-topic", labels)
    both = (*where, "--pairs-topic", pairs)
    titles = [f"{colour} {kind} {n}" for colour in ("red", "blue") for kind in ("socks", "pan") for n in range(10)]
    items = [{"item_id": f"i{place}", "title": title} for place, title in enumerate(titles)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "queries.txt").write_text("red socks\nblue pan\nsocks\n")
    from_ = (tmp_path / "items.jsonl", tmp_path / "queries.txt", "--to-topic", "--no-vectors")
    sent = [headrace("candidates", *from_, *both[:2], *both[4:], "--per-query", 10).output for _ in range(2)]
    assert "30 pairs of 3 queries" in sent[1]
    assert len(records_of(kafka, pairs)) == 60

    done = headrace("run", "--from-topic", "--until-end", "--batch", 7, *both, "--teacher", tmp_path).output
    assert "30 pairs labelled, 30 had their label, 0 are no pairs" in done
    assert len(records_of(kafka, labels)) == 30 == len(teacher.asked)
    again = headrace("run", "--from-topic", "--until-end", *both, "--teacher", tmp_path).output
    assert "0 pairs labelled" in again

    collected = headrace("collect", tmp_path / "training.jsonl", "--from-topic", *where).output
    assert "30 of 30 labels" in collected
    found = list(labels_of(tmp_path / "training.jsonl"))
    assert Counter(one.query for one in found) == {"red socks": 10, "blue pan": 10, "socks": 10}
    assert {one.title for one in found} <= set(titles)


def visits(random: Random) -> list[ShopperEvent]:
    """Searches of two queries, shown with items of which one is clicked; "red shoe" is asked three times as often."""
    found: list[ShopperEvent] = []
    for number in range(40):
        client, query_id, at_ms = f"c{number % 5}", f"q{number}", NOW_MS - 3_600_000 + number * 1_000
        text, items = ("blue hat", ("h1", "h2")) if number % 4 == 0 else ("Red  Shoe", ("s1", "s2", "s3"))
        found.append(Query(f"e{number}", client, query_id, at_ms, text))
        found.append(Impression(f"s{number}", client, query_id, at_ms + 1, items, tuple(range(1, len(items) + 1))))
        if random.random() < 0.5:
            found.append(Click(f"k{number}", client, query_id, at_ms + 2, items[0]))
    return found


@pytest.fixture
def shop(valkey: LocalValkey, namespace: str) -> Iterator[Shop]:
    found = Shop(valkey, namespace)
    found.happen(visits(Random(3)))
    generation = made(Source("t", "c", "i", 1), (0,), Recipe(bounds=StateBounds(floor=1)), "ready")
    with Generations(redis_settings(valkey.url, "memory", 1, "test"), namespace) as generations:
        generations.write(msgspec.structs.replace(generation, name="g1"))
    yield found
    found.close()


def test_the_most_shown_pairs_are_those_of_the_facts(shop: Shop, valkey: LocalValkey) -> None:
    wire, day = Wire(valkey.url), NOW_MS // DAY_MS
    facts = read_facts(wire, shop.keys)

    def shown(edge: EdgeFact) -> tuple[int, int, str]:
        return sum(row[1] for row in edge.rows), edge.query, edge.item_id

    whole = sorted(map(shown, facts.edges), reverse=True)
    assert [tuple(one) for one in most_shown(wire, shop.keys, 100, day, 30)] == whole
    assert [tuple(one) for one in most_shown(wire, shop.keys, 4, day, 30)] == whole[:4]
    assert whole[0][0] == 30 and len(whole) == 5
    assert most_shown(wire, shop.keys, 100, day + 31, 30) == []
    wire.close()


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_the_cache_is_filled_with_the_teachers_scores_of_what_shoppers_see(
    kafka: Broker,
    topic_suffix: str,
    shop: Shop,
    valkey: LocalValkey,
    namespace: str,
    teacher: Listening,
    tmp_path: Path,
) -> None:
    topic = f"items.{topic_suffix}"
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(topic, PARTITIONS, settings={"cleanup.policy": "compact"})])
    known = {
        name: ItemChanged(name, NOW_MS, title, "Red.", {"sole": "rubber"})
        for name, title in (("s1", "Red shoe"), ("s2", "Scarlet shoe"), ("h1", " Blue hat "), ("x", "Not shown"))
    }

    def publish(*items: ItemChanged) -> None:
        with TopicWriter(kafka.bootstrap, topic, PARTITIONS) as writer:
            for item in items:
                writer.send(item.item_id.encode(), encode(item), NOW_MS)
            writer.flush()

    publish(ItemChanged("s1", NOW_MS, "An old title", "", {}), *known.values())
    where = ("--redis-url", valkey.url, "--namespace", namespace, "--bootstrap-servers", kafka.bootstrap)
    flags = (*where, "--items-topic", topic, "--teacher", tmp_path)

    def kept(query: str, item: str) -> float:
        wire = Wire(valkey.url)
        [values] = wire.call([read_command(shop.keys, query_hash(query), [item])])
        wire.close()
        assert isinstance(values, list)
        [found] = decode(values[0] or b"")
        assert (found.source, found.part) == ("teacher", part_name("hash"))
        assert found.content == stamp_of(student_text(known[item]))
        return found.score

    assert "3 scores of teacher hash kept, 0 were fresh" in headrace("cache", *flags).output
    details = "sole: rubber; Red."
    assert set(teacher.asked) == {
        Pair("red shoe", "Red shoe", details),
        Pair("red shoe", "Scarlet shoe", details),
        Pair("blue hat", "Blue hat", details),
    }
    for pair, item in (("red  SHOE", "s1"), ("red shoe", "s2"), ("blue hat", "h1")):
        asked = Pair(" ".join(pair.lower().split()), known[item].title.strip(), details)
        assert kept(pair, item) == pytest.approx(1 / (1 + np.exp(-HashTeacher().logits([asked])[0])), abs=1e-6)

    assert "0 scores of teacher hash kept, 3 were fresh" in headrace("cache", *flags).output
    known["s2"] = ItemChanged("s2", NOW_MS, "Another title", "", {})
    publish(known["s2"])
    assert "1 scores of teacher hash kept, 2 were fresh" in headrace("cache", *flags).output
    assert kept("red shoe", "s2") > 0
    few = headrace("cache", *flags, "--most", 2, "--fresh-hours", 0).output
    assert "1 of the 2 most shown pairs have no text" in few
    assert "1 scores of teacher hash kept" in few
    none = CliRunner().invoke(main, ["label", "cache", *map(str, flags), "--most", "1"])
    assert none.exit_code == 1
    assert f"no pair that was shown within the window has its texts in {topic}: consume searches" in none.output


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_pairs_of_a_file_are_cached_and_neighbours_are_told_where_asked_for(
    kafka: Broker,
    topic_suffix: str,
    shop: Shop,
    valkey: LocalValkey,
    namespace: str,
    teacher: Listening,
    tmp_path: Path,
) -> None:
    topic = f"items.{topic_suffix}"
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(topic, PARTITIONS)])
    random = Random(5)
    for turn in range(5):  # an edge needs a hundred exposures and a fifth of them clicked
        others = [msgspec.structs.replace(event, client_id=f"{event.client_id}-{turn}") for event in visits(random)]
        shop.happen(others)
    (tmp_path / "items.jsonl").write_text('{"item_id": "s1", "title": "Red shoe"}\n')
    (tmp_path / "queries.txt").write_text("red shoe\n")
    pairs = tmp_path / "pairs.jsonl"
    headrace("candidates", tmp_path / "items.jsonl", tmp_path / "queries.txt", pairs, "--no-vectors")
    with TopicWriter(kafka.bootstrap, topic, PARTITIONS) as writer:
        writer.send(b"s1", encode(ItemChanged("s1", NOW_MS, "Red shoe", "", {})), NOW_MS)
        writer.flush()
    where = ("--redis-url", valkey.url, "--namespace", namespace, "--bootstrap-servers", kafka.bootstrap)
    flags = (*where, "--items-topic", topic, "--teacher", tmp_path, "--pairs", pairs)

    def kept() -> Cached:
        wire = Wire(valkey.url)
        [values] = wire.call([read_command(shop.keys, query_hash("red shoe"), ["s1"])])
        wire.close()
        assert isinstance(values, list)
        [found] = decode(values[0] or b"")
        return found

    assert "1 scores of teacher hash kept" in headrace("cache", *flags).output
    assert teacher.asked == [Pair("red shoe", "Red shoe")]
    assert "0 scores of teacher hash kept, 1 were fresh" in headrace("cache", *flags).output
    assert kept().neighbours == 0
    assert "1 scores of teacher hash kept, 0 were fresh" in headrace("cache", *flags, "--neighbours").output
    assert teacher.asked[1:] == [
        Pair("red shoe", "Red shoe", query_neighbours=("Red shoe",), item_neighbours=("red shoe",))
    ]
    assert kept().neighbours == neighbours_hash(("Red shoe",), ("red shoe",))
    assert "0 scores of teacher hash kept, 1 were fresh" in headrace("cache", *flags, "--neighbours").output

    headrace(
        "candidates", tmp_path / "items.jsonl", tmp_path / "queries.txt", pairs, "--no-vectors", "--neighbours", *where
    )
    headrace("run", pairs, tmp_path / "labels.jsonl", "--teacher", tmp_path)
    assert teacher.asked[2:] == teacher.asked[1:2]
    headrace("collect", tmp_path / "training.jsonl", "--labels", tmp_path / "labels.jsonl", "--least-spread", 0)
    assert read(tmp_path / "training.jsonl").pairs == tuple(teacher.asked[2:])
