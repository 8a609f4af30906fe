import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.measures import bare, measured


def marked(text: str) -> str:
    words = text.lower().split()
    return " ".join(word for word, found in zip(words, measured(words), strict=True) if found)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("6ft cable 1.8 m (3-pin) black", "6ft 1.8 m (3-pin)"),
        ('monitor 43.2 cm (17") 1440 x 900 pixels', '43.2 cm (17") 1440 x 900 pixels'),
        ("curtain 40 in. W x 63 in. L, blue", "40 in. w x 63 in. l,"),
        ("8 Linear ft. molding, 4.2 cu. ft. washer", "8 linear ft. 4.2 cu. ft."),
        ("7 1/4 in. saw 3-in-1 2-Light 4-Pack", "7 1/4 in. 3-in-1 2-light 4-pack"),
        ("toner (7,000 Pages*) 1 pc(s) 52X 1U 2700K", "(7,000 pages*) 1 pc(s) 52x 1u 2700k"),
        ("plywood 4*8 and 12 x 24 tile 99.1x67.7 mm", "4*8 12 x 24 99.1x67.7 mm"),
        ("LaserJet 4250 Type C6 802.11g 4K 5G HP 503A 40X0027 USB 2.0 cat 5e", ""),
        ("10/100/1000 Mbps 62.5/125 fiber", "10/100/1000 mbps"),
        ("5 things in a row", ""),
        ("", ""),
    ],
)
def test_numbers_with_their_units_are_found(text: str, numbers: str) -> None:
    assert marked(text) == numbers


def test_what_stands_around_a_word_is_no_part_of_it() -> None:
    assert [bare(word) for word in ("(RJ45,", "Intel®", "ft.", '17")', "pc(s)", "-", "...")] == [
        *("RJ45", "Intel", "ft", '17"', "pcs", "-", "..."),
    ]


@given(text=st.text(max_size=200))
def test_any_text_has_one_answer_a_word(text: str) -> None:
    words = text.casefold().split()
    assert len(measured(words)) == len(words)


@pytest.mark.parametrize(
    "word", ["1--1" * 1000 + "z", "1--1--1--1--1--1--1--1--1--1z", "1x1-" * 8 + "q", "1," * 15 + "q"]
)
def test_no_word_takes_long(word: str) -> None:
    began_s = time.perf_counter()
    measured([word] * 100)
    assert time.perf_counter() - began_s < 1


def test_time_grows_with_the_text_not_with_its_square() -> None:
    words = ["1", "x", "1", "x", "1/2"] * 4000
    began_s = time.perf_counter()
    measured(words)
    assert time.perf_counter() - began_s < 2
