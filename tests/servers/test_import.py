import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kafka.errors import KafkaTimeoutError
from pyarrow import parquet, table

from broker_clients import Broker
from consumed_topics import records_of
from headrace.commands import import_
from headrace.commands.main import main
from headrace.streams.events import Click, EventLimits, decode
from headrace.streams.partitioners import partition_of
from headrace.streams.topic_writer import TopicWriter
from headrace.streams.topics import Topic, admin_of, create_topics
from ubi_records import AT, AT_MS, click, impression, query, raw

PARTITIONS = 3
KEPT = {"retention.ms": "-1"}


@pytest.fixture
def topic(kafka: Broker, topic_suffix: str) -> str:
    name = f"search.events.v1.{topic_suffix}"
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(name, PARTITIONS, settings=KEPT)])
    return name


def headrace_import(kafka: Broker, topic: str, file: Path, *args: str) -> Result:
    flags = ["--bootstrap-servers", kafka.bootstrap, "--topic", topic]
    return CliRunner().invoke(main, ["import", str(file), *flags, *args])


def test_json_lines_go_in_byte_for_byte_at_their_event_time(kafka: Broker, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [raw(query()), raw(impression("a", "b")), b'{"unread":  1,' + raw(click(client_id="c2"))[1:]]
    file.write_bytes(b"\n".join(lines) + b"\n")
    result = headrace_import(kafka, topic, file)
    assert result.exit_code == 0, result.output
    assert f"3 rows sent to {topic}, 0 refused." in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl"]
    found = records_of(kafka, topic)
    assert {one.value for one in found} == set(lines)
    for one in found:
        assert (one.timestamp, one.partition) == (AT_MS, partition_of(one.key, PARTITIONS))
    assert [one.value for one in found if one.key == b"c1"] == lines[:2]


def test_bad_lines_are_kept_with_their_reason_and_the_rest_goes_in(kafka: Broker, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl.gz"
    lines = [
        raw(click()),
        b"{",
        b"\xff",
        b'{"x":"' + b"y" * 300_000 + b'"}',
        raw(click(timestamp="2099-01-01T00:00:00Z")),
    ]
    file.write_bytes(gzip.compress(b"\n".join(lines)))
    result = headrace_import(kafka, topic, file)
    assert result.exit_code == 1
    assert "1 rows sent" in result.output
    kept = [json.loads(line) for line in Path(f"{file}.rejected.jsonl").read_text().splitlines()]
    assert [(line["row"], line["reason"]) for line in kept] == [
        (2, "not_json"),
        (3, "bad_encoding"),
        (4, "too_large"),
        (5, "future"),
    ]
    assert [line["record"] for line in kept[:2]] == ["{", "\\xff"]
    assert len(records_of(kafka, topic)) == 1
    again = headrace_import(kafka, topic, file)
    assert again.exit_code == 1
    assert "move it away first" in again.output
    assert len(records_of(kafka, topic)) == 1


def test_parquet_with_columns_of_other_names(kafka: Broker, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "clicks.parquet"
    rows = {"user": [1, 2, None], "at": [AT_MS // 1000] * 3, "sku": ["a", "b", "c"], "rank": [1.0, None, 3.0]}
    parquet.write_table(table({**rows, "huge": ["x"] * 3}), file)
    flags = [
        *("--map", "client_id=user", "--map", "timestamp=at", "--map", "object_id=sku", "--map", "position=rank"),
        *("--set", "action_name=click", "--timestamp-unit", "s", "--partitioner", "crc32"),
    ]
    dry = headrace_import(kafka, topic, file, *flags, "--dry-run")
    assert (dry.exit_code, "2 rows would go to" in dry.output, "row 3: client_id" in dry.output) == (1, True, True)
    assert records_of(kafka, topic) == []
    result = headrace_import(kafka, topic, file, *flags)
    assert result.exit_code == 1
    assert "2 rows sent" in result.output
    found = records_of(kafka, topic)
    for one in found:
        assert one.partition == partition_of(one.key, PARTITIONS, "crc32")
    events = sorted((decode(one.value, EventLimits()) for one in found), key=lambda event: event.client_id)
    assert [(type(event), event.client_id) for event in events] == [(Click, "1"), (Click, "2")]


def test_a_column_that_is_not_there_is_named(kafka: Broker, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "clicks.parquet"
    parquet.write_table(table({"user": [1]}), file)
    result = headrace_import(kafka, topic, file, "--map", "client_id=shopper")
    assert result.exit_code == 2
    assert "clicks.parquet has no column 'shopper'; it has user." in result.output
    result = headrace_import(kafka, topic, file, "--map", "shopper=user")
    assert result.exit_code == 2
    assert "'shopper' is not a field of events" in result.output


def test_items_are_keyed_by_their_id(kafka: Broker, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_bytes(raw({"sku": "i1", "name": "Stand", "at": AT}) + b"\n" + raw({"name": "Stand"}))
    flags = ("--map", "item_id=sku", "--map", "title=name", "--map", "timestamp=at")
    result = headrace_import(kafka, topic, file, "--items", *flags)
    assert result.exit_code == 1
    assert "missing  key" in result.output
    assert [(one.key, one.timestamp) for one in records_of(kafka, topic)] == [(b"i1", AT_MS)]


def test_an_import_that_broke_off_says_how_to_go_on(
    kafka: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(raw(click(timestamp=AT_MS + one)) for one in range(100)))
    monkeypatch.setattr(import_, "_FLUSH_ROWS", 10)
    flushed = TopicWriter.flush

    def flush(writer: TopicWriter) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KafkaTimeoutError("gone")
        flushed(writer)

    calls: list[int] = []
    monkeypatch.setattr(TopicWriter, "flush", flush)
    result = headrace_import(kafka, topic, file)
    assert result.exit_code == 1
    assert "go on with --skip 30." in result.output
    assert "No answer from Kafka" in result.output
    result = headrace_import(kafka, topic, file, "--skip", "30")
    assert result.exit_code == 0, result.output
    found = [one.timestamp - AT_MS for one in records_of(kafka, topic)]
    assert set(found) == set(range(100))
    assert len(found) <= 110


def test_a_topic_that_does_not_keep_old_records_is_named(kafka: Broker, topic_suffix: str, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(raw(click()))
    missing = headrace_import(kafka, f"none.{topic_suffix}", file)
    assert "headrace topics create" in missing.output
    with admin_of(kafka.bootstrap) as admin:
        create_topics(
            admin,
            [
                Topic(f"short.{topic_suffix}", 3),
                Topic(f"append.{topic_suffix}", 3, settings={"message.timestamp.type": "LogAppendTime"}),
            ],
        )
    short = headrace_import(kafka, f"short.{topic_suffix}", file)
    assert "Warning" in short.output
    append = headrace_import(kafka, f"append.{topic_suffix}", file)
    assert (append.exit_code, "CreateTime" in append.output) == (1, True)


def test_a_parquet_that_is_none_ends_in_a_sentence(kafka: Broker, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(b"nothing")
    result = headrace_import(kafka, topic, file)
    assert result.exit_code == 2
    torn = tmp_path / "a.jsonl.gz"
    torn.write_bytes(gzip.compress(raw(click()) * 100)[:-20])
    result = headrace_import(kafka, topic, torn)
    assert result.exit_code == 1
    assert "cannot be read behind row" in result.output
