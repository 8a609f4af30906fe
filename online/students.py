"""What a student at work promises, whichever kind it is: for a request's pairs the scores that can be had in time.

Two kinds keep it: ``student.Student``, which compares vectors, and ``pair_student.PairStudent``, which reads query and
text together. Both belong to one student part and to the event loop's thread.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.online.batch import Batcher
from headrace.online.catalogue import Catalogue, Text
from headrace.online.pair_neighbours import Told
from headrace.online.scored import Known
from headrace.streams.score_cache import Accepted

Cached = Callable[[float], Awaitable[Sequence[bytes | None]]]


def nothing_told() -> Sequence[Told]:
    """No state, or nobody who reads it."""
    return ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a student sees it; B items.

    Attributes:
        query: as it was typed.
        ids, texts: [B], of the items; None for a text that the catalogue does not have.
        now_ms: the time to score as of.
        until_s: of the monotonic clock: what is not there by then is not waited for.
        encoders: computes what this request waits for. fillers: computes behind the requests.
        cached: what the score cache holds for the items, [B], or nothing if that is not known by a time of the
            monotonic clock; awaiting it costs no round trip of its own.
        told: what there is to tell beside each item's pair, [B], or nothing as long as the state is not known; asked
            after ``cached`` was awaited, and only by a student that reads neighbours.
    """

    query: str
    ids: tuple[str, ...]
    texts: Sequence[Text | None]
    now_ms: int
    until_s: float
    encoders: Batcher
    fillers: Batcher
    cached: Cached
    told: Callable[[], Sequence[Told]] = nothing_told


class StudentAtWork(Protocol):
    """One open student part."""

    @property
    def accepted(self) -> Accepted | None:
        """Whose scores of the cache in Redis it uses; None: it has no use for them and they need not be read."""

    @property
    def neighbours(self) -> bool:
        """Whether it reads behaviour neighbours beside a pair."""

    @property
    def calibration_error(self) -> float | None:
        """How far its scores are off as probabilities, as its part says; None where it does not say."""

    async def known(self, asked: Asked) -> Known:
        """The scores that can be had in time; what cannot is computed behind the request where that helps the next.

        Raises:
            Overloaded: too many wait for the encoder, and nothing can be said without it.
        """

    def prefill(self, catalogue: Catalogue, fillers: Batcher, room: int) -> int:
        """Has something made of at most so many new texts before anybody asks; of how many."""

    def pending(self) -> int:
        """How much is being made behind the requests."""

    def held(self) -> tuple[int, int]:
        """How many vectors or scores it keeps in memory, and about how many bytes they take."""

    def close(self) -> None:
        """Lets go of everything."""
