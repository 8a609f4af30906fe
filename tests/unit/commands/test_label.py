"""`headrace label` on files: candidates, labels that go on after a kill, and what a student is trained on."""

import gzip
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headrace.commands import label
from headrace.commands.main import main
from headrace.models.training_pairs import side_of
from headrace.streams.label_files import labels_of, pairs_of
from headrace.streams.pairs import UnlabelledPair
from home_depot_files import write_home_depot
from label_worker import HashTeacher

KINDS = ("socks", "pan", "lamp", "rug")
COLOURS = ("red", "blue", "green", "grey", "white")


@pytest.fixture(autouse=True)
def given_teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The teacher is one that knows nothing; signals are as they were."""
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(label, "open_teacher", lambda given: HashTeacher())
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    items: list[dict[str, Any]] = [
        {"item_id": f"{kind}-{colour}-{size}", "title": f"{colour} {kind} size {size}", "attributes": {"size": size}}
        for kind in KINDS
        for colour in COLOURS
        for size in range(5)
    ]
    items[0]["description"] = "Warm."
    items[1] = {"item_id": 7, "title": "Red Socks, size 9", "details": "as they are"}
    items.append({"item_id": "again", "title": "RED socks! size 9"})
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    queries = [f"{colour} {kind}\t{1 + 10 * place}\n" for place, colour in enumerate(COLOURS) for kind in KINDS]
    (tmp_path / "queries.tsv").write_text("".join(queries) + "Red  SOCKS\t5\n\n")
    return tmp_path


def headrace(*args: object) -> Result:
    return CliRunner().invoke(main, ["label", *map(str, args)])


def candidates(shop: Path, *more: object, out: str = "pairs.jsonl") -> list[UnlabelledPair]:
    result = headrace("candidates", shop / "items.jsonl", shop / "queries.tsv", shop / out, "--no-vectors", *more)
    assert result.exit_code == 0, result.output
    found = [pair for _, pair in pairs_of(shop / out)]
    assert all(isinstance(pair, UnlabelledPair) for pair in found)
    return [pair for pair in found if isinstance(pair, UnlabelledPair)]


def test_every_query_gets_its_candidates_each_once_with_what_the_teacher_reads(shop: Path) -> None:
    pairs = candidates(shop, "--per-query", 12)
    assert Counter(pair.query for pair in pairs) == {f"{colour} {kind}": 12 for colour in COLOURS for kind in KINDS}
    assert len({pair.pair_id for pair in pairs}) == len(pairs) == 240
    assert {pair.origin for pair in pairs} == {"bm25", "bm25-middle", "same-head", "random"}
    details = {pair.item_id: pair.details for pair in pairs}
    assert details["socks-red-0"] == "size: 0; Warm."
    assert details["7"] == "as they are"
    assert "again" not in details


def test_the_same_seed_gives_the_same_file_and_another_one_another(shop: Path) -> None:
    first, again, other = (
        [pair.pair_id for pair in candidates(shop, "--seed", seed, out=f"{name}.jsonl")]
        for seed, name in ((3, "a"), (3, "b"), (4, "c"))
    )
    assert first == again != other


def test_queries_are_drawn_from_the_tail_more_often_than_their_share(shop: Path) -> None:
    drawn: Counter[str] = Counter()
    for seed in range(30):
        queries = {pair.query for pair in candidates(shop, "--most-queries", 4, "--seed", seed)}
        assert len(queries) == 4
        drawn.update(query.split()[0] for query in queries)
    assert drawn["red"] > drawn["white"] > 0  # asked once and 41 times


def test_json_queries_and_packed_catalogues_are_read_and_bad_lines_are_named(shop: Path) -> None:
    packed = shop / "items.jsonl.gz"
    packed.write_bytes(gzip.compress((shop / "items.jsonl").read_bytes() + b'{"item_id": "x"}\n{"title": "y"}\n'))
    lines = ['{"query": "red socks", "frequency": 3}', '{"query": "red  SOCKS"}', '{"frequency": 3}']
    (shop / "queries.jsonl").write_text("\n".join(lines))
    result = headrace("candidates", packed, shop / "queries.jsonl", shop / "out.jsonl", "--no-vectors")
    assert result.exit_code == 0, result.output
    assert "24 pairs of 1 queries" in result.output
    assert "items.jsonl.gz, line 102: title: missing" in result.output
    assert "items.jsonl.gz, line 103: item_id: missing" in result.output
    assert "queries.jsonl, line 3: query: missing" in result.output


def test_home_depot_gives_all_titles_and_the_queries_that_may_be_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [f"red socks x{number}" for number in range(40)]
    write_home_depot(tmp_path, [(query, f"{colour} socks", 3.0) for query in queries for colour in (*COLOURS, "red")])
    result = headrace(
        "candidates", "homedepot", "homedepot", tmp_path / "out.jsonl", "--no-vectors", "--data", tmp_path
    )
    assert result.exit_code == 0, result.output
    found = [pair for _, pair in pairs_of(tmp_path / "out.jsonl") if isinstance(pair, UnlabelledPair)]
    assert {pair.query for pair in found} == {query for query in queries if side_of(query) == "train"} != set(queries)
    assert {(pair.item_id, pair.title) for pair in found} == {
        (f"h{number}", f"{colour} socks") for number, colour in enumerate(COLOURS)
    }
    monkeypatch.chdir(tmp_path / "homedepot")
    Path("homedepot").write_text('{"item_id": "mine", "title": "blue socks"}\n')
    own = headrace("candidates", "./homedepot", "homedepot", "own.jsonl", "--no-vectors", "--data", tmp_path)
    assert own.exit_code == 0, own.output
    assert {pair.item_id for _, pair in pairs_of(Path("own.jsonl")) if isinstance(pair, UnlabelledPair)} == {"mine"}
    absent = headrace("candidates", "homedepot", "homedepot", tmp_path / "more.jsonl", "--data", tmp_path / "nowhere")
    assert absent.exit_code == 1
    assert "name the folder with --data" in absent.output


@pytest.mark.parametrize("empty", ["items.jsonl", "queries.tsv"])
def test_files_with_nothing_in_them_are_a_sentence(shop: Path, empty: str) -> None:
    (shop / empty).write_text("\n")
    result = headrace("candidates", shop / "items.jsonl", shop / "queries.tsv", shop / "out.jsonl", "--no-vectors")
    assert result.exit_code == 1
    assert f"{empty} holds no" in result.output
    assert not list(shop.glob("out.jsonl*"))


def test_labels_go_on_where_they_were_and_are_collected_for_training(shop: Path) -> None:
    pairs = candidates(shop, "--per-query", 12)
    labels, training = shop / "labels.jsonl", shop / "training.jsonl"
    first = headrace("run", shop / "pairs.jsonl", labels, "--teacher", shop)
    assert "240 pairs labelled, 0 had their label, 0 are no pairs" in first.output
    whole = labels.read_bytes()
    labels.write_bytes(whole[: len(whole) // 2])  # a kill in the middle of a line
    half = len(labels.read_bytes().splitlines()) - 1
    again = headrace("run", shop / "pairs.jsonl", labels, "--teacher", shop, "--batch", 10)
    assert f"{240 - half} pairs labelled, {half} had their label" in again.output
    assert Counter(one.pair_id for one in labels_of(labels)) == Counter({pair.pair_id: 1 for pair in pairs})

    flat = [
        {**json.loads(line), "query": "flat", "pair_id": f"{number:032x}", "probability": 0.5 + number / 1e4}
        for number, line in enumerate(whole.splitlines()[:5])
    ]
    others = shop / "others.jsonl"
    others.write_text("".join(json.dumps(one) + "\n" for one in flat) + whole.splitlines()[0].decode() + "\n")
    result = headrace("collect", training, "--labels", labels, "--labels", others)
    assert result.exit_code == 0, result.output
    assert "240 of 246 labels" in result.output
    assert "1 doubles, 5 without spread" in result.output
    assert [one.pair_id for one in labels_of(training)] == [one.pair_id for one in labels_of(labels)]


def test_labels_of_one_teacher_can_be_told_from_those_of_another(shop: Path) -> None:
    candidates(shop)
    headrace("run", shop / "pairs.jsonl", shop / "labels.jsonl", "--teacher", shop)
    result = headrace("collect", shop / "t.jsonl", "--labels", shop / "labels.jsonl", "--teacher-id", "someone")
    assert "0 of 480 labels" in result.output
    assert "480 other teachers" in result.output


def test_a_file_without_any_pair_is_no_success(shop: Path) -> None:
    (shop / "pairs.jsonl").write_text('{"query": "red"}\nwhat\n')
    result = headrace("run", shop / "pairs.jsonl", shop / "labels.jsonl", "--teacher", shop)
    assert result.exit_code == 1
    assert "0 pairs labelled, 0 had their label, 2 are no pairs" in result.output
    assert "pairs.jsonl holds no pair: `headrace label candidates` makes some" in result.output


def test_a_file_that_holds_something_else_is_a_sentence(shop: Path) -> None:
    candidates(shop)
    for args in (
        ("run", shop / "pairs.jsonl", shop / "queries.tsv", "--teacher", shop),
        ("collect", shop / "t.jsonl", "--labels", shop / "pairs.jsonl"),
    ):
        result = headrace(*args)
        assert result.exit_code == 1
        assert "no label" in result.output


@pytest.mark.parametrize(
    "args",
    [
        ("candidates", "items.jsonl", "queries.tsv"),
        ("candidates", "items.jsonl", "queries.tsv", "out", "--to-topic"),
        ("run", "--teacher", "."),
        ("run", "items.jsonl", "--teacher", "."),
        ("run", "items.jsonl", "out", "--from-topic", "--teacher", "."),
        ("run", "items.jsonl", "out", "--until-end", "--teacher", "."),
        ("collect", "out"),
        ("collect", "out", "--from-topic", "--labels", "items.jsonl"),
    ],
)
def test_flags_that_say_two_things_or_nothing_are_refused(
    shop: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(shop)
    result = headrace(*args)
    assert result.exit_code == 2, result.output
    assert "one of them" in result.output or "belongs to" in result.output


def test_candidates_that_cannot_be_written_are_one_sentence(shop: Path) -> None:
    given = (shop / "items.jsonl", shop / "queries.tsv", shop / "absent" / "pairs.jsonl", "--no-vectors")
    result = headrace("candidates", *given)
    assert result.exit_code == 1
    assert "Error: [Errno 2]" in result.output
