import click
import pytest
from click.testing import CliRunner

from headrace.commands import recipes
from headrace.commands.consumption import Stopped, source_for, worker_name
from headrace.commands.recipes import RECIPE_FLAGS, chosen, known_source, made, opened, recipe_flags
from headrace.streams.generations import Recipe, encode_generation
from headrace.streams.keys import source_token
from headrace.streams.partitioners import partition_of
from headrace.streams.topics import Source

SOURCE = Source("events", "cluster", "id", 3)


def test_flags_that_are_not_given_change_nothing() -> None:
    assert chosen(Recipe(), dict.fromkeys(RECIPE_FLAGS)) == Recipe()


def test_flags_have_units_of_their_own() -> None:
    found = chosen(Recipe(), {"search_minutes": 5, "late_hours": 2, "floor": 7, "partitioner": "crc32"})
    assert (found.bounds.search_ms, found.limits.late_ms) == (300_000, 7_200_000)
    assert (found.bounds.floor, found.partitioner) == (7, "crc32")
    assert found.bounds.sequence == Recipe().bounds.sequence


def test_every_recipe_flag_is_a_flag_of_the_command() -> None:
    @click.command
    @recipe_flags
    def command(**flags: object) -> None:
        assert set(flags) == set(RECIPE_FLAGS)
        click.echo(str({name: value for name, value in flags.items() if value is not None}))

    done = CliRunner().invoke(command, ["--window-days", "7", "--hits-are-exposures"])
    assert done.output == "{'window_days': 7, 'hits_are_exposures': True}\n"
    assert CliRunner().invoke(command, ["--floor", "0"]).exit_code == 2


class Shelf:
    """Generations that lie in a dictionary."""

    namespace = "test"

    def __init__(self, **metas: bytes) -> None:
        self.metas = metas

    def meta(self, name: str) -> bytes | None:
        return self.metas.get(name)


def test_a_worker_opens_what_it_would_fold_alike() -> None:
    generation = made(SOURCE, (0, 0, 0), chosen(Recipe(), {"floor": 7}), "ready")
    shelf = Shelf(g1=encode_generation(generation))
    assert opened(shelf, "g1", {}) == generation  # type: ignore[arg-type]
    assert opened(shelf, "g1", {"floor": 7}) == generation  # type: ignore[arg-type]
    with pytest.raises(click.ClickException, match="bounds.floor is 7 there and 8 here"):
        opened(shelf, "g1", {"floor": 8})  # type: ignore[arg-type]
    with pytest.raises(click.ClickException, match="no generation g2 in namespace test"):
        opened(shelf, "g2", {})  # type: ignore[arg-type]


def test_no_two_generations_have_one_name() -> None:
    assert len({made(SOURCE, (0, 0, 0), Recipe(), "ready").name for _ in range(20)}) > 15
    assert len({worker_name() for _ in range(20)}) == 20


def test_a_topic_without_letters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "source_of", lambda *_: SOURCE)
    monkeypatch.setattr(recipes, "admin_of", lambda _: Nothing())
    monkeypatch.setattr(recipes, "find_topics", lambda *_: {"events.dlq": object()})
    with pytest.raises(click.ClickException, match="no topic events.late: .*headrace topics create"):
        known_source("127.0.0.1:1", "events")


class Nothing:
    """A context without content."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_source_knows_its_tokens_and_where_shoppers_belong() -> None:
    source = source_for(made(SOURCE, (0, 0, 0), Recipe(partitioner="crc32"), "ready"))
    assert source.tokens == tuple(source_token("cluster", "id", part) for part in range(3))
    assert source.partition_of("shopper-1") == partition_of(b"shopper-1", 3, "crc32")


def test_a_signal_that_is_sent_twice_at_once_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("os.kill", lambda _, number: killed.append(number))
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stopped = Stopped()
    assert not stopped()
    stopped._ask(15, None)
    stopped._ask(15, None)
    assert stopped()
    assert killed == []
    now[0] = 101.5
    stopped._ask(15, None)
    assert killed == [15]
