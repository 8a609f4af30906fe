"""Many schedules, on several processes: what the law tests and the command ``tests/laws/simulate.py`` run."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context

from mutations import MUTATIONS, Mutation
from schedules import Schedule

CHUNK = 50


@dataclass(frozen=True)
class Finding:
    """A schedule that broke a law, and what was different."""

    seed: int
    differences: tuple[str, ...]
    mutation: str = ""

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        mutation = f" --mutation {self.mutation}" if self.mutation else ""
        return f".venv/bin/python tests/laws/simulate.py --seed {self.seed} --schedules 1{mutation}"


def mutation_named(name: str) -> Mutation:
    """The mutation of that name.

    Raises:
        KeyError: there is none.
    """
    return {mutation.name: mutation for mutation in MUTATIONS}[name]


def run_seeds(first: int, count: int, mutation: str = "") -> list[Finding]:
    """The schedules of some seeds one after the other; those that broke a law."""
    found = []
    for seed in range(first, first + count):
        schedule = Schedule(seed)
        if mutation:
            mutated = mutation_named(mutation)
            schedule = Schedule(seed, mutated.system, mutated.pressure)
        differences = schedule.run()
        if differences:
            found.append(Finding(seed, tuple(differences), mutation))
    return found


def first_finding(mutation: Mutation, first: int, within: int) -> tuple[int, Finding | None]:
    """(schedules run, what was found): seeds from ``first`` on until the mutation shows."""
    for count in range(1, within + 1):
        found = run_seeds(first + count - 1, 1, mutation.name)
        if found:
            return count, found[0]
    return within, None


def run_many(
    first: int, count: int, jobs: int, progress: Callable[[int], None] = lambda done: None, mutation: str = ""
) -> Iterator[Finding]:
    """Schedules of ``count`` seeds on ``jobs`` processes; what they find, as they find it."""
    chunks = [(at, min(CHUNK, first + count - at), mutation) for at in range(first, first + count, CHUNK)]
    if jobs == 1:
        for chunk in chunks:
            yield from run_seeds(*chunk)
            progress(chunk[1])
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for chunk, found in zip(chunks, pool.map(_run_chunk, chunks), strict=True):
            yield from found
            progress(chunk[1])


def first_failures(first: int, count: int, jobs: int, limit: int = 5) -> list[Finding]:
    """At most ``limit`` schedules that broke a law."""
    return list(islice(run_many(first, count, jobs), limit))


def _run_chunk(chunk: tuple[int, int, str]) -> list[Finding]:
    return run_seeds(*chunk)
