"""What a cached score of a teacher says it was made of."""

from dataclasses import replace

from headrace.commands.label_cache import wanted
from headrace.streams.events import ItemChanged
from headrace.streams.score_cache import neighbours_hash


def test_the_first_five_neighbours_of_each_side_are_named_in_their_order() -> None:
    one = wanted("Red shoe", ItemChanged("s1", 0, "Red shoe", "", {}))
    assert one.neighbours == 0
    many = tuple("abcdef")
    told = replace(one, pair=replace(one.pair, query_neighbours=many, item_neighbours=many))
    assert told.neighbours == neighbours_hash("abcde", "abcde")
    assert told.neighbours == replace(told, pair=replace(told.pair, query_neighbours=many[:5])).neighbours
    assert told.neighbours != replace(told, pair=replace(told.pair, query_neighbours=many[::-1])).neighbours
