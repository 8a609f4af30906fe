import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaConsumer, TopicPartition

from broker_clients import Broker
from consumed_topics import records_of
from headrace.commands.main import main
from headrace.local.broker.process import LocalBroker
from headrace.streams.events import Query, ShopperEvent, decode, encode
from headrace.streams.partitioners import partition_of
from headrace.streams.topics import Topic, admin_of, create_topics
from other_topics import LIMITS, send, send_apart, state_of, visits
from ubi_records import AT_MS, click, query, raw

PARTITIONS = 3
KILLED = Path(__file__).parent.parent / "support" / "import_killed.py"
KEPT = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}


@dataclass(frozen=True)
class Place:
    """Two topics of other people and one of ours."""

    kafka: Broker
    ours: str
    queries: str
    events: str

    def command(self, *more: str, names: tuple[str, ...] = ()) -> list[str]:
        chosen = [flag for name in names or (self.queries, self.events) for flag in ("--from-topic", name)]
        return ["import", *chosen, "--bootstrap-servers", self.kafka.bootstrap, "--topic", self.ours, *more]

    def run(self, *more: str, names: tuple[str, ...] = ()) -> tuple[int, str]:
        before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            result = CliRunner().invoke(main, self.command(*more, names=names))
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result.exit_code, result.output

    @contextmanager
    def running(self, log: Path, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "headrace.commands.main", *self.command(*more)], stdout=out, stderr=out
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def clean(self, found: list[ShopperEvent]) -> str:
        """A topic of ours into which events were put in their order."""
        name = f"{self.ours}.clean"
        make(self.kafka, name)
        send(self.kafka, name, [(event.client_id.encode(), encode(event), event.at_ms) for event in found])
        return name


@pytest.fixture
def place(kafka: Broker, topic_suffix: str) -> Place:
    found = Place(kafka, f"search.events.v1.{topic_suffix}", f"ubi_queries.{topic_suffix}", f"ubi.{topic_suffix}")
    make(kafka, found.ours, f"{found.ours}.dlq", found.queries, found.events)
    return found


def make(kafka: Broker, *names: str) -> None:
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(name, PARTITIONS, settings=KEPT) for name in names])


