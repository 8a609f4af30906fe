"""A shop under measurement: bundles that follow each other, item texts in Kafka, a busy state in Valkey, a worker."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
from kafka import KafkaProducer

from headrace.local.kafka import LocalKafka
from headrace.local.valkey import LocalValkey
from headrace.models.bundle import GoldenRequest, read_part, write_bundle, write_part
from headrace.online.scorer import Encoder, golden_requests
from headrace.streams import sequences
from headrace.streams.events import ItemChanged, encode
from headrace.streams.identity import query_hash
from headrace.streams.item_copies import CODEC
from headrace.streams.keys import Keys, shopper_name
from headrace.streams.neighbours import pack_edge
from headrace.streams.redis_wire import Wire
from headrace.streams.searches import Shopper, encode_shopper
from headrace.streams.topics import admin_of, all_topics, create_topics
from serving import Worker, serving
from tiny_models import WORDS, head, head_golden, write_head, write_tiny

ITEMS = 2_000
KNOWN_ITEMS = tuple(f"item-{number}" for number in range(1_000))
DAY = 20_000
NOW_MS = DAY * 86_400_000 + 5_000
KEYS = Keys("bench", "g1")


def fill(url: str) -> None:
    """Writes the state, in the bytes that the store would have written."""
    random = np.random.default_rng(1)
    wire = Wire(url)
    edge = pack_edge([(DAY - 29 + day, 40, 9) for day in range(30)])
    wire.call([("SET", KEYS.alias, KEYS.generation)])
    wire.call([("HSET", KEYS.query(query_hash("red shoe")), item, edge) for item in KNOWN_ITEMS])
    wire.call([("HSET", KEYS.query(query_hash("red shoe")), b"\0f", b"source-a" + (77).to_bytes(8, "little"))])
    rows = np.zeros(50, dtype=[("query", "<u8"), ("day", "<u2"), ("exposures", "<u4"), ("clicks", "<u4")])
    rows["day"], rows["exposures"], rows["clicks"] = np.tile(np.arange(DAY - 9, DAY + 1), 5), 50, 12
    for number, item in enumerate(KNOWN_ITEMS):
        rows["query"] = np.repeat(5 * number + np.arange(5), 10)
        wire.call([("SET", KEYS.item(item), bytes((CODEC, 0)) + rows.tobytes())])
    log = np.zeros(6_400, dtype=sequences.RECORD)
    log["at_ms"] = NOW_MS - np.arange(6_400)[::-1] * 60_000
    log["item"], log["query"] = random.integers(0, 2**63, 6_400), random.integers(0, 2**63, 6_400)
    log["action"] = 1
    shopper = shopper_name("shopper")
    wire.call([("SET", KEYS.log(shopper), log.tobytes())])
    wire.call([("SET", KEYS.shopper(shopper), encode_shopper(Shopper(fence=5, searches=[], kept=[])))])
    wire.close()


def students_of(repository: Path, count: int) -> list[tuple[str, list[GoldenRequest]]]:
    """Student parts (digest, golden requests) that differ in a remark only: another part, the same work."""
    parts = [read_part(repository, folder.name) for folder in sorted((repository / "parts").glob("*"))]
    student = next((part for part in parts if part.kind == "student"), None)
    if student is None:
        return []
    golden = golden_requests(Encoder(student.folder), "red shoe", titles(8))
    files = {name: student.read(name) for name in student.files}
    found = []
    for number in range(count):
        config = {**msgspec.json.decode(files["config.json"]), "remark": number}
        found.append((write_part(repository, "student", {**files, "config.json": msgspec.json.encode(config)}), golden))
    return found


def bundles(repository: Path, swaps: int, students: int) -> list[str]:
    """The versions that follow each other; every (swaps / students)-th has another student."""
    parts = students_of(repository, students + 1)
    if not parts:
        return [
            write_tiny(repository, number, student_seed=number * students // swaps + 1) for number in range(swaps + 1)
        ]
    versions = []
    for number in range(swaps + 1):
        digest, golden = parts[number * students // swaps]
        made = head(number)
        named = {"student": digest, "head": write_head(repository, made)}
        versions.append(write_bundle(repository, named, [*golden, *head_golden(made)], {"number": number}))
    return versions


def titles(count: int) -> list[str]:
    """Titles of four to twelve words."""
    random = np.random.default_rng(1)
    return [" ".join(random.choice(WORDS, random.integers(4, 12))) for _ in range(count)]


@contextmanager
def shop(
    folder: Path,
    repository: Path,
    jars: Path,
    fill: Callable[[str], None] = lambda url: None,
    namespace: str = "default",
) -> Iterator[Worker]:
    """A worker that knows every item's text; ``fill`` may put state into its Valkey first."""
    with ExitStack() as ending:
        kafka = LocalKafka(folder / "k", jars)
        kafka.start()
        ending.callback(kafka.kill)
        valkey = LocalValkey(folder / "v")
        valkey.start()
        ending.callback(valkey.kill)
        fill(valkey.socket_url)
        with admin_of(kafka.bootstrap) as admin:
            create_topics(admin, all_topics(2, 1))
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
        for number, title in enumerate(titles(ITEMS)):
            value = encode(ItemChanged(f"item-{number}", 1_700_000_000_000, title, "", {}, None))
            producer.send("search.items.v1", key=f"item-{number}".encode(), value=value)
        producer.flush(30)
        producer.close()
        flags = ("--bootstrap-servers", kafka.bootstrap, "--namespace", namespace)
        worker = ending.enter_context(serving(folder, repository, valkey.socket_url, *flags))
        worker.wait(lambda: worker.metric('headrace_catalogue_items{kind="vectors"}') >= ITEMS, 300)
        yield worker
