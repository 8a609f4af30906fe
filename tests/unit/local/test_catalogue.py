"""The list of topics: a disk that is full changes nothing, and a kill at any step leaves a folder that opens."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from kafka.protocol.admin import DeleteTopicsRequest

from headrace.local.broker import catalogue as module
from headrace.local.broker.api import Asked
from headrace.local.broker.batches import produced
from headrace.local.broker.catalogue import Catalogue
from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.partition_log import PartitionLog
from headrace.local.broker.topic_requests import Address, TopicRequests
from headrace.local.broker.topics import Topic
from record_batches import batch_of


class Killed(BaseException):
    """Stands for a kill -9: nothing that the broker would still do is done."""


def failing(error: BaseException) -> Callable[[Path, str], None]:
    def replace_text(path: Path, text: str) -> None:
        raise error

    return replace_text


def opened(folder: Path) -> Catalogue:
    return Catalogue(folder, most_partitions=10)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def one_record(log: PartitionLog) -> None:
    records = batch_of([b"x"])
    log.append(records, produced(records), None)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def begin() -> None:
        monkeypatch.setattr(module, "replace_text", failing(OSError(errno.ENOSPC, "no space left on device")))

    return begin


def test_a_topic_that_cannot_be_written_is_not_there(tmp_path: Path, full: Callable[[], None]) -> None:
    catalogue, topic = opened(tmp_path), Topic("t", uuid4(), 3)
    before = open_files()
    full()
    with pytest.raises(Refusal, match="no space left") as refused:
        catalogue.put(topic)
    assert refused.value.code == Code.KAFKA_STORAGE_ERROR
    assert list(catalogue) == []
    assert open_files() == before
    assert list((tmp_path / "topics").iterdir()) == []
    catalogue.close()


def test_a_topic_that_cannot_be_changed_is_as_it_was(tmp_path: Path, full: Callable[[], None]) -> None:
    catalogue, topic = opened(tmp_path), Topic("t", uuid4(), 1)
    catalogue.put(topic)
    one_record(catalogue.log(topic, 0))
    full()
    with pytest.raises(Refusal, match="no space left"):
        catalogue.put(topic.with_partitions(2))
    with pytest.raises(Refusal, match="no space left"):
        catalogue.delete(topic)
    assert list(catalogue) == [topic]
    assert catalogue.log(topic, 0).next_offset == 1
    with pytest.raises(Refusal, match="does not host"):
        catalogue.log(catalogue.topic("t"), 1)
    catalogue.close()
    again = opened(tmp_path)
    assert again.log(again.topic("t"), 0).next_offset == 1
    again.close()


def test_no_producer_gets_an_id_that_is_not_written_down(tmp_path: Path, full: Callable[[], None]) -> None:
    catalogue = opened(tmp_path)
    full()
    for _ in range(3):
        with pytest.raises(Refusal, match="no space left"):
            catalogue.producer_id()
    catalogue.close()


@pytest.mark.parametrize("more", [False, True])
def test_a_kill_while_a_topic_is_made_or_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: bool) -> None:
    catalogue, topic = opened(tmp_path), Topic("t", uuid4(), 1)
    if more:
        catalogue.put(topic)
    with monkeypatch.context() as patched:
        patched.setattr(module, "replace_text", failing(Killed()))
        with pytest.raises(Killed):
            catalogue.put(topic.with_partitions(2))
    again = opened(tmp_path)
    assert [each.partitions for each in again] == ([1] if more else [])
    again.put(topic.with_partitions(2))
    assert again.log(again.topic("t"), 1).next_offset == 0
    again.close()
    catalogue.close()


def test_a_kill_between_the_new_text_and_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = opened(tmp_path)
    catalogue.put(Topic("t", uuid4(), 1))

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            catalogue.put(Topic("u", uuid4(), 1))
    again = opened(tmp_path)
    assert [topic.name for topic in again] == ["t"]
    again.close()
    catalogue.close()


def test_a_kill_while_a_topic_is_deleted_leaves_no_offsets_to_its_successor(tmp_path: Path) -> None:
    catalogue, topic, forgotten = opened(tmp_path), Topic("t", uuid4(), 1), list[str]()
    catalogue.put(topic)

    def forget(name: str) -> None:
        assert catalogue.topic(name) == topic
        forgotten.append(name)
        raise Killed

    requests = TopicRequests(catalogue, Address("127.0.0.1", 1), forget)
    (delete,) = [api for api in requests.apis if api.request is DeleteTopicsRequest]
    body = DeleteTopicsRequest(version=3, topic_names=["t"], timeout_ms=1)

    async def story() -> None:
        with pytest.raises(Killed):
            await delete.answer(Asked(body, 3, "", ""))

    asyncio.run(story())
    assert forgotten == ["t"]
    catalogue.close()
    again = opened(tmp_path)
    assert list(again) == [topic]
    again.close()


def test_logs_without_their_list_are_left_alone(tmp_path: Path) -> None:
    catalogue, topic = opened(tmp_path), Topic("t", uuid4(), 1)
    catalogue.put(topic)
    one_record(catalogue.log(topic, 0))
    catalogue.close()
    away = (tmp_path / "topics.json").rename(tmp_path / "away")
    with pytest.raises(ValueError, match=r"topics\.json is gone, but the topics' logs are there: put it back"):
        opened(tmp_path)
    away.rename(tmp_path / "topics.json")
    again = opened(tmp_path)
    assert again.log(again.topic("t"), 0).next_offset == 1
    again.close()


def test_says_what_was_cut_and_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue, topic = opened(tmp_path), Topic("t", uuid4(), 1)
    catalogue.put(topic)
    for _ in range(3):
        one_record(catalogue.log(topic, 0))
    catalogue.close()
    (path,) = tmp_path.glob("topics/*/0.log")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        opened(tmp_path).close()
    (said,) = [one.getMessage() for one in caplog.records]
    assert "t-0: ends at offset 1 now" in said
    assert "checksum" in said
    assert str(path.with_name("0.1.cut")) in said
    assert path.read_bytes() + path.with_name("0.1.cut").read_bytes() == bytes(data)
