"""What a caller may ask a worker and what it answers, as bounded values; pure.

Everything that comes in is bounded by its type, so a request that parses is one that can be afforded. A request that
does not parse is a BadRequest that names the field.
"""

from typing import Annotated, Any, Literal

import msgspec

from headrace import BadRequest

MAX_ITEMS = 1_000
MAX_AT_MS = 32_503_680_000_000  # the year 3000: far enough, and small enough for every sum of times in int64

QueryText = Annotated[str, msgspec.Meta(max_length=1_000)]
ShortId = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
ItemId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Price = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
AtMs = Annotated[int, msgspec.Meta(ge=0, le=MAX_AT_MS)]
DeadlineMs = Annotated[int, msgspec.Meta(ge=1, le=60_000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=10_000)]

Student = Literal["computed", "partial", "absent", "skipped"]
Rung = Literal["without_neighbours", "fewer_pairs", "without_student", "fewer_items", "without_state", "prior_order"]
ScoreSource = Literal["absent", "pending", "computed", "student_cache", "teacher_cache"]
SOURCES: tuple[ScoreSource, ...] = ("absent", "pending", "computed", "student_cache", "teacher_cache")
"""Where the score of an item's text comes from; elsewhere they are known by their place here."""


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item to score, with the price the shopper will see where that is known."""

    id: ItemId
    price: Price | None = None


Offers = Annotated[tuple[ItemId | Offer, ...], msgspec.Meta(max_length=MAX_ITEMS)]


class RankRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/rank``: how relevant is each of these items, for this query and this shopper, now?

    Attributes:
        items: in the order the search engine gave them; that order is itself a feature.
        client_id: the shopper; without it no history is read and nothing is learned from the answer.
        query_id: names the search in the events that will follow; without it nothing is learned from the answer.
        now_ms: the time to score as of; only a worker that runs with ``--trust-now`` accepts it.
        deadline_ms: how long the caller waits, counted from the arrival at the worker.
        explain: say per item which features were missing and what the others were.
    """

    query: QueryText
    items: Offers
    client_id: ShortId | None = None
    query_id: ShortId | None = None
    now_ms: AtMs | None = None
    deadline_ms: DeadlineMs | None = None
    explain: bool = False

    def ids(self) -> tuple[str, ...]:
        """The items' ids, in the order asked."""
        return tuple(item if isinstance(item, str) else item.id for item in self.items)

    def prices(self) -> list[float | None]:
        """The items' prices, None where the caller did not say, in the order asked."""
        return [None if isinstance(item, str) else item.price for item in self.items]


class FeaturesRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/features``: what the state knows about this query, these items and this shopper.

    Attributes:
        recent: at most so many of the shopper's newest actions come back.
        relevant: at most so many of the actions that touched these items or came under this query come back.
    """

    query: QueryText | None = None
    items: Offers = ()
    client_id: ShortId | None = None
    now_ms: AtMs | None = None
    recent: Count = 50
    relevant: Count = 50

    def ids(self) -> tuple[str, ...]:
        """The items' ids, in the order asked."""
        return tuple(item if isinstance(item, str) else item.id for item in self.items)


class ModelSaid(msgspec.Struct, frozen=True):
    """Which model answered.

    Attributes:
        version: of the bundle. parts: the digest of each of its parts.
        calibration_error: how far the student's and its teacher's scores are off as probabilities of relevance, on the
            one scale they share; None where the student's part does not say, or its scores are no probabilities.
    """

    version: str
    parts: dict[str, str]
    calibration_error: float | None = None


class Degraded(msgspec.Struct, frozen=True):
    """Which rung of the ladder answered, why, and how many items it scored."""

    rung: Rung
    reason: str
    scored: int


class ItemSaid(msgspec.Struct, frozen=True):
    """What one item's score was made of; ``features`` holds the values as the head saw them, after float16.

    ``source``: where the score of its text comes from, see ``RankAnswer.student_sources``.
    """

    id: str
    score: float | None
    missing: tuple[str, ...]
    features: dict[str, float]
    source: ScoreSource


class RankAnswer(msgspec.Struct, frozen=True):
    """The answer to ``POST /v1/rank``.

    Attributes:
        scores: one an item, in the order asked; None for an item that was not scored (``degraded`` says why).
        order: positions in the order asked, best first; scored items by score, then the others as they were asked.
        arm: the rollout arm; "champion" until rollouts exist.
        student: "computed" for every item, "partial", "absent" (the bundle has none, or no item's text is known) or
            "skipped" (no time, see ``degraded``).
        student_sources: where the scores of the items' texts come from -> how many: "teacher_cache" (computed before by
            the teacher), "student_cache" (computed before by this student), "computed" (now), "pending" (none yet, it
            is computed behind this answer), "absent" (none).
        no_text: items whose text the catalogue does not have. pending: as in ``student_sources``.
        missing: feature -> in how many of the scored items it was missing.
        ages: what was read -> how old the newest of it is, ms before now; None where there is nothing.
        logged: whether the features go to the log, so that the head can learn from what follows.
        timings_ms: stage -> time it took.
    """

    request_id: str
    scores: list[float | None]
    order: list[int]
    model: ModelSaid
    arm: str
    student: Student
    student_sources: dict[ScoreSource, int]
    no_text: int
    pending: int
    missing: dict[str, int]
    ages: dict[str, int | None]
    degraded: Degraded | None
    logged: bool
    timings_ms: dict[str, float]
    items: list[ItemSaid] | None = None


class EventsAnswer(msgspec.Struct, frozen=True):
    """The answer to ``POST /v1/events``: how many are in Kafka, and which were refused and why."""

    accepted: int
    refused: list["RefusedEvent"]


class RefusedEvent(msgspec.Struct, frozen=True):
    """An event that was not taken: its position in the body, and what is wrong with it."""

    index: int
    field: str
    reason: str
    detail: str


class ErrorSaid(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer that is not a success."""

    error: str
    message: str
    request_id: str
    field: str = ""


def _field(message: str) -> tuple[str, str]:
    """The dotted path and the plain message of what msgspec says, which ends in ``- at `$.a[1].b```."""
    text, _, path = message.partition(" - at `")
    for lead in ("Object missing required field `", "Object contains unknown field `"):
        if text.startswith(lead):
            inside = path.rstrip("`").removeprefix("$").removeprefix(".")
            name = text.removeprefix(lead).rstrip("`")
            return f"{inside}.{name}".lstrip("."), "is required" if "missing" in lead else "is not a known field"
    return path.rstrip("`").removeprefix("$").removeprefix(".") or "body", text


def _parse(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(*_field(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("body", str(error)) from None


_rank = msgspec.json.Decoder(RankRequest)
_features = msgspec.json.Decoder(FeaturesRequest)


def rank_request(body: bytes, trust_now: bool) -> RankRequest:
    """The body of ``POST /v1/rank``.

    Raises:
        BadRequest: names the field; also for ``now_ms`` where the worker does not trust it.
    """
    request: RankRequest = _parse(_rank, body)
    _check_now(request.now_ms, trust_now)
    return request


def features_request(body: bytes, trust_now: bool) -> FeaturesRequest:
    """The body of ``POST /v1/features``.

    Raises:
        BadRequest: names the field; also for ``now_ms`` where the worker does not trust it.
    """
    request: FeaturesRequest = _parse(_features, body)
    _check_now(request.now_ms, trust_now)
    return request


def _check_now(now_ms: int | None, trust_now: bool) -> None:
    if now_ms is not None and not trust_now:
        raise BadRequest("now_ms", "this worker tells the time itself; it takes now_ms only with --trust-now")
