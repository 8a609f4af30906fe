"""The features by name: unit, meaning, and what stands there when it is unknown."""

from typing import Final, NamedTuple


class Feature(NamedTuple):
    """One column of the matrix.

    Attributes:
        name: what logs, heads and answers call it.
        unit: what the number counts.
        meaning: what it says about the item.
        missing: what stands there when it is unknown, and why that is no lie.
    """

    name: str
    unit: str
    meaning: str
    missing: str


_ALWAYS = "always known"
_NO_TOUCH = "0: the shopper never touched the item"
_NO_EDGE = "0, and the *_known feature is 0"

TABLE: Final[tuple[Feature, ...]] = (
    Feature("prior_log", "ln(1 + rank) / 3", "place in the order the request came in, 0 = first", _ALWAYS),
    Feature("prior_reciprocal", "1 / (1 + rank)", "the same, steep at the top", _ALWAYS),
    Feature("prior_linear", "rank / 25, at most 4", "the same, straight", _ALWAYS),
    Feature("list_long", "ln(1 + items) / 3", "length of the list; the same for all its items", _ALWAYS),
    Feature("student", "cosine or probability", "semantic relevance", "0, and student_known is 0"),
    Feature("student_known", "0 or 1", "there is a semantic score", _ALWAYS),
    Feature("price_known", "0 or 1", "there is a price", _ALWAYS),
    Feature("price_relative", "ln(price / list median), +-3", "dear or cheap in this list", "0, as the median"),
    Feature("price_rank", "share of the list that is cheaper", "place by price", "0, and price_known is 0"),
    Feature("price_lowest", "0 or 1", "nothing in the list is cheaper", "0"),
    Feature("price_from_touch", "|ln ratio|, at most 3", "price against the listed item touched last", "0"),
    Feature("shopper_new", "0 or 1", "no item touched in this visit; the same for all items", _ALWAYS),
    Feature("touched_elsewhere", "0 or 1", "touched items, none of them listed; the same for all items", _ALWAYS),
    Feature("touched", "0 or 1", "the shopper once touched this item", _ALWAYS),
    Feature("touched_last", "0 or 1", "nothing was touched after it", _NO_TOUCH),
    Feature("touched_visit", "0 or 1", "touched in this visit", _NO_TOUCH),
    Feature("touch_fresh_5min", "exp(-age / 5 min)", "how fresh the last touch is", _NO_TOUCH),
    Feature("touch_fresh_1h", "exp(-age / 1 h)", "the same, slower", _NO_TOUCH),
    Feature("touch_fresh_1d", "exp(-age / 1 d)", "the same, slowest", _NO_TOUCH),
    Feature("touch_order", "1 / (1 + listed items touched later)", "place by last touch", _NO_TOUCH),
    Feature("last_was_click", "0 or 1", "the last touch was a click", _NO_TOUCH),
    Feature("last_same_query", "0 or 1", "the last touch came from this query", _NO_TOUCH),
    Feature("views_visit", "ln(1 + n)", "views in this visit", _NO_TOUCH),
    Feature("clicks_visit", "ln(1 + n)", "clicks in this visit", _NO_TOUCH),
    Feature("views_before", "ln(1 + n)", "views in earlier visits", _NO_TOUCH),
    Feature("clicks_before", "ln(1 + n)", "clicks in earlier visits", _NO_TOUCH),
    Feature("carts", "ln(1 + n)", "times put into the cart", _NO_TOUCH),
    Feature("purchases", "ln(1 + n)", "times bought", _NO_TOUCH),
    Feature("next_below_touch", "exp(-(places - 1) / 2)", "stands below the listed item touched last", "0: none"),
    Feature("next_above_touch", "exp(-(places - 1) / 2)", "stands above it", "0: none"),
    Feature("next_below_click", "exp(-(places - 1) / 2)", "stands below the listed item clicked last", "0: none"),
    Feature("next_above_click", "exp(-(places - 1) / 2)", "stands above it", "0: none"),
    Feature("query_known", "0 or 1", "was shown for this query in the window", _ALWAYS),
    Feature("query_rate", "ln(rate / .05)", "click rate for this query, 20 exposures of .05 added", _NO_EDGE),
    Feature("query_shown", "ln(1 + E) / 3", "exposures for this query", "0: none"),
    Feature("query_clicked", "ln(1 + C) / 3", "clicks for this query", "0: none"),
    Feature("query_share", "0 .. 1", "share of the query's clicks", "0: none"),
    Feature("item_known", "0 or 1", "was shown often for some query", _ALWAYS),
    Feature("item_rate", "ln(rate / .05)", "click rate over its queries, 20 exposures of .05 added", _NO_EDGE),
    Feature("item_shown", "ln(1 + E) / 3", "exposures over its queries", "0: none"),
    Feature("item_clicked", "ln(1 + C) / 3", "clicks over its queries", "0: none"),
)

FEATURES: Final[tuple[str, ...]] = tuple(feature.name for feature in TABLE)
INDEX: Final[dict[str, int]] = {name: place for place, name in enumerate(FEATURES)}
