"""A small run of ``kill.py``: each stage once under each driver, and Valkey twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broker_clients import Broker
from consumer_worker import STAGES
from headrace.local.valkey import LocalValkey
from kills import kill_consumers, kill_valkey, new_stage


# On one broker, for the sake of time; `kill.py` and `test_drivers.py` kill consumers of Apache Kafka.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
@pytest.mark.parametrize("driver", ["bulk", "live"])
def test_a_consumer_killed_at_each_stage_leaves_no_trace(
    driver: str, kafka: Broker, valkey: LocalValkey, tmp_path: Path
) -> None:
    plan = [(stage, 1 if stage == "acknowledge" else 2 + place) for place, stage in enumerate(STAGES)]
    report = kill_consumers(new_stage(kafka, valkey), driver, plan, 900, tmp_path)
    assert report.differences == []
    assert report.exact, report
    assert set(report.kills) == set(STAGES)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # it is about Redis: one broker, for the sake of time
@pytest.mark.parametrize("driver", ["bulk", "live"])
def test_a_redis_that_loses_what_it_had_not_synced_leaves_no_trace(
    driver: str, kafka: Broker, new_valkey: Callable[..., LocalValkey], tmp_path: Path
) -> None:
    valkey = new_valkey(auto_aof_rewrite_percentage="0")
    report = kill_valkey(new_stage(kafka, valkey), driver, 2, 900, tmp_path)
    assert report.differences == []
    assert report.exact, report
    assert sum(report.bytes_cut) > 0, "nothing was lost: the test proves nothing"
