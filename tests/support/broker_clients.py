"""One promise over three Kafka clients, so that a contract of brokers is written once."""

import asyncio
import importlib
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

CLIENTS = ("kafka-python", "aiokafka", "confluent-kafka")
MODULES = {
    "kafka-python": "kafka_python_client",
    "aiokafka": "aiokafka_client",
    "confluent-kafka": "confluent_client",
}
WAIT_S = 30.0
"""No answer within this is a failure."""


class Refused(Exception):
    """The broker said no. Kafka's number of the error; below zero it is the client that says so."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"error {code}: {text}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Sent:
    """A record to send."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Got:
    """A record that was read."""

    offset: int
    value: bytes | None
    key: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Described:
    """A topic; ``topic_id`` as 32 hexadecimal digits, None where the client's protocol has none."""

    partitions: tuple[int, ...]
    topic_id: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """A group of consumers: its state ("stable", "empty", ...) and how many members it has."""

    state: str
    members: int


@dataclass(frozen=True, slots=True)
class Sending:
    """How records are sent; acknowledgements are always asked of all replicas.

    Attributes:
        compression: None, "gzip", "snappy", "lz4" or "zstd".
        idempotent: with a producer id and sequence numbers.
        largest_bytes: what the client itself refuses to send.
        patience_s: how long a record is tried.
        answer_s: how long an answer is waited for before a request is sent again.
        transaction: the id of a transaction around them all.
    """

    compression: str | None = None
    idempotent: bool = False
    largest_bytes: int = 8 << 20
    patience_s: float = WAIT_S
    answer_s: float = 5.0
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How records are read: the most bytes of one partition and of one answer, and how long is waited for records."""

    partition_bytes: int = 1 << 20
    answer_bytes: int = 50 << 20
    patience_s: float = WAIT_S


PLAIN, USUAL = Sending(), Reading()


class Broker(Protocol):
    """A broker on this machine: Apache Kafka or the embedded one."""

    bootstrap: str

    @property
    def pid(self) -> int | None: ...
    @property
    def version(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Client(Protocol):
    """What every client can do. All raise `Refused`."""

    def close(self) -> None: ...

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None: ...
    def delete(self, topic: str) -> None: ...
    def topics(self) -> set[str]: ...
    def describe(self, topic: str) -> Described: ...
    def grow(self, topic: str, partitions: int) -> None: ...

    def configs(self, topic: str) -> dict[str, str]:
        """Every setting that the topic has, defaults of the broker included."""
        ...

    def configure(self, topic: str, settings: Mapping[str, str]) -> None: ...

    def send(self, topic: str, records: Iterable[Sent], how: Sending = PLAIN) -> list[int]:
        """The offsets, in the order of the records."""
        ...

    def read(self, topic: str, count: int, start: int = 0, partition: int = 0, how: Reading = USUAL) -> list[Got]:
        """At least so many records from an offset on; fewer when patience ends."""
        ...

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        """The first offset and the one after the last."""
        ...

    def offset_at(self, topic: str, timestamp_ms: int, partition: int = 0) -> int | None: ...

    def forget(self, topic: str, before: int, partition: int = 0) -> int:
        """DeleteRecords; the first offset that is left."""
        ...

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None: ...
    def committed(self, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int | None]: ...
    def groups(self) -> set[str]: ...
    def group(self, name: str) -> Group: ...


class GroupAdmin(Client, Protocol):
    """What aiokafka cannot."""

    def delete_group(self, name: str) -> None: ...
    def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None: ...


def make_client(name: str, bootstrap: str) -> Any:
    """A client by its name in `CLIENTS`."""
    return importlib.import_module(MODULES[name]).make(bootstrap)


@dataclass
class Loop:
    """An event loop on a thread of its own, for clients that need one."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: "Coroutine[Any, Any, Any]", within_s: float = 2 * WAIT_S) -> Any:
        """What a coroutine gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(within_s)

    def close(self) -> None:
        """Ends the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()
