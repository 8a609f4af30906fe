"""The order of steps of a micro-batch, and what it says is durable; the laws themselves are in tests/laws."""

from headrace.streams.ingestion import Ingestion, Record, Rejected
from headrace.streams.store import MemoryStore
from shopping_logs import LIMITS, SMALL, START_MS, source


def unreadable(offset: int, partition: int = 0) -> Record:
    return Record(partition, offset, b"shopper-0", b"{", START_MS)


def an_ingestion(rejected: list[Rejected], store: MemoryStore | None = None) -> Ingestion:
    return Ingestion(store or MemoryStore(SMALL), source(2), SMALL, LIMITS, rejected.extend)


def test_what_is_acknowledged_never_goes_back() -> None:
    ingestion = an_ingestion([])
    ingestion.take([unreadable(offset) for offset in range(6)])
    ingestion.take([unreadable(offset) for offset in range(3)])  # the driver went back and reads again
    assert ingestion.advance()
    assert ingestion.acknowledged() == {0: 6}


def test_nothing_below_what_is_committed_is_acknowledged() -> None:
    ingestion = an_ingestion([])
    ingestion.take([unreadable(0)])
    ingestion.assigned({0: 5})  # meanwhile another worker had the partition
    assert ingestion.advance()
    assert ingestion.acknowledged().get(0, 5) == 5


def test_a_partition_that_comes_back_is_not_acknowledged_below_its_new_position() -> None:
    ingestion = an_ingestion([])
    ingestion.take([unreadable(0)])
    assert ingestion.advance()
    ingestion.assigned({0: 5})  # lost and won again unheard; another worker had it in between
    assert ingestion.acknowledged().get(0, 5) == 5
