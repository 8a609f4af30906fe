"""What a partition knows of its idempotent producers: which batch comes next, and which it has already. Pure."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from headrace.local.broker.batches import Batch
from headrace.local.broker.codes import Code, Refusal

_LAST_SEQUENCE = 2**31 - 1
_KEPT_BATCHES = 5  # a producer has at most five requests in flight
_KEPT_PRODUCERS = 10_000


@dataclass(slots=True)
class _Producer:
    epoch: int
    # (first sequence, last sequence, base offset), the newest last
    batches: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=_KEPT_BATCHES))


class Producers:
    """The idempotent producers of one partition."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Producer] = OrderedDict()

    def duplicate(self, batch: Batch) -> int | None:
        """The base offset under which the log has this batch already; None when it is to be appended.

        A producer that is not known may begin anywhere: the log may have forgotten it.

        Raises:
            Refusal: of an older epoch, or a batch before this one is missing.
        """
        if batch.producer_id < 0:
            return None
        known = self._known.get(batch.producer_id)
        if known is None:
            return None
        if batch.producer_epoch < known.epoch:
            raise Refusal(Code.INVALID_PRODUCER_EPOCH, "the producer has begun a newer epoch")
        if batch.producer_epoch > known.epoch:
            if batch.sequence != 0:
                raise Refusal(Code.OUT_OF_ORDER_SEQUENCE_NUMBER, "a new epoch begins with sequence 0")
            return None
        first, last = batch.sequence, _moved(batch.sequence, batch.count - 1)
        for had_first, had_last, base_offset in known.batches:
            if (first, last) == (had_first, had_last):
                return base_offset
        expected = _moved(known.batches[-1][1], 1)
        if first != expected:
            raise Refusal(Code.OUT_OF_ORDER_SEQUENCE_NUMBER, f"sequence {first} came where {expected} comes next")
        return None

    def appended(self, batch: Batch, base_offset: int) -> None:
        """Takes note of a batch that is in the log now."""
        if batch.producer_id < 0:
            return
        known = self._known.get(batch.producer_id)
        if known is None or known.epoch != batch.producer_epoch:
            known = self._known[batch.producer_id] = _Producer(batch.producer_epoch)
        self._known.move_to_end(batch.producer_id)
        known.batches.append((batch.sequence, _moved(batch.sequence, batch.count - 1), base_offset))
        if len(self._known) > _KEPT_PRODUCERS:
            self._known.popitem(last=False)


def _moved(sequence: int, by: int) -> int:
    return (sequence + by) % (_LAST_SEQUENCE + 1)
