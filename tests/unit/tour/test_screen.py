from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click import unstyle

from headrace.commands.terminal import Terminal
from headrace.tour import picture, screen
from headrace.tour.acts import Claim, Events, Killed, Moved, Ranked, Refused, Requests, Swaps, Why
from headrace.tour.flow import LISTED, listed
from headrace.tour.quality import NAMES, Fold, Quality, ServedList, quality
from headrace.tour.shop import load
from headrace.tour.shoppers import ClickModel

SHOP = load()
TEXT = max((query.text for query in SHOP.queries), key=len)
LONGEST = max(SHOP.products, key=lambda product: len(product.title)).item_id

MEANS = {"distilled student": 0.91, "the encoder it began as, cosine": 0.84}


def answer() -> Ranked:
    items = tuple(item.item_id for item in listed(SHOP, TEXT))
    return Ranked((LONGEST, *items[1:]), (0.5,) * LISTED, tuple(range(LISTED)), np.zeros((LISTED, 1), np.float32), "v1")


def measured(lists: int = 400) -> Quality:
    random, fold = np.random.default_rng(1), Fold()
    for number in range(lists):
        scores, student, gains = random.random((3, LISTED))
        scores += gains  # better than the others, so that no curve hides behind another
        student += gains / 2
        fold.take(ServedList(f"s{number % 20}", TEXT, answer().items, scores, student, gains, f"v{number // 100}"))
    return quality(fold, lists // 2)


def whole_screen() -> list[str]:
    events = Events(answer(), Moved(LONGEST, 24, 1, 12), Why(123, 45), 600, 6, (3.0, 12.0, 1_100.0))
    found, row = measured(), dict.fromkeys(answer().items, 0.5)
    return [
        *screen.opened(SHOP, ClickModel(), 12.0),
        *screen.first_list(TEXT, {"distilled student": row, "the encoder it began as, cosine": row}, MEANS, SHOP),
        *screen.second_list(TEXT, events, SHOP),
        *screen.killed(Killed(123_456, 900, 50, 12.3, 4_321, "d" * 64, "d" * 64)),
        *screen.refused(Refused("bit 3 of byte 1,287 of head.bin", "x", True, Requests(50, ()))),
        *screen.swapped(Swaps(10, Requests(1_000, ()), (3.0,), (4.0,))),
        *screen.measured(found, picture.terminal(found)),
        *screen.ended([Claim("one", True)], 100.0, ["Plot: .headrace/demo/tour.png"]),
    ]


def test_it_is_one_screen_of_a_hundred_columns() -> None:
    lines = [screen.plain(line) for line in whole_screen()]
    assert max(len(line) for line in lines) <= screen.WIDTH, max(lines, key=len)
    assert len(lines) <= 42


def test_everything_about_shoppers_says_that_they_are_simulated() -> None:
    for line in whole_screen():
        if "shopper" in line or "searches" in line:
            assert "simulated" in line, line


def test_what_does_not_hold_is_said() -> None:
    lines = screen.ended([Claim("one", True), Claim("two and two make five", False)], 9.0, [])
    assert "Does not hold: two and two make five" in screen.plain(lines[0])
    assert "1 of 2 claims do not hold" in screen.plain(lines[-1])


def test_digests_that_differ_are_not_called_equal() -> None:
    lines = screen.killed(Killed(1, 2, 3, 4.0, 5, "d" * 64, "e" * 64))
    assert "NOT EQUAL" in lines[-1]


def test_a_reason_loses_its_long_path_and_keeps_its_words() -> None:
    for place in ("/very/long/place", ".headrace/demo/line/models"):
        reason = f"{place}/parts/{'ab' * 32}/head.bin differs from its hash: copy or publish the bundle again"
        assert screen.short(reason) == "abababab.../head.bin differs from its hash: copy or publish the bundle again"


def test_the_plot_has_every_curve_and_where_the_taste_drifts() -> None:
    apart = {name: np.full(400, place / 10) for place, name in enumerate(NAMES)}
    lines = [screen.plain(line) for line in picture.terminal(replace(measured(), values=apart))]
    assert all(any(screen.SIGNS[name] in line for line in lines) for name in NAMES)
    assert any("|" in line for line in lines[:-1])


def test_a_short_run_is_drawn_too() -> None:
    assert picture.terminal(measured(20))
    assert picture.terminal(replace(measured(20), drifts=1_000))


def test_the_png_has_a_colour_for_every_curve(tmp_path: Path) -> None:
    picture.png(measured(200), tmp_path / "tour.png", 1)
    assert (tmp_path / "tour.png").stat().st_size > 10_000


def test_marks_are_no_text_outside_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().show(["<bold>3</>  <green>equal</>", "a < b > c"])
    said = capsys.readouterr().out
    assert said == "3  equal\na < b > c\n"
    assert said == unstyle(said)
