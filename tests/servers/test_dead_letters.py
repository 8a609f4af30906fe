from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from broker_clients import Broker
from headrace import BadEvent, TooLate
from headrace.commands.main import main
from headrace.streams.dead_letters import Note, dead_letter, note_record
from headrace.streams.ingestion import Record
from headrace.streams.letter_box import LetterBox
from headrace.streams.partitioners import partition_of
from headrace.streams.topics import Topic, admin_of, create_topics
from ubi_records import AT_MS, click, raw

PARTITIONS = 3
LATER_MS = AT_MS + 25 * 3_600_000
MISROUTED = BadEvent("key", "misrouted")


class Shop:
    """An events topic of its own with its letters."""

    def __init__(self, kafka: Broker, suffix: str) -> None:
        self.kafka, self.topic = kafka, f"search.events.v1.{suffix}"
        names = [self.topic, f"{self.topic}.dlq", f"{self.topic}.late"]
        with admin_of(kafka.bootstrap) as admin:
            create_topics(admin, [Topic(name, PARTITIONS) for name in names])

    def write(self, letters: Sequence[tuple[Record, BadEvent]]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap)
        for record, error in letters:
            letter = dead_letter(self.topic, record, error)
            producer.send(letter.topic, key=letter.key, value=letter.value, headers=list(letter.headers))
        producer.close()

    def note(self, note: Note) -> None:
        key, value, headers = note_record(note)
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap)
        producer.send(f"{self.topic}.dlq", key=key, value=value, headers=list(headers), partition=0).get(10)
        producer.close()

    def events(self) -> list[Any]:
        consumer = KafkaConsumer(bootstrap_servers=self.kafka.bootstrap, enable_auto_commit=False)
        places = [TopicPartition(self.topic, one) for one in range(PARTITIONS)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(places)
        found: list[Any] = []
        while any(consumer.position(place) < ends[place] for place in places):
            found += [one for records in consumer.poll(timeout_ms=200).values() for one in records]
        consumer.close()
        return found

    def headrace(self, *args: str) -> Result:
        flags = ["--bootstrap-servers", self.kafka.bootstrap, "--topic", self.topic]
        return CliRunner().invoke(main, ["dlq", args[0], *flags, *args[1:]])


@pytest.fixture
def shop(kafka: Broker, topic_suffix: str) -> Shop:
    return Shop(kafka, topic_suffix)


def misplaced(count: int, error: BadEvent = MISROUTED, timestamp_ms: int = AT_MS) -> list[tuple[Record, BadEvent]]:
    return [
        (Record(0, one, b"wrong key", raw(click(client_id=f"c{one}")), timestamp_ms), error) for one in range(count)
    ]


def test_misrouted_records_get_to_their_partition_once(shop: Shop) -> None:
    letters = misplaced(700)  # more than one batch
    shop.write(letters + letters[:50])  # a worker that started again wrote some twice
    dry = shop.headrace("redrive", "--dry-run")
    assert (dry.exit_code, "700 would be put back" in dry.output) == (0, True), dry.output
    assert shop.events() == []
    first = shop.headrace("redrive")
    assert (first.exit_code, f"700 put back into {shop.topic}." in first.output) == (0, True), first.output
    found = shop.events()
    assert Counter(one.value for one in found) == Counter(record.value for record, _ in letters)
    for one in found:
        assert one.partition == partition_of(one.key, PARTITIONS)
        assert one.timestamp == AT_MS
    again = shop.headrace("redrive")
    assert "\n0 put back" in f"\n{again.stdout}", again.output
    assert len(shop.events()) == 700
    assert "0 letters in" in shop.headrace("list").output
    assert "700 letters in" in shop.headrace("list", "--all").output


def test_after_a_crash_each_goes_out_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(misplaced(20))
    noted = LetterBox._note

    def crash(step: str) -> None:
        def note(box: LetterBox, said: Note) -> int:
            if said.step == step:
                raise KeyboardInterrupt
            return noted(box, said)

        monkeypatch.setattr(LetterBox, "_note", note)

    crash("done")
    assert shop.headrace("redrive").exit_code != 0
    assert len(shop.events()) == 20
    monkeypatch.setattr(LetterBox, "_note", noted)
    for _ in range(2):
        assert "0 put back" in shop.headrace("redrive").output
        assert len(shop.events()) == 20


def test_after_a_crash_before_they_went_out_they_go_out(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(misplaced(20))
    sent = KafkaProducer.send

    def send(producer: KafkaProducer, topic: str, **record: Any) -> Any:
        if topic == shop.topic and len(crashed) < 5:
            crashed.append(topic)
        elif topic == shop.topic:
            raise KeyboardInterrupt
        return sent(producer, topic, **record)

    crashed: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(KafkaProducer, "send", send)
        assert shop.headrace("redrive").exit_code != 0
    assert len(shop.events()) == 5
    again = shop.headrace("redrive")
    assert "15 put back" in again.output, again.output
    assert len({one.value for one in shop.events()}) == len(shop.events()) == 20


def test_two_at_the_same_time_do_not_both_send(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(misplaced(20))
    counted = LetterBox.census

    def census(box: LetterBox) -> Any:
        found = counted(box)
        shop.note(Note("intent", "another", ("a",), {0: 0}))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(LetterBox, "census", census)
        result = shop.headrace("redrive")
    assert result.exit_code == 1
    assert "Another redrive" in result.output
    assert shop.events() == []
    assert "20 put back" in shop.headrace("redrive").output


def test_filters_and_what_stays(shop: Shop) -> None:
    broken = (Record(1, 5, b"k", b"\x1b[31m{", AT_MS), BadEvent("", "not_json", "why"))
    shop.write([*misplaced(2), broken])
    listed = shop.headrace("list").output
    assert "3 letters in" in listed
    assert "\x1b" not in listed
    assert "2 letters in" in shop.headrace("list", "--reason", "misrouted").output
    assert "0 put back" in shop.headrace("redrive", "--reason", "too_deep").output
    result = shop.headrace("redrive").output
    assert "2 put back" in result
    assert "1 stay: they would be refused again (not_json)" in result
    assert "1 letters in" in shop.headrace("list").output


def test_show_prints_headers_and_bytes_escaped(shop: Shop) -> None:
    shop.write([(Record(1, 5, b"k\0", b"\x1b[31m{", AT_MS), BadEvent("a", "not_json", "why\x07"))])
    place = next(line.split()[0] for line in shop.headrace("list").output.splitlines() if "not_json" in line)
    shown = shop.headrace("show", place)
    assert shown.exit_code == 0, shown.output
    for text in (r"\x1b[31m{", r"k\x00", r"why\x07", f"{shop.topic} 1:5", "2025-06-01T12:00:00.123Z"):
        assert text in shown.output
    assert "no letter" in shop.headrace("show", "0:99").output
    assert shop.headrace("show", "here").exit_code == 2


def test_a_late_one_stays_until_the_limit_or_its_timestamp_changes(shop: Shop) -> None:
    shop.write(misplaced(1, TooLate("timestamp", "late"), LATER_MS))
    stays = shop.headrace("redrive", "--late").output
    assert "0 put back" in stays
    assert "--late-hours" in stays
    assert "1 put back" in shop.headrace("redrive", "--late", "--at-event-time").output
    assert [one.timestamp for one in shop.events()] == [AT_MS]


def test_a_late_one_goes_back_as_it_was_when_the_limit_is_raised(shop: Shop) -> None:
    shop.write(misplaced(1, TooLate("timestamp", "late"), LATER_MS))
    assert "1 put back" in shop.headrace("redrive", "--late", "--late-hours", "48").output
    assert [one.timestamp for one in shop.events()] == [LATER_MS]


def test_a_topic_that_is_not_there_is_named_with_the_way_out(kafka: Broker, topic_suffix: str) -> None:
    result = CliRunner().invoke(
        main, ["dlq", "list", "--bootstrap-servers", kafka.bootstrap, "--topic", f"nothing.{topic_suffix}"]
    )
    assert result.exit_code == 1
    assert "headrace topics create" in result.output
