import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.core_fields import Least, field_brands, leading_brands
from headrace.models.core_lists import learned
from headrace.models.core_terms import KINDS, CoreTerms, of_json

LEAST = Least(titles=2, begins=3, shared=3)
BRANDS = ("Acme", "Bolt Works", "Corvo")


def catalogue() -> list[tuple[str, str, tuple[str, ...]]]:
    """Titles, brands, attribute values."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for at, brand in enumerate(BRANDS * 4):
        colour = ("Mauve", "Ochre")[at % 2]
        found.append((f"{brand} PX{at}00 patch cable {colour} {at + 2} m", brand, (colour, "RJ-45")))
        found.append((f"{brand} QX{at}00 snagless power adapter {colour}", brand, (colour,)))
        found.append((f"{brand} Lumina RX{at}00 headset {colour} for Zeta phone", brand, (colour,)))
        found.append((f"{brand} SX{at}00 snagless cable {at + 1} m", brand, ()))
    return found


def terms(fields: bool) -> CoreTerms:
    titles, brands, values = zip(*catalogue(), strict=True)
    return learned(titles, brands, values, LEAST) if fields else learned(titles, least=LEAST)


def test_a_catalogue_with_fields_gives_brands_subjects_and_attributes() -> None:
    found = terms(True)
    assert found.brands == {"acme", "bolt works", "corvo"}
    assert {"patch cable", "power adapter", "headset", "cable", "adapter"} <= found.subjects
    assert {"mauve", "ochre", "snagless"} <= found.attributes
    assert not found.subjects & found.attributes
    # A series stands before the number of a model, a phone is what something else is for.
    assert not {"lumina", "phone"} & (found.subjects | found.attributes)


def test_the_recogniser_reads_new_titles_of_its_catalogue() -> None:
    kinds = terms(True).kinds(["Corvo", "ZX900", "snagless", "patch", "cable", "Ochre", "5", "m"])
    assert kinds == [2, 0, 3, 1, 1, 3, 4, 4]


def test_without_fields_brands_are_what_titles_begin_with() -> None:
    found = terms(False)
    assert found.brands == {"acme", "bolt works", "corvo"}
    assert found.kinds(["bolt", "works", "headset"]) == [2, 2, 1]


def test_a_leading_name_takes_the_words_that_nearly_always_follow_it() -> None:
    titles = [f"Hampton Bay {thing} {at}" for at in range(5) for thing in ("Lamp", "Fan")]
    titles += [f"Acme {thing}" for thing in ("Lamp", "Fan", "Door", "Pump")]
    titles += [f"Home Makers {thing}" for thing in ("Lamp", "Fan", "Door", "Pump")] + ["The Home Door"] * 3
    titles += ["lamp of wood", "lamp of steel", "lamp of glass", "The Lamp", "The Fan", "The Door", "4x Lamp"]
    # "Steel" stands elsewhere too; "Lamp" follows other words than "Garden", which begins nothing else.
    titles += ["Steel Post", "Steel Rod", "Steel Bar", *["A Steel Post"] * 3]
    titles += [*(f"Garden Lamp {at}" for at in range(4)), *["A Garden Fan"] * 4]
    rows = [title.split() for title in titles]
    assert leading_brands(rows, Least(begins=3)) == {"hampton bay", "acme", "home makers"}


def test_a_brand_that_titles_write_small_is_a_word() -> None:
    rows = [title.split() for title in ("Act cable", "act now", "to act", "Acme cable", "HP cable", "StarTech.com hub")]
    assert field_brands(["Act", "Acme", "HP", "StarTech.com", ""], rows) == {"acme", "hp", "startech.com"}


def test_a_title_that_is_listed_often_counts_once() -> None:
    rows = catalogue()
    titles, brands, values = zip(*rows, *[("Acme gizmo Mauve", "Acme", ("Mauve",))] * 50, strict=True)
    assert "gizmo" not in learned(titles, brands, values, LEAST).subjects


@pytest.mark.parametrize("titles", [[], [""], ["x"], ["Acme"] * 30])
def test_a_catalogue_without_anything_to_learn_gives_a_recogniser(titles: list[str]) -> None:
    found = learned(titles)
    assert found.brands == found.subjects == frozenset()
    assert of_json(found.to_json()) == found


WORDS = st.sampled_from(
    ("Acme", "Bolt", "cable", "patch", "for", "with", "in", "5", "ft.", "x", "Black", "(RJ45)", "-", "a,b")
)
TITLES = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=30)


@given(titles=TITLES)
def test_what_is_learned_can_be_written_and_does_not_depend_on_the_order(titles: list[str]) -> None:
    least = Least(titles=1, brands=1, begins=1, shared=1)
    found = learned(titles, least=least)
    assert of_json(found.to_json()) == found
    assert learned(titles[::-1], least=least) == found


def test_the_annotated_titles_are_ids_with_a_kind_for_each_position_at_most() -> None:
    path = Path(__file__).parents[2] / "bench" / "icecat_core_terms.json"
    annotated = json.loads(path.read_text(encoding="utf-8"))
    assert len(annotated) == 200
    for product, kinds in annotated.items():
        assert product.isdigit()
        assert set(kinds) == set(KINDS[1:])
        places = [place for one in kinds.values() for place in one]
        assert len(places) == len(set(places)) and all(0 <= place < 40 for place in places)
