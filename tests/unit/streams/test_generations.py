import json
from dataclasses import replace

import pytest

from headrace import SourceChanged
from headrace.streams.generations import (
    Generation,
    Recipe,
    check_beginning,
    check_positions,
    decode_generation,
    differences,
    encode_generation,
    group_of,
    new_name,
    refusal,
    settings_of,
)
from headrace.streams.searches import FOLD_VERSION, StateBounds
from headrace.streams.topics import Source

SOURCE = Source("search.events.v1", "cluster", "topic-id", 2)
RECIPE = Recipe(bounds=replace(StateBounds(), floor=7))
GENERATION = Generation("g20261121-150000-abcd", RECIPE, SOURCE, (0, 3), True, 1_795_275_000_123, "building")


def test_a_generation_comes_back_as_it_was_written() -> None:
    assert decode_generation(encode_generation(GENERATION)) == GENERATION


def test_the_bytes_are_those_that_other_versions_read() -> None:
    found = json.loads(encode_generation(GENERATION))
    assert found["format"] == 1
    assert found["recipe"]["fold_version"] == FOLD_VERSION
    assert found["recipe"]["bounds"]["floor"] == 7
    assert found["source"] == {
        "topic": "search.events.v1",
        "cluster_id": "cluster",
        "topic_id": "topic-id",
        "partitions": 2,
    }
    assert (found["begins"], found["partial"], found["build"]) == ([0, 3], True, "building")


@pytest.mark.parametrize("value", [b"{", b"{}", encode_generation(GENERATION).replace(b'"format":1', b'"format":2')])
def test_what_another_version_wrote_ends_with_the_way_out(value: bytes) -> None:
    with pytest.raises(SourceChanged, match="headrace rebuild"):
        decode_generation(value)


def test_names_sort_by_time_and_name_the_group() -> None:
    names = [new_name(at_ms, "ffff") for at_ms in (0, 1_795_275_000_123, 1_795_275_001_123)]
    assert names == sorted(names)
    assert names[1] == "g20261121-153000-ffff"
    assert group_of("default", names[1]) == "headrace.default.g20261121-153000-ffff"


def test_the_same_recipe_differs_in_nothing() -> None:
    assert differences(encode_generation(GENERATION), RECIPE) == ()


def test_every_difference_is_named() -> None:
    wanted = Recipe(bounds=replace(StateBounds(), floor=50, window_days=7), partitioner="crc32")
    found = differences(encode_generation(GENERATION), wanted)
    assert found == (
        "bounds.floor is 7 there and 50 here",
        "bounds.window_days is 30 there and 7 here",
        "partitioner is murmur2 there and crc32 here",
    )
    assert "bounds.floor is 7 there" in refusal(GENERATION.name, found)
    assert "headrace rebuild" in refusal(GENERATION.name, found)


def test_another_fold_or_normaliser_is_a_difference() -> None:
    wanted = Recipe(bounds=RECIPE.bounds, fold_version=FOLD_VERSION + 1, normaliser="other")
    assert [line.split()[0] for line in differences(encode_generation(GENERATION), wanted)] == [
        "fold_version",
        "normaliser",
    ]


def test_a_setting_that_only_one_side_knows_is_a_difference() -> None:
    stored = json.loads(encode_generation(GENERATION))
    stored["recipe"]["bounds"]["from_the_future"] = None
    del stored["recipe"]["limits"]["depth"]
    found = differences(json.dumps(stored).encode(), RECIPE)
    assert found == (
        "bounds.from_the_future is None there and not known here",
        "limits.depth is not known there and 32 here",
    )


def test_every_setting_of_bounds_and_limits_is_compared() -> None:
    names = settings_of(RECIPE)
    assert {"bounds.sequence_slack", "bounds.item_bytes", "limits.late_ms", "limits.items"} <= names.keys()


def test_a_group_goes_on_where_it_was_and_a_new_one_at_the_beginning() -> None:
    assert check_positions(GENERATION, {0: 12, 1: None}, {0: (0, 20), 1: (3, 3)}) == {0: 12, 1: 3}


def test_records_that_are_gone_before_they_were_read_are_counted() -> None:
    with pytest.raises(SourceChanged, match=r"up to offset 12, and the log now begins at 15: 3 records are gone"):
        check_positions(GENERATION, {0: 12}, {0: (15, 20)})
    with pytest.raises(SourceChanged, match="begins at 5: 2 records"):
        check_positions(GENERATION, {1: None}, {1: (5, 20)})


def test_a_log_shorter_than_what_was_read_is_another_log() -> None:
    with pytest.raises(SourceChanged, match="goes up to offset 21, and the log ends at 20"):
        check_positions(GENERATION, {0: 21}, {0: (0, 20)})


def test_a_log_without_its_beginning() -> None:
    check_beginning("t", (0, 0, 0))
    with pytest.raises(SourceChanged, match=r"partition 1 begins at 5, partition 2 begins at 7.*--partial"):
        check_beginning("t", (0, 5, 7))