def count(kafka: Broker, topic: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    ends = consumer.end_offsets([TopicPartition(topic, one) for one in range(PARTITIONS)])
    consumer.close()
    return sum(ends.values())


def wait_for(holds: Callable[[], bool], what: str, within_s: float = 40) -> None:
    until_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until_s, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def test_two_topics_under_other_keys_become_one_in_the_order_of_time(place: Place) -> None:
    found = visits(900)
    send_apart(place.kafka, place.queries, place.events, found)
    code, said = place.run()
    assert (code, f"900 records sent to {place.ours}, 0 refused." in said) == (0, True), said
    there = records_of(place.kafka, place.ours)
    assert {one.value for one in there} == {encode(event) for event in found}
    for one in there:
        assert one.partition == partition_of(one.key, PARTITIONS)
        assert one.timestamp == decode(one.value, LIMITS).at_ms
    assert state_of(place.kafka, place.ours) == state_of(place.kafka, place.clean(found))
    code, said = place.run()
    assert (code, "0 records sent" in said) == (0, True), said
    send(place.kafka, place.events, [(None, raw(click()), AT_MS)])
    code, said = place.run()
    assert (code, "1 records sent" in said) == (0, True), said
    assert count(place.kafka, place.ours) == 901


def test_an_import_that_is_killed_goes_on_without_doubles(place: Place) -> None:
    found = visits(12_000)
    send_apart(place.kafka, place.queries, place.events, found)
    # Amid the sending; when only the sources say that all is safe; when nobody says so; never.
    for method, calls in (("send", 7_000), ("target", 1), ("sources", 2), ("send", 1_000_000)):
        done = subprocess.run(
            [sys.executable, str(KILLED), method, str(calls), *place.command()],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == (0 if calls == 1_000_000 else -signal.SIGKILL), done.stderr
    assert "were there already" in done.stdout
    assert count(place.kafka, place.ours) == len(found)
    assert state_of(place.kafka, place.ours) == state_of(place.kafka, place.clean(found))


def test_what_lies_there_is_found_without_an_account(place: Place) -> None:
    found = visits(600)
    send_apart(place.kafka, place.queries, place.events, found)
    assert place.run()[0] == 0
    other = f"{place.queries}.empty"
    make(place.kafka, other)
    code, said = place.run(names=(place.queries, place.events, other))  # other topics: an account of its own
    assert (code, "0 records sent" in said, "600 were there already" in said) == (0, True, True), said
    assert count(place.kafka, place.ours) == 600


def test_bad_records_are_dead_letters_with_their_origin(place: Place) -> None:
    bad = [b"{", None, b'{"x":"' + b"y" * 300_000 + b'"}', raw(query(timestamp=AT_MS + 3_600_000))]
    send(place.kafka, place.queries, [(b"k", value, AT_MS) for value in bad])
    send(place.kafka, place.events, [(None, raw(click()), AT_MS)])
    code, said = place.run()
    assert (code, "1 records sent" in said, "4 refused" in said) == (1, True, True), said
    letters = records_of(place.kafka, f"{place.ours}.dlq")
    headers = [{name: value.decode() for name, value in one.headers} for one in letters]
    assert sorted(one["x-error-reason"] for one in headers) == ["empty", "future", "not_json", "too_large"]
    assert {one["x-origin-topic"] for one in headers} == {place.queries}
    assert len({(one["x-origin-partition"], one["x-origin-offset"]) for one in headers}) == 4
    code, said = place.run()
    assert (code, "0 refused" in said) == (0, True), said
    flags = ["--bootstrap-servers", place.kafka.bootstrap, "--topic", place.ours, "--at-event-time"]
    back = CliRunner().invoke(main, ["dlq", "redrive", *flags])
    assert "1 put back" in back.output, back.output  # the one from the future, at its own time
    assert count(place.kafka, place.ours) == 2


def test_follows_and_sorts_what_comes_within_two_seconds(place: Place, tmp_path: Path) -> None:
    found, log = visits(400), tmp_path / "log"
    send_apart(place.kafka, place.queries, place.events, found[:200])
    with place.running(log, "--follow") as process:
        wait_for(lambda: count(place.kafka, place.ours) == 200, "what was there")
        rest = found[200:]
        for name, queries in ((place.events, False), (place.queries, True)):  # the queries come after their clicks
            chosen = [event for event in rest if isinstance(event, Query) == queries]
            send(place.kafka, name, [(None, encode(event), event.at_ms) for event in chosen])
        wait_for(lambda: count(place.kafka, place.ours) == 400, "what came")
        second = place.run()
        assert (second[0], "is running already" in second[1]) == (1, True), second[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    assert "400 records sent" in log.read_text()
    assert state_of(place.kafka, place.ours) == state_of(place.kafka, place.clean(found))


def test_from_other_brokers(place: Place, tmp_path: Path) -> None:
    theirs = LocalBroker(tmp_path / "theirs")
    theirs.start()
    try:
        found = visits(40)
        make(theirs, place.queries, place.events)
        send_apart(theirs, place.queries, place.events, found)
        code, said = place.run("--from-bootstrap-servers", theirs.bootstrap)
        assert (code, "40 records sent" in said) == (0, True), said
        assert state_of(place.kafka, place.ours) == state_of(place.kafka, place.clean(found))
        code, said = place.run("--from-bootstrap-servers", theirs.bootstrap)
        assert (code, "0 records sent" in said) == (0, True), said
    finally:
        theirs.kill()


def test_one_that_is_stopped_says_how_to_go_on(place: Place, tmp_path: Path) -> None:
    found, log = visits(15_000), tmp_path / "log"
    send_apart(place.kafka, place.queries, place.events, found)
    with place.running(log) as process:
        wait_for(lambda: count(place.kafka, place.ours) > 0, "a beginning")
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    said, there = log.read_text(), count(place.kafka, place.ours)
    if there < len(found):  # on a fast day it is done before
        assert (code, "the same command goes on" in said) == (1, True), said
    code, said = place.run()  # at once: it ended in order
    assert (code, f"{len(found) - there} records sent" in said) == (0, True), said
    assert "runs still" not in said


def test_fields_under_other_names(place: Place) -> None:
    send(place.kafka, place.events, [(b"k", raw({"user": 7, "at": AT_MS // 1000, "sku": "a"}), AT_MS)])
    flags = ("--map", "client_id=user", "--map", "timestamp=at", "--map", "object_id=sku", "--set", "action_name=click")
    code, said = place.run(*flags, "--timestamp-unit", "s", "--dry-run", names=(place.events,))
    assert (code, "1 records would go" in said, count(place.kafka, place.ours)) == (0, True, 0), said
    code, said = place.run(*flags, "--timestamp-unit", "s", names=(place.events,))
    assert code == 0, said
    [one] = records_of(place.kafka, place.ours)
    assert (one.key, json.loads(one.value)["event_attributes"]["object"]["object_id"]) == (b"7", "a")


def test_items_and_their_removals(place: Place) -> None:
    item = raw({"title": "Stand"})
    send(place.kafka, place.events, [(b"i1", item, AT_MS), (b"i2", item, AT_MS + 1), (b"i1", None, AT_MS + 2)])
    code, said = place.run("--items", names=(place.events,))
    assert (code, "3 records sent" in said) == (0, True), said
    found = {(one.key, one.value, one.timestamp) for one in records_of(place.kafka, place.ours)}
    assert found == {(b"i1", item, AT_MS), (b"i2", item, AT_MS + 1), (b"i1", None, AT_MS + 2)}


def test_what_cannot_be_meant_is_said(place: Place) -> None:
    code, said = place.run(names=(place.ours,))
    assert (code, "cannot be where they come from" in said) == (2, True), said
    code, said = place.run(names=("nobody.knows",))
    assert (code, "There is no topic nobody.knows" in said) == (1, True), said
    for flags, sentence in (
        ([], "give a FILE or --from-topic"),
        (["--from-topic", "a", __file__], "give a FILE or --from-topic"),
        (["--from-topic", "a", "--skip", "3"], "goes on by itself"),
        ([__file__, "--follow"], "belong to --from-topic"),
        (["--from-topic", "a", "--follow", "--dry-run"], "follows nothing"),
    ):
        result = CliRunner().invoke(main, ["import", *flags])
        assert (result.exit_code, sentence in result.output) == (2, True), result.output
