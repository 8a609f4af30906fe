"""Record batches as a producer sends them, made by kafka-python."""

from collections.abc import Sequence
from typing import Any

from kafka.record.default_records import DefaultRecordBatchBuilder


def batch_of(
    values: Sequence[bytes],
    first_ms: int = 1_000,
    producer: tuple[int, int, int] = (-1, -1, -1),
    compression: int = 0,
) -> bytes:
    """One batch with a record a value, a millisecond apart; `producer` is (id, epoch, first sequence)."""
    builder: Any = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=False,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=producer[2],
        batch_size=1 << 20,
    )
    for number, value in enumerate(values):
        builder.append(number, first_ms + number, None, value, [])
    return bytes(builder.build())
