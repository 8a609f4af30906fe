import pytest

from headrace.commands.progress import ProgressLine


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [0.0]
    monkeypatch.setattr("headrace.commands.progress.time.monotonic", lambda: clock[0])
    return clock


def test_a_line_now_and_then_with_rate_and_time_left(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine("rebuild")
    line(1_000, 100_000)
    assert capsys.readouterr().err == ""
    now[0] = 10.0
    line(21_000, 100_000)
    now[0] = 12.0
    line(25_000, 100_000)
    assert capsys.readouterr().err == "rebuild: 21,000 of 100,000 records (21 %), 2,000 a second, 40 s left\n"
    now[0] = 50.0
    line.end(100_000, 100_000)
    assert capsys.readouterr().err == "rebuild: 100,000 of 100,000 records (100 %), 1,980 a second\n"


@pytest.mark.parametrize(("total", "left"), [(3_000, "20 s"), (31_000, "5 min"), (1_001_000, "2.8 h")])
def test_time_left_is_said_as_people_say_it(
    total: int, left: str, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ProgressLine("rebuild")
    line(0, total)
    now[0] = 10.0
    line(1_000, total)
    assert f"{left} left" in capsys.readouterr().err


def test_slow_work_is_not_said_to_stand_still(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine("teacher", "steps")
    line(1, 600)
    now[0] = 20.0
    line(5, 600)
    assert "5 of 600 steps (0 %), 0.2 a second, 50 min left" in capsys.readouterr().err


def test_nothing_to_do_divides_by_nothing(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    ProgressLine("rebuild").end(0, 0)
    assert capsys.readouterr().err == "rebuild: 0 of 0 records, 0 a second\n"
