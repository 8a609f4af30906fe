"""Laws 1 to 3 under faults: seeded schedules of workers, zombies, crashes and stores that lose their tails.

``HEADRACE_SCHEDULES`` says how many; a failure prints the command that runs its schedule alone.
"""

import os

import pytest

from mutations import MUTATIONS, NO_DIFFERENCE, Mutation
from schedules import Pressure, Schedule, System
from simulation import first_failures, first_finding

SCHEDULES = int(os.environ.get("HEADRACE_SCHEDULES", "2000"))
WITHIN = 400
"""Schedules within which every mutation must show, counted from its seed; docs/laws.md has how many it really takes."""

PRESSURES = {mutation.pressure.name: mutation.pressure for mutation in MUTATIONS}


@pytest.mark.timeout(120 + SCHEDULES // 10)
def test_state_is_a_function_of_the_log_whatever_fails() -> None:
    failures = first_failures(0, SCHEDULES, jobs=2)
    assert not failures, "\n".join(f"{one.replay}\n  {one.differences[:3]}" for one in failures)


@pytest.mark.parametrize("pressure", PRESSURES.values(), ids=list(PRESSURES))
def test_what_mutations_are_pressed_with_breaks_nothing_by_itself(pressure: Pressure) -> None:
    broken = {seed: found for seed in range(40) if (found := Schedule(seed, pressure=pressure).run())}
    assert not broken


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_a_broken_rule_shows(mutation: Mutation) -> None:
    _, finding = first_finding(mutation, mutation.seed, WITHIN)
    assert finding is not None, f"{mutation.name}: the simulator is blind to it"


@pytest.mark.parametrize("system", [system for system, _ in NO_DIFFERENCE.values()], ids=list(NO_DIFFERENCE))
def test_what_another_rule_covers_shows_nothing(system: System) -> None:
    assert not [seed for seed in range(100) if Schedule(seed, system).run()]


def test_a_schedule_is_the_same_every_time() -> None:
    first, second = Schedule(17), Schedule(17)
    assert (first.run(), first.happened) == (second.run(), second.happened)
    assert [node.log for node in first.cluster.nodes] == [node.log for node in second.cluster.nodes]


def test_faults_really_happen() -> None:
    seen: set[str] = set()
    repeated = refused = 0
    for seed in range(60):
        schedule = Schedule(seed)
        assert schedule.run() == []
        seen.update(schedule.happened)
        repeated += sum("repeated" in outcomes for outcomes in schedule.account.outcomes.values())
        refused += schedule.refused
    assert seen == set(Pressure().weights) - {"run"}
    assert repeated > 200
    assert refused > 4
