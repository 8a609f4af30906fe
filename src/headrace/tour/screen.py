"""The tour as a person reads it: each act as a few lines of at most 100 characters; pure.

Colours are marks around a text, ``<name>text</>``, that the command line turns into the terminal's colours or leaves
out; no text of the shop holds such a mark.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from headrace.models.metrics import Interval
from headrace.tour.acts import BEATEN, Claim, Events, Killed, Refused, Requests, Swaps, quantiles
from headrace.tour.quality import BASELINES, NAMES, SERVED, Quality, Stretch
from headrace.tour.shop import Shop
from headrace.tour.shoppers import ClickModel

WIDTH: Final = 100
ROWS: Final = 5
COLOURS: Final[Mapping[str, str]] = {
    "served": "green",
    "given order": "blue",
    "popularity": "yellow",
    "frozen student": "magenta",
    "query's clicks": "cyan",
}
SIGNS: Final[Mapping[str, str]] = dict(zip(COLOURS, "●·+×o", strict=True))
_DIGEST = re.compile(r"[0-9a-f]{64}")


def opened(shop: Shop, model: ClickModel, took_s: float) -> list[str]:
    """What runs now."""
    queries = sum(query.held_out for query in shop.queries)
    return [
        f"<bold>Headrace, the tour:</> {len(shop.products)} products, {queries} queries, {model.shoppers} simulated"
        f" shoppers; ready after {took_s:.0f} s.",
    ]


def first_list(
    text: str, scores: Mapping[str, Mapping[str, float]], means: Mapping[str, float], shop: Shop
) -> list[str]:
    """The list before any event, by texts alone: as each model orders it, with the written grades.

    Args:
        text: the query.
        scores: model -> item -> score, of the candidates.
        means: model -> its mean nDCG@10 over all queries that are shown.
        shop: knows names and grades.
    """
    lines = _title(1, f'"{text}" before any event, by texts alone; stars: the written grade')
    grades, wide, columns = shop.query(text).grades, WIDTH // 2 - 1, []
    for name, row in scores.items():
        best = sorted(row, key=lambda item: -row[item])[:ROWS]
        stars = ["*" * grades.get(item, 0) for item in best]
        titles = [f"{rank:>2}  {stars[rank - 1]:<3}  {_name(shop, item)}" for rank, item in enumerate(best, start=1)]
        columns.append([f"{name}: nDCG@10 {means[name]:.3f}", *(title[: wide - 2] for title in titles)])
    rows = ["".join(cell.ljust(wide) for cell in row).rstrip() for row in zip(*columns, strict=True)]
    return [*lines, f"  <bold>{rows[0]}</>", *(f"  {row}" for row in rows[1:])]


def second_list(text: str, events: Events, shop: Shop) -> list[str]:
    """The same list now, what moved and why."""
    one, why, after = events.moved, events.why, events.after
    what = f'"{text}" after {events.searches:,} simulated searches; {events.heads} heads learned and served meanwhile'
    lines = _title(2, what)
    for rank, place in enumerate(after.order[:ROWS], start=1):
        item = after.items[place]
        row = f"  {rank:>2}  {_name(shop, item):<58} score {after.scores[place]:.3f}"
        marked = one is not None and one.item == item
        lines.append(f"<green>{row}  was {one.before}</>" if marked and one is not None else row)
    if one is None:
        lines.append("  <red>No item moved up because of its counts.</>")
    else:
        lines += [
            f"  {_name(shop, one.item)} moved from {one.before} to {one.after}; the same head without counts puts it at"
            f" {one.without}.",
            f"  Why: simulated shoppers saw it {why.exposures} times for this query and clicked it {why.clicks} times.",
        ]
    fresh = quantiles(events.fresh_ms)
    lines.append(
        f"  From an event to the end of the first answer that knows it: p50 <bold>{fresh['p50']:.0f} ms</>, at most"
        f" {fresh['max']:.0f} ms ({int(fresh['count'])} events)."
    )
    return lines


def killed(found: Killed) -> list[str]:
    """The kill, and the two digests side by side."""
    same = found.redis == found.memory
    mark = "<green>equal</>" if same else "<red>NOT EQUAL</>"
    return [
        *_title(3, f"kill -9 of the consumer (process {found.pid}) after {found.at_search:,} simulated searches"),
        f"  {found.alone} lists were served without it; its successor had caught up after {found.back_s:.1f} s.",
        f"  State in Redis      {found.redis}",
        f"  Batch recomputation {found.memory}  {mark}",
    ]


def refused(found: Refused, version: str = "") -> list[str]:
    """The flipped bit."""
    reason = short(found.reason) if found.reason else "<red>it was NOT refused</>"
    kept = "only the model before answered" if found.kept else "<red>another model answered</>"
    return [
        *_title(4, f"A bundle with one flipped bit ({found.flipped}) becomes the champion"),
        f"  Refused: {reason}",
        f"  Meanwhile {_requests(found.requests)}; {kept}.",
    ]


def swapped(found: Swaps) -> list[str]:
    """The swaps."""
    lines = _title(5, f"{found.swaps} swaps between learned heads while requests run")
    near, away = quantiles(found.near_ms), quantiles(found.away_ms)
    if near and away:
        lines.append(
            f"  {_requests(found.requests)}; p99 near a swap <bold>{near['p99']:.0f} ms</> ({int(near['count'])}),"
            f" away <bold>{away['p99']:.0f} ms</> ({int(away['count'])})."
        )
    return lines


def measured(found: Quality, drawn: Sequence[str]) -> list[str]:
    """The quality, its intervals and the plot."""
    whole = found.whole
    lines = _title(6, "nDCG@10 of served lists against what the simulated shoppers wanted, scored before any click")
    lines += drawn
    for name in NAMES:
        lines.append(_row(name, whole, found.later))
    shown = ", ".join(name for name in BASELINES if name not in BEATEN)
    return [*lines, f"  ({shown}: counting clicks of each query goes far with so few of them; shown, not claimed)"]


def ended(claims: Sequence[Claim], took_s: float, files: Sequence[str]) -> list[str]:
    """What was claimed and what does not hold."""
    broken = [claim for claim in claims if not claim.holds]
    lines = [f"<red>Does not hold: {claim.text}</>" for claim in broken]
    verdict = f"All {len(claims)} claims hold" if not broken else f"{len(broken)} of {len(claims)} claims do not hold"
    return [*lines, f"<bold>{verdict}</> after {took_s:.0f} s. {' '.join(files)}"]


def short(reason: str) -> str:
    """A reason without long paths: 64 digits become eight, a path its last two parts."""
    shorter = _DIGEST.sub(lambda found: found.group()[:8] + "...", reason)
    return re.sub(r"\S*/(\S+/\S+)", r"\1", shorter)


def plain(line: str) -> str:
    """A line without its marks."""
    return re.sub(r"<[a-z ]+>|</>", "", line)


def _title(number: int, text: str) -> list[str]:
    return [f"<bold>{number}</>  <bold>{text}</>"]


def _name(shop: Shop, item: str) -> str:
    return shop.product(item).title


def _requests(found: Requests) -> str:
    failed = f"<bold>{len(found.failed)} failed</>" if not found.failed else f"<red>{len(found.failed)} failed</>"
    return f"{found.sent:,} requests, {failed}"


def _row(name: str, whole: Stretch, later: Stretch | None) -> str:
    sign = f"<{COLOURS[name]}>{SIGNS[name]} {name:<14}</>"
    text = f"  {sign} {whole.mean[name].mean:.3f}"
    if name == SERVED:
        return f"{text}  {whole.lists:,} lists of {whole.shoppers} simulated shoppers; 95 % intervals by shopper"
    text += f"  served {_interval(whole.ahead[name])}"
    return text if later is None else f"{text}; after the drift {_interval(later.ahead[name])}"


def _interval(value: Interval) -> str:
    return f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
