from headrace.online.catalogue import ENTRY_BYTES, Catalogue, Place, student_text
from headrace.streams.events import CatalogueEvent, ItemChanged, ItemRemoved


def changed(item: str, title: str = "", description: str = "") -> ItemChanged:
    return ItemChanged(item, 1, title, description, {}, None)


def apply(catalogue: Catalogue, *events: CatalogueEvent, at: int = 0) -> None:
    catalogue.apply((event, Place(0, at + offset)) for offset, event in enumerate(events))


def texts(catalogue: Catalogue, *items: str) -> list[str | None]:
    return [text and text.text for text in catalogue.texts(items)]  # type: ignore[misc]


def test_the_last_word_about_an_item_counts() -> None:
    catalogue = Catalogue()
    apply(catalogue, changed("a", "Red shoe"), changed("b", "Hat"), changed("a", "Blue shoe"), ItemRemoved("b", 2))
    assert texts(catalogue, "a", "b", "c") == ["Blue shoe", None, None]
    apply(catalogue, ItemRemoved("a", 3))
    assert len(catalogue) == catalogue.size_bytes == 0


def test_another_text_has_another_stamp_and_the_same_has_not() -> None:
    catalogue = Catalogue()
    apply(catalogue, changed("a", "Red shoe"))
    first = catalogue.texts(["a"])[0]
    apply(catalogue, changed("a", "Red shoe", "now with a description"))
    assert catalogue.texts(["a"])[0] == first
    apply(catalogue, changed("a", "Blue shoe"))
    second = catalogue.texts(["a"])[0]
    assert first and second and first.stamp != second.stamp


def test_what_is_asked_for_stays_within_the_bound() -> None:
    catalogue = Catalogue(limit_bytes=8 * 3 * (ENTRY_BYTES + 2) // 7 + 1)
    apply(catalogue, *(changed(item, item) for item in "abc"))
    catalogue.texts(["a"])
    apply(catalogue, changed("d", "d"))
    assert texts(catalogue, "a", "b", "c", "d") == ["a", None, "c", "d"]
    assert catalogue.evicted == 1
    assert catalogue.size_bytes <= catalogue.limit_bytes


def test_new_texts_are_told_once_and_another_student_makes_all_new() -> None:
    catalogue = Catalogue()
    apply(catalogue, changed("a", "a"), changed("b", "b"), ItemRemoved("a", 1))
    assert [item for item, _ in catalogue.take_fresh(10)] == ["b"]
    assert catalogue.take_fresh(10) == []
    apply(catalogue, changed("c", "c"))
    catalogue.texts(["b"])
    catalogue.renew()
    assert [item for item, _ in catalogue.take_fresh(1)] == ["b"]
    assert [item for item, _ in catalogue.take_fresh(5)] == ["c"]
    assert [item for item, _ in catalogue.recent(1)] == ["b"]


def test_the_student_reads_the_title_else_the_beginning_of_the_description() -> None:
    assert student_text(changed("a", " Red shoe ", "made of leather")) == "Red shoe"
    assert student_text(changed("a", "", "made of leather " * 100)).startswith("made of leather")
    assert len(student_text(changed("a", "", "x" * 9_999))) == 256


def test_what_had_to_leave_is_told_when_it_is_missed_and_comes_back() -> None:
    catalogue = Catalogue(limit_bytes=4_000)
    for number in range(20):
        apply(catalogue, changed(f"item-{number}", "x"), at=number)
    assert catalogue.evicted > 0
    assert catalogue.take_missed(10) == []
    assert texts(catalogue, "item-11", "never-was") == [None, None]
    assert catalogue.take_missed(10) == [Place(0, 11)]
    assert catalogue.take_missed(10) == []
    catalogue.restore(changed("item-11", "x"), Place(0, 11))
    assert texts(catalogue, "item-11") == ["x"]
    assert catalogue.size_bytes <= catalogue.limit_bytes


def test_a_record_read_again_does_not_undo_a_newer_one() -> None:
    catalogue = Catalogue(limit_bytes=4_000)
    for number in range(20):
        apply(catalogue, changed(f"item-{number}", "x"), at=number)
    texts(catalogue, "item-10", "item-11")
    apply(catalogue, changed("item-10", "newer"), ItemRemoved("item-11", 1), at=30)
    catalogue.restore(changed("item-10", "x"), Place(0, 10))
    catalogue.restore(changed("item-11", "x"), Place(0, 11))
    assert texts(catalogue, "item-10", "item-11") == ["newer", None]
    assert catalogue.take_missed(10) == []
