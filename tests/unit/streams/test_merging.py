from random import Random

from hypothesis import given
from hypothesis import strategies as st

from headrace import BadEvent
from headrace.streams.imports import Placed
from headrace.streams.merging import Merge, Place, Waiting

A, B, C = ("queries", 0), ("events", 0), ("events", 1)


def waiting(
    place: Place, offset: int, at_ms: int, rank: int = 0, timestamp_ms: int = -1, read_s: float = 0.0
) -> Waiting:
    return Waiting(place, offset, None, b"", timestamp_ms, b"", Placed(b"k", at_ms, rank), read_s)


def taken(merge: Merge, quiet: set[Place], until_s: float = float("inf")) -> list[tuple[Place, int]]:
    return [(one.place, one.offset) for one in merge.take(quiet, until_s)]


def test_the_earliest_goes_first_and_a_query_before_what_followed_from_it() -> None:
    merge = Merge([A, B])
    merge.add(waiting(B, 0, 5, rank=2))
    merge.add(waiting(B, 1, 7, rank=1))
    merge.add(waiting(A, 0, 5, rank=0))
    merge.add(waiting(A, 1, 9, rank=0))
    assert taken(merge, {A, B}) == [(A, 0), (B, 0), (B, 1), (A, 1)]
    assert merge.is_empty


def test_nothing_goes_out_while_a_log_may_hold_something_earlier() -> None:
    merge = Merge([A, B])
    merge.add(waiting(A, 0, 5))
    assert taken(merge, {A}) == []
    merge.add(waiting(B, 0, 9))
    assert taken(merge, set()) == [(A, 0)]  # and A may go on with something before 9
    assert taken(merge, set()) == []
    assert taken(merge, {A}) == [(B, 0)]


def test_behind_a_quiet_log_only_what_waited_long_enough_goes_out() -> None:
    merge = Merge([A, B])
    merge.add(waiting(A, 0, 5, read_s=10.0))
    merge.add(waiting(A, 1, 6, read_s=11.0))
    assert taken(merge, {A, B}, until_s=9.9) == []
    assert taken(merge, {A, B}, until_s=10.0) == [(A, 0)]
    merge.add(waiting(B, 0, 4, read_s=12.0))
    assert taken(merge, {A, B}, until_s=10.0) == [(B, 0)]


def test_a_clock_that_runs_ahead_holds_nothing_back() -> None:
    merge = Merge([A, B])
    merge.add(waiting(A, 0, 10**15, timestamp_ms=5))
    merge.add(waiting(A, 1, 6, timestamp_ms=6))
    merge.add(waiting(B, 0, 7, timestamp_ms=7))
    assert taken(merge, {A, B}) == [(A, 0), (A, 1), (B, 0)]


def test_what_cannot_be_used_keeps_nobody_waiting() -> None:
    merge = Merge([A, B])
    merge.add(Waiting(B, 0, None, b"{", 9, b"{", BadEvent("", "not_json"), 0.0))
    merge.add(waiting(B, 1, 8))
    merge.add(waiting(A, 0, 5))
    assert taken(merge, {A, B}) == [(B, 0), (A, 0), (B, 1)]


def test_what_waits_is_known_by_its_first_offset_and_its_bytes() -> None:
    merge = Merge([A, B])
    assert (merge.first(A), merge.bytes(A), merge.is_empty) == (None, 0, True)
    merge.add(waiting(A, 3, 5))
    merge.add(waiting(A, 4, 5))
    assert (merge.first(A), merge.bytes(A) > 0, merge.is_empty) == (3, True, False)
    assert taken(merge, {A, B}) == [(A, 3), (A, 4)]
    assert (merge.first(A), merge.bytes(A)) == (None, 0)


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 20)), max_size=40), st.integers(0, 9))
def test_logs_in_order_become_one_in_order_however_they_come(found: list[tuple[Place, int]], seed: int) -> None:
    random = Random(seed)
    logs: dict[Place, list[int]] = {A: [], B: [], C: []}
    for place, at_ms in sorted(found, key=lambda one: one[1]):
        logs[place].append(at_ms)
    merge, seen, read = Merge([A, B, C]), list[Waiting](), dict.fromkeys(logs, 0)
    while any(read[place] < len(log) for place, log in logs.items()):
        place = random.choice([place for place, log in logs.items() if read[place] < len(log)])
        merge.add(waiting(place, read[place], logs[place][read[place]]))
        read[place] += 1
        seen += merge.take({place for place, log in logs.items() if read[place] == len(log)})
    seen += merge.take({A, B, C})
    times = [one.order for one in seen]
    assert times == sorted(times)
    for place, log in logs.items():
        assert [one.offset for one in seen if one.place == place] == list(range(len(log)))
