"""The watermark: what moves it and what does not."""

from headrace.streams.watermark import BEGINNING_MS, Clocks

A, B = ("events", 0), ("events", 1)


def test_it_follows_the_furthest_source_less_the_hold() -> None:
    clocks = Clocks(["events"], hold_ms=10)
    assert clocks.advance([]) == BEGINNING_MS
    clocks.see(A, 100, 100)
    clocks.see(B, 40, 50)
    assert clocks.advance([]) == 90


def test_a_source_with_records_to_read_holds_it_and_a_quiet_one_does_not() -> None:
    clocks = Clocks(["events"], hold_ms=0)
    clocks.see(A, 100, 100)
    clocks.see(B, 40, 40)
    assert clocks.advance([A]) == 100
    assert Clocks(["events"], 0, clocks.clocks_ms).advance([A, B]) == 40
    assert Clocks(["events"], 0, {A: 100}).advance([B]) == BEGINNING_MS, "never read, but it has records"


def test_an_event_from_the_future_moves_no_clock() -> None:
    clocks = Clocks(["events"], hold_ms=0)
    clocks.see(A, 10**15, 100)
    clocks.see(A, 50, 10**15)
    assert clocks.advance([]) == 100


def test_it_never_goes_back() -> None:
    clocks = Clocks(["events"], 0, {A: 100, B: 30}, watermark_ms=100)
    clocks.see(A, 30, 30)
    assert clocks.advance([B]) == 100
    assert Clocks(["events"], 0, clocks.clocks_ms).advance([B]) == 30


def test_a_quiet_topic_holds_it_for_there_is_nothing_to_join_with() -> None:
    clocks = Clocks(["events", "features"], hold_ms=0)
    clocks.see(A, 100, 100)
    assert clocks.advance([]) == BEGINNING_MS
    clocks.see(("features", 0), 70, 70)
    clocks.see(("features", 1), 80, 80)
    assert clocks.advance([]) == 80
