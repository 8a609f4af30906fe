"""The public trivago log (RecSys Challenge 2019) read as searches, views and clicks, in the order they happened.

Source: https://recsys.trivago.cloud/challenge/dataset/ (registration; research use, never redistribute). One row is one
step of a session. `search for *`, `filter selection` and `change of sort order` are searches, `interaction item *` are
views, a `clickout item` is a list with prices and the click on one of its items.

The log names no query, so a search's text is put together from what the shopper had chosen: the place last searched
for in the session, the city, the filters. Many sessions begin behind their search, and some lists belong to a city or
filters that no search announced: there a search is put in, at the same time, before the step that needs it. So is one
where the last search is more than 30 minutes old: the list that a shopper sees after that was asked for again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COLUMNS: Final = (
    "user_id", "session_id", "timestamp", "step", "action_type", "reference", "city", "current_filters", "impressions",
    "prices",
)  # fmt: skip
SEARCH_LIVES_MS: Final = 30 * 60_000

Row = tuple[str, str, int, int, str, str, str, str | None, str | None, str | None]
"""One row of the file, columns as in COLUMNS."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A shopper asked for a list."""

    shopper: str
    session: str
    query_id: str
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Viewed:
    """A shopper looked at one item: its pictures, ratings, details or deals."""

    shopper: str
    session: str
    query_id: str
    at_ms: int
    item: str


@dataclass(frozen=True, slots=True)
class ClickedOut:
    """A shopper clicked one item of a list that was shown.

    Attributes:
        text: of the search the list belongs to.
        items: as shown, first to last.
        prices: of these, NaN where unknown.
        item: what was clicked; not always one of ``items``.
    """

    shopper: str
    session: str
    query_id: str
    at_ms: int
    text: str
    items: tuple[str, ...]
    prices: tuple[float, ...]
    item: str


Step = Searched | Viewed | ClickedOut


def read(path: Path, limit: int | None = None) -> list[Row]:
    """The rows of the Parquet file in the order of (timestamp, step), ties in file order.

    Args:
        path: ``trivago/events.parquet`` under the data folder.
        limit: only so many rows, the first in that order.

    Raises:
        FileNotFoundError: there is no such file; the text says where the data comes from.
    """
    import pyarrow.parquet  # only who replays the log needs it

    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: get the RecSys Challenge 2019 log at https://recsys.trivago.cloud/challenge/dataset/"
        )
    table = pyarrow.parquet.read_table(path, columns=list(COLUMNS))
    rows: list[Row] = list(zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True))
    rows.sort(key=lambda row: (row[2], row[3]))
    return rows[:limit]


@dataclass(slots=True)
class _Session:
    place: str = ""
    city: str = ""
    filters: str = ""
    query_id: str = ""
    text: str = ""
    at_ms: int = 0
    searches: int = 0


def steps(rows: Iterable[Row]) -> Iterator[Step]:
    """What happened, in the order of the rows; a row that says nothing usable gives nothing."""
    sessions: dict[str, _Session] = {}
    for shopper, session, timestamp, _, action, reference, city, filters, impressions, prices in rows:
        at_ms = timestamp * 1000
        now = sessions.setdefault(session, _Session())
        if action.startswith("interaction item"):
            if not reference.isdecimal():
                continue
            if not now.query_id or now.city != city or at_ms - now.at_ms > SEARCH_LIVES_MS:
                yield _search(now, shopper, session, at_ms, now.place if now.city == city else "", city, "")
            yield Viewed(shopper, session, now.query_id, at_ms, reference)
        elif action == "clickout item":
            if (now.city, now.filters) != (city, filters or "") or at_ms - now.at_ms > SEARCH_LIVES_MS:
                yield _search(now, shopper, session, at_ms, now.place if now.city == city else "", city, filters or "")
            items = tuple((impressions or "").split("|"))
            yield ClickedOut(
                shopper, session, now.query_id, at_ms, now.text, items, _numbers(prices or "", len(items)), reference
            )
        elif action.startswith("search for"):
            yield _search(now, shopper, session, at_ms, reference, city, filters or "")
        elif action in ("filter selection", "change of sort order"):
            yield _search(now, shopper, session, at_ms, now.place if now.city == city else "", city, filters or "")


def _search(now: _Session, shopper: str, session: str, at_ms: int, place: str, city: str, filters: str) -> Searched:
    now.place, now.city, now.filters, now.at_ms = place, city, filters, at_ms
    now.searches += 1
    now.query_id = f"{session}-{now.searches}"
    now.text = " ".join(part for part in (place if place != city else "", city, filters.replace("|", " ")) if part)
    return Searched(shopper, session, now.query_id, at_ms, now.text)


def _numbers(text: str, count: int) -> tuple[float, ...]:
    values = [float(part) if part else float("nan") for part in text.split("|")] if text else []
    return tuple((values + [float("nan")] * count)[:count])
