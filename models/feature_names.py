"""The features by name: unit, meaning, what stands there when it is unknown, and what of the list they depend on."""

from typing import Final, Literal, NamedTuple

Scope = Literal["item", "list", "order", "moment"]


class Feature(NamedTuple):
    """One column of the matrix.

    Attributes:
        name: what logs, heads and answers call it.
        scope: ``item``: depends on no other item of the list; ``list``: on which others are listed, not on their order;
            ``order``: on the order the request came in; ``moment``: of shopper and list, the same for every row.
        unit: what the number counts.
        meaning: what it says about the item.
        missing: what stands there when it is unknown, and why that is no lie.
    """

    name: str
    scope: Scope
    unit: str
    meaning: str
    missing: str


_ALWAYS = "always known"
_NO_TOUCH = "0: the shopper never touched the item"
_NOT_SO = "0: it is not so"
_NO_EDGE = "0: as a rate of .05; *_shown is 0 too"
_NO_PRICE = "0, and price_known is 0"

TABLE: Final[tuple[Feature, ...]] = (
    Feature("prior_log", "order", "ln(1 + rank) / 3", "place in the order of the request, 0 = first", _ALWAYS),
    Feature("prior_reciprocal", "order", "1 / (1 + rank)", "the same, steep at the top", _ALWAYS),
    Feature("student", "item", "cosine or probability", "semantic relevance", "0, and student_known is 0"),
    Feature("student_known", "item", "0 or 1", "there is a semantic score", _ALWAYS),
    Feature("price_known", "item", "0 or 1", "there is a price above 0", _ALWAYS),
    Feature("price_relative", "list", "ln(price / list median), +-3", "dear or cheap in this list", _NO_PRICE),
    Feature("price_rank", "list", "share of known prices below", "place by price, 0 = cheapest", _NO_PRICE),
    Feature("price_record", "order", "0 or 1", "cheaper than all that stand above it in the request", _NOT_SO),
    Feature("price_from_touch", "list", "|ln ratio|, at most 3", "price against the listed item touched last", "0"),
    Feature("untouched", "moment", "0 or 1", "the shopper never touched a listed item", _ALWAYS),
    Feature("after_view", "moment", "0 or 1", "the shopper's newest touch: a view of a listed item", _NOT_SO),
    Feature("after_view_1min", "moment", "exp(-age / 1 min)", "how long ago that was", _NOT_SO),
    Feature("after_click", "moment", "0 or 1", "the newest touch: a click, cart or purchase of a listed item", _NOT_SO),
    Feature("after_click_1min", "moment", "exp(-age / 1 min)", "how long ago that was", _NOT_SO),
    Feature("after_click_10min", "moment", "exp(-age / 10 min)", "the same, slower", _NOT_SO),
    Feature("after_same_query", "moment", "0 or 1", "that newest touch came from this query", _NOT_SO),
    Feature("search_15s", "moment", "exp(-age / 15 s)", "age of the shopper's newest search", "0: none"),
    Feature("search_5min", "moment", "exp(-age / 5 min)", "the same, slower", "0: none"),
    Feature("touched_last", "item", "0 or 1", "the shopper touched nothing after it", _NO_TOUCH),
    Feature("touch_fresh_5min", "item", "exp(-age / 5 min)", "how fresh the last touch is", _NO_TOUCH),
    Feature("touch_fresh_1d", "item", "exp(-age / 1 d)", "the same, slower", _NO_TOUCH),
    Feature(
        "touch_stay", "item", "ln(1 + s) / 3", "last touch to the shopper's next record, at most 30 min", _NO_TOUCH
    ),
    Feature("touch_order", "list", "1 / (1 + listed items touched later)", "place by last touch", _NO_TOUCH),
    Feature("last_same_query", "item", "0 or 1", "the last touch came from this query", _NO_TOUCH),
    Feature("views_visit", "item", "ln(1 + n)", "views in this visit", _NO_TOUCH),
    Feature("clicks_visit", "item", "ln(1 + n)", "clicks in this visit", _NO_TOUCH),
    Feature("views_before", "item", "ln(1 + n)", "views in earlier visits", _NO_TOUCH),
    Feature("clicks_before", "item", "ln(1 + n)", "clicks in earlier visits", _NO_TOUCH),
    Feature("carts", "item", "ln(1 + n)", "times put into the cart", _NO_TOUCH),
    Feature("purchases", "item", "ln(1 + n)", "times bought", _NO_TOUCH),
    Feature("below_touched", "order", "0 or 1", "the shopper touched the item just above it in the request", _NOT_SO),
    Feature("next_below_touch", "order", "exp(-(places - 1) / 2)", "below the listed item touched last", _NOT_SO),
    Feature("next_above_touch", "order", "exp(-(places - 1) / 2)", "above the listed item touched last", _NOT_SO),
    Feature("next_below_click", "order", "exp(-(places - 1) / 2)", "below the listed item clicked last", _NOT_SO),
    Feature("query_rate", "item", "ln(rate / .05)", "clicks an exposure for this query, smoothed", _NO_EDGE),
    Feature("query_shown", "item", "ln(1 + E) / 3", "exposures for this query", "0: none"),
    Feature("query_share", "list", "0 .. 1", "share of the listed items' clicks for this query", "0: none"),
    Feature("item_rate", "item", "ln(rate / .05)", "clicks an exposure over its queries, smoothed", _NO_EDGE),
    Feature("item_shown", "item", "ln(1 + E) / 3", "exposures over its queries", "0: no query above the floor"),
)

FEATURES: Final[tuple[str, ...]] = tuple(feature.name for feature in TABLE)
INDEX: Final[dict[str, int]] = {name: place for place, name in enumerate(FEATURES)}
MOMENTS: Final[tuple[str, ...]] = tuple(feature.name for feature in TABLE if feature.scope == "moment")
"""The same for all rows of a list: they order nothing by themselves, and say when the others count."""
