"""A fetch that waits, while its topic goes and comes back, and for longer than anybody should."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka.protocol.consumer import FetchRequest
from kafka.record.memory_records import MemoryRecords

from headrace.local.broker import record_requests as module
from headrace.local.broker.api import Asked
from headrace.local.broker.batches import produced
from headrace.local.broker.catalogue import Catalogue
from headrace.local.broker.codes import Code
from headrace.local.broker.record_requests import RecordRequests
from headrace.local.broker.topics import Topic
from record_batches import batch_of


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(tmp_path, most_partitions=10)
    opened.put(Topic("t", uuid4(), 1))
    yield opened
    opened.close()


def waiting(catalogue: Catalogue, max_wait_ms: int = 2**31 - 1) -> "asyncio.Task[Any]":
    """A fetch of what comes next in `t`."""
    (fetch,) = [api for api in RecordRequests(catalogue).apis if api.request is FetchRequest]
    partition = FetchRequest.FetchTopic.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=9_999)
    topic = FetchRequest.FetchTopic(topic="t", partitions=[partition])
    body = FetchRequest(version=11, max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=9_999, topics=[topic])

    async def answered() -> Any:
        return await fetch.answer(Asked(body, 11, "", ""))

    return asyncio.create_task(answered())


def append(catalogue: Catalogue, value: bytes) -> None:
    records = batch_of([value])
    catalogue.log(catalogue.topic("t"), 0).append(records, produced(records), None)


def partition_of(response: Any) -> Any:
    return response.responses[0].partitions[0]


def test_a_deleted_topic_ends_the_wait_and_its_successor_is_another(catalogue: Catalogue) -> None:
    async def story() -> None:
        early = waiting(catalogue)
        await asyncio.sleep(0)
        catalogue.delete(catalogue.topic("t"))
        assert partition_of(await asyncio.wait_for(early, 10)).error_code == Code.UNKNOWN_TOPIC_OR_PARTITION
        catalogue.put(Topic("t", uuid4(), 1))
        during = waiting(catalogue)
        await asyncio.sleep(0)
        catalogue.delete(catalogue.topic("t"))
        catalogue.put(Topic("t", uuid4(), 1))  # before the one that waits has looked
        await asyncio.sleep(0.05)
        assert not during.done(), "it waits for the new one's records"
        append(catalogue, b"new")
        found = partition_of(await asyncio.wait_for(during, 10))
        assert [record.value for batch in MemoryRecords(found.records) for record in batch] == [b"new"]
        assert catalogue.log(catalogue.topic("t"), 0).listeners == set()

    asyncio.run(story())


def test_nobody_waits_for_ever(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_WAIT_MS", 50)

    async def story() -> None:
        found = partition_of(await asyncio.wait_for(waiting(catalogue), 10))
        assert (found.error_code, len(found.records)) == (Code.NONE, 0)

    asyncio.run(story())


def test_who_hangs_up_is_not_told(catalogue: Catalogue) -> None:
    async def story() -> None:
        gone = waiting(catalogue)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        assert catalogue.log(catalogue.topic("t"), 0).listeners == set()

    asyncio.run(story())
