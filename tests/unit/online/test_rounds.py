"""Rounds: plans, what a record that is none does, and that a checkpoint is all there is to go on from."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace import BundleError
from headrace.models.head import Head
from headrace.online.checkpoint import Checkpoint, Genesis, learner_digest
from headrace.online.course import CourseSettings, CourseState, Decision
from headrace.online.refresh import Pace, Refresh, plan_round
from headrace.online.rounds import End, LogRecord, Outcome, Plan, Rounds, Rules, beginning
from headrace.streams.events import ShopperEvent
from headrace.streams.feature_log import Served
from headrace.streams.labels import Windows
from served_logs import search, searches, wire

EVENTS, FEATURES = "events", "features"
SOURCES = [(EVENTS, 0), (EVENTS, 1), (FEATURES, 0), (FEATURES, 1)]
RULES = Rules(windows=Windows(click_ms=60_000), hold_ms=5_000, course=CourseSettings(every_examples=10))


def new_rounds(rules: Rules = RULES) -> Rounds:
    first = [End(*source, 0, False) for source in SOURCES]
    return Rounds(rules, FEATURES, beginning(first, CourseState.begin(Head.cold())))


class Log:
    """Both topics in memory."""

    def __init__(self, records: list[Served | ShopperEvent]) -> None:
        self.records: dict[tuple[str, int], list[LogRecord]] = {source: [] for source in SOURCES}
        for record in records:
            sent = wire(record)
            source = (FEATURES if sent.features else EVENTS, int(record.client_id.split("-")[1]) % 2)
            offset = len(self.records[source])
            self.records[source].append(LogRecord(*source, offset, sent.value, sent.timestamp_ms))

    def ends(self) -> dict[tuple[str, int], int]:
        return {source: len(found) for source, found in self.records.items()}

    def between(self, rounds: Rounds, plan: Plan) -> list[LogRecord]:
        return [
            record
            for end in plan.ends
            for record in self.records[end.topic, end.partition][rounds.offsets[end.topic, end.partition] : end.offset]
        ]


def run(log: Log, rounds: Rounds, pace: Pace) -> list[Plan]:
    plans = []
    while rounds.offsets != log.ends():
        plan = plan_round(rounds, log.ends(), {}, pace, decide=False)
        rounds.step(plan, log.between(rounds, plan))
        plans.append(plan)
    return plans


def test_a_plan_reads_so_much_of_each_source_and_says_which_have_more() -> None:
    rounds = new_rounds()
    ends = {(EVENTS, 0): 10, (EVENTS, 1): 0, (FEATURES, 0): 5, (FEATURES, 1): 3}
    plan = plan_round(rounds, ends, {(FEATURES, 1): 4}, Pace(source_records=5), decide=True)
    assert plan == Plan(1, (End(EVENTS, 0, 5, False), End(EVENTS, 1, 0, True), End(FEATURES, 0, 5, True),
                            End(FEATURES, 1, 4, True)), True)  # fmt: skip


def test_a_source_that_is_far_ahead_waits_for_the_others() -> None:
    rounds = new_rounds()
    rounds.clocks.clocks_ms = {
        (EVENTS, 0): 9_000_000,
        (EVENTS, 1): 1_000,
        (FEATURES, 0): 2_000,
        (FEATURES, 1): 99_000_000,
    }
    ends = {(EVENTS, 0): 10, (EVENTS, 1): 10, (FEATURES, 0): 10, (FEATURES, 1): 0}
    plan = plan_round(rounds, ends, {}, Pace(ahead_ms=3_600_000), decide=False)
    assert [(end.offset, end.at_end) for end in plan.ends] == [(0, False), (10, True), (10, True), (0, True)]


def test_however_small_the_rounds_the_same_is_learned() -> None:
    log = Log(searches(0, 60))
    whole, parts = new_rounds(), new_rounds()
    run(log, whole, Pace())
    plans = run(log, parts, Pace(source_records=3))
    assert len(plans) > 20
    assert whole.course.learned == parts.course.learned == 53
    assert whole.state().course == parts.state().course


def test_rounds_follow_each_other() -> None:
    with pytest.raises(ValueError, match="round 3 cannot follow round 0"):
        new_rounds().step(Plan(3, (), False), [])


def test_records_that_are_none_are_counted_by_reason_and_move_no_clock() -> None:
    served, shown, _ = (wire(record) for record in search(1, 1_700_000_000_000))
    early_ms = served.timestamp_ms - 10**9
    records = [
        LogRecord(FEATURES, 0, 0, b"\x09", 5),
        LogRecord(FEATURES, 0, 1, None, 5),
        LogRecord(FEATURES, 0, 2, served.value, early_ms),
        LogRecord(EVENTS, 0, 0, b"\xff", 5),
        LogRecord(EVENTS, 0, 1, shown.value, early_ms),
        LogRecord(EVENTS, 0, 2, shown.value, shown.timestamp_ms + 10**9),
    ]
    rounds = new_rounds()
    rounds.step(Plan(1, tuple(End(*source, 0, True) for source in SOURCES), True), records)
    assert rounds.refused == {
        "features:codec": 1, "features:empty": 1, "features:future": 1,
        "events:bad_encoding": 1, "events:future": 1, "events:late": 1,
    }  # fmt: skip
    assert rounds.clocks.clocks_ms == {}
    assert len(rounds.pending) == 0


def test_going_on_from_the_file_after_every_round_ends_with_the_same_bytes(tmp_path: Path) -> None:
    log = Log(searches(0, 60))
    straight = new_rounds()
    plans = run(log, straight, Pace(source_records=5))
    rounds = new_rounds()
    file = Checkpoint(tmp_path)
    file.claim(1)
    file.begin(Genesis(msgspec.json.encode(RULES), {}, rounds.state()))
    for plan in plans:
        file.begin_round(plan)
        file.close()
        file = Checkpoint(tmp_path)
        file.claim(1)
        planned = file.planned()
        assert planned == plan
        outcome = rounds.step(planned, log.between(rounds, planned))
        file.commit(rounds.state(), outcome.changes, keep_rounds=10**6)
        assert file.planned() is None
        rounds = Rounds(RULES, FEATURES, file.state(), file.held(), file.closed())
    assert rounds.state() == straight.state()
    held = [(one.pending.lists, len(one.pending), one.pending.held_bytes) for one in (rounds, straight)]
    assert held[0] == held[1]
    assert [found for found, _ in file.rounds()] == plans
    assert [*file.rounds()][-1][1] == learner_digest(straight.state().course.learner)
    file.close()


def test_an_older_epoch_writes_nothing(tmp_path: Path) -> None:
    rounds = new_rounds()
    old, new = Checkpoint(tmp_path), Checkpoint(tmp_path)
    old.claim(1)
    old.begin(Genesis(b"", {}, rounds.state()))
    new.claim(2)
    writes: tuple[Callable[[], None], ...] = (
        lambda: old.begin_round(Plan(1, (), False)),
        lambda: old.commit(rounds.state(), rounds.pending.changes(), 1),
        lambda: old.claim(1),
    )
    for write in writes:
        with pytest.raises(BundleError, match="another learner took over"):
            write()
    assert new.planned() is None
    new.begin_round(Plan(1, (), False))
    old.close()
    new.close()


def test_only_so_many_rounds_are_kept_and_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    log, rounds = Log(searches(0, 30)), new_rounds()
    file = Checkpoint(tmp_path)
    file.claim(1)
    file.begin(Genesis(b"", {}, rounds.state()))
    for _ in range(8):
        plan = plan_round(rounds, log.ends(), {}, Pace(source_records=2), decide=False)
        file.begin_round(plan)
        outcome = rounds.step(plan, log.between(rounds, plan))
        file.commit(rounds.state(), outcome.changes, keep_rounds=3)
    assert [plan.number for plan, _ in file.rounds()] == [6, 7, 8]
    file._file.execute("UPDATE facts SET value = x'00' WHERE name = 'format'")
    file.close()
    with pytest.raises(BundleError, match="another format|has format"):
        Checkpoint(tmp_path)
    gc.collect()  # Python 3.13 tells of a connection that nobody closed


def test_a_file_held_by_a_writer_that_hangs_is_refused_with_a_sentence(tmp_path: Path) -> None:
    hanging, other = Checkpoint(tmp_path), Checkpoint(tmp_path)
    hanging.claim(1)
    other._file.execute("PRAGMA busy_timeout = 10")
    with hanging._writing(), pytest.raises(BundleError, match=r"cannot be written \(database is locked\)"):
        other.claim(2)
    hanging.close()
    other.close()


def test_a_replay_reads_the_file_of_one_moment(tmp_path: Path) -> None:
    log, rounds = Log(searches(0, 10)), new_rounds()
    file = Checkpoint(tmp_path)
    file.claim(1)
    file.begin(Genesis(b"", {}, rounds.state()))
    reader = Checkpoint(tmp_path, read_only=True)
    plan = plan_round(rounds, log.ends(), {}, Pace(), decide=False)
    file.begin_round(plan)
    outcome = rounds.step(plan, log.between(rounds, plan))
    file.commit(rounds.state(), outcome.changes, keep_rounds=3)
    assert reader.state().number == 0
    assert [*reader.rounds()] == []
    reader.close()
    file.close()


def test_a_head_that_became_worse_is_not_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Refusing:
        version, epoch = "", 1

        def publish(self, decision: Decision) -> str:
            raise AssertionError(decision)

    rounds = new_rounds()
    worse = Decision("worse", b"", (), {"examples": 7})
    parts: dict[str, Any] = {"tail": None, "checkpoint": None, "publisher": Refusing(), "door": None}
    refresh = Refresh(rounds, pace=Pace(), **parts)
    refresh._publish(Outcome((), (), (worse,), rounds.pending.changes()))
    assert refresh.published == 0
    assert "head not published, it is worse than the frozen one" in caplog.text
