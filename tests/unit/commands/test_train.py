import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from headrace.commands import train as train_verb
from headrace.commands import training
from headrace.commands.main import main
from headrace.commands.progress import ProgressLine
from headrace.models import ensemble, fitting, pair_rows, student, teacher, training_pairs
from headrace.models.core_terms import CoreTerms
from headrace.models.pair_rows import PairNeighbours, told
from headrace.models.prompts import Pair
from headrace.online.pairs import PairScorer
from home_depot_files import write_home_depot
from tiny_transformers import TITLES, kept, write_model

WORDS = ("red", "shoe", "mouse", "a", "b", "c")
QUERIES = [f"{one} {other}" for one in WORDS for other in WORDS]


def rows(target: str = "label") -> list[dict[str, object]]:
    pairs = [(query, title) for query in QUERIES for title in TITLES[:3]]
    return [
        {"query": query, "title": title, target: float(bool(set(query.split()) & set(title.split())))}
        for query, title in pairs
    ]


def written(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, and pretrained weights of two layers."""
    folder = tmp_path_factory.mktemp("train")
    written(folder / "judged.jsonl", rows())
    written(folder / "labels.jsonl", rows("probability"))
    for name, model in (("smollm2", "llama"), ("mpnet", "mpnet"), ("minilm", "bert")):
        write_model(folder / "weights" / name, model)
    return folder


@pytest.fixture(scope="module")
def train(home: Path) -> Callable[..., Result]:
    """`headrace train` with the flags that every test would repeat."""

    def run(verb: str, *flags: str, out: Path, source: str = "judged.jsonl") -> Result:
        named = "--labels" if verb == "student" else "--pairs"
        shared = [named, str(home / source), "--weights", str(home / "weights"), "--threads", "1", "--device", "cpu"]
        return CliRunner().invoke(main, ["train", verb, *shared, "--out", str(out), *flags])

    return run


TEACHER = ("--backbone", "smollm2", "--batch", "32", "--lora-rank", "2", "--rows", "60")
ENCODER = ("--backbone", "mpnet", "--batch", "32", "--rows", "60")
STUDENT = ("--batch", "30", "--max-tokens", "16", "--adversary", "0.5")


def test_teachers_an_ensemble_and_a_student_are_trained(
    home: Path, train: Callable[..., Result], tmp_path: Path
) -> None:
    for name, flags in (("causal", TEACHER), ("encoder", ENCODER)):
        result = train("teacher", *flags, out=tmp_path / name)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"The teacher: {tmp_path / name}\n"
        assert f"pairs to learn from, {name} teacher from {home / 'weights'}" in result.stderr
        assert "steps (100 %)" in result.stderr
    assert teacher.load(tmp_path / "causal").config.lora_rank == 2
    assert teacher.load(tmp_path / "encoder").config.lora_rank == 0
    places = [str(tmp_path / name) for name in ("causal", "encoder")]
    result = train("ensemble", *places, out=tmp_path / "both")
    assert result.exit_code == 0, result.output
    assert "causal x " in result.stdout
    assert "held-apart pairs" in result.stdout
    both = ensemble.open_ensemble(tmp_path / "both")
    assert [member.folder for member in both.manifest.members] == ["../causal", "../encoder"]
    assert 0 < both.probabilities([Pair("red shoe", "shoe")])[0] < 1
    assert 0 <= both.manifest.calibration_error < 0.5
    result = train("student", *STUDENT, out=tmp_path / "student", source="labels.jsonl")
    assert result.exit_code == 0, result.output
    assert f"`headrace export {tmp_path / 'student'} --pairs FILE`" in result.stdout
    one, _ = student.load(tmp_path / "student")
    assert one.config.max_tokens == 16
    assert one.config.slope >= 0


def test_an_ensemble_hears_the_stages_that_its_pairs_have(
    home: Path, train: Callable[..., Result], tmp_path: Path
) -> None:
    source = home / "neighbours.jsonl"
    written(source, [row | {"query_neighbours": ["red"], "item_neighbours": ["mouse"]} for row in rows()])
    assert train("teacher", *TEACHER, out=tmp_path / "one", source=source.name).exit_code == 0
    assert train("ensemble", str(tmp_path / "one"), out=tmp_path / "it", source=source.name).exit_code == 0
    [member] = ensemble.open_ensemble(tmp_path / "it").manifest.members
    assert member.aggregation[0] != 0.0


READS = ("--neighbours", "--hard")


def with_neighbours(home: Path) -> str:
    """A file of pairs whose neighbours tell the label."""
    lines = [
        row | {"query_neighbours": ["red" if row["label"] else "mouse"], "item_neighbours": [row["query"]]}
        for row in rows()
    ]
    return written(home / "told.jsonl", lines).name


def test_a_student_reads_neighbours_from_the_pairs_to_the_part(
    home: Path, train: Callable[..., Result], tmp_path: Path
) -> None:
    source, out = with_neighbours(home), tmp_path / "student"
    long = ("--learning-rate", "1e-2", "--epochs", "10")
    result = train("student", *STUDENT, *READS, *long, source=source, out=out)
    assert result.exit_code == 0, result.output
    one, vocabulary = student.load(out)
    assert one.config.neighbours
    models = ["--repository", str(tmp_path / "models"), "--exact", "encoder.layer.0", "--exact", "encoder.layer.1"]
    exported = CliRunner().invoke(main, ["export", str(out), "--pairs", str(home / source), *models])
    assert exported.exit_code == 0, exported.output
    [folder] = [path for path in (tmp_path / "models" / "parts").iterdir() if (path / "vocab.txt").exists()]
    pairs = training_pairs.read(home / source).pairs[:60]
    asked = [pair.query for pair in pairs], [pair.title for pair in pairs]
    given: list[PairNeighbours | None] = [told(pair) if place % 2 else None for place, pair in enumerate(pairs)]
    tokenizer = pair_rows.tokenizer_of(vocabulary, student.part_config(one))
    bare = pair_rows.pair_rows(tokenizer, *asked)
    logits = student.predict(one, student.NeighbourRows(bare, tokenizer, given))
    scorer = PairScorer(folder)
    # The tables of words and positions are int8 in every part.
    np.testing.assert_allclose(scorer.logits(*asked, given), logits, atol=0.03)
    np.testing.assert_allclose(scorer.logits(*asked), student.predict(one, bare), atol=0.03)
    plain = student.Student(student.StudentConfig(16), one.bert)
    plain.load_state_dict({name: v for name, v in one.state_dict().items() if not name.startswith("neighbours.")})
    np.testing.assert_array_equal(logits[::2], student.predict(plain, bare)[::2])
    assert np.median(np.abs(logits - student.predict(plain, bare))[1::2]) > 0.3


def test_neighbours_are_kept_back_while_a_student_learns_and_read_where_it_is_calibrated(
    home: Path, train: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, read = with_neighbours(home), list[Sequence[PairNeighbours | None]]()

    def noted(one: student.Student, vocabulary: bytes, pairs: Sequence[Pair], *more: CoreTerms | None) -> student.Rows:
        rows = training.rows_for(one, vocabulary, pairs, *more)
        assert isinstance(rows, student.NeighbourRows)
        read.append(rows.neighbours)
        return rows

    monkeypatch.setattr(train_verb, "rows_for", noted)
    for name in ("one", "other"):
        assert train("student", *STUDENT, *READS, source=source, out=tmp_path / name).exit_code == 0
    first, held, again, _ = read
    assert first == again
    alone = sum(one is None for one in first)
    assert 0.2 < alone / len(first) < 0.4
    torn = sum(one is not None and not one.item for one in first)
    assert 0.2 < torn / len(first) < 0.5
    assert all(one is not None and one.query and one.item for one in held)


def test_some_queries_are_learned_mistyped_and_none_is_calibrated_so(
    train: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[list[str]]()

    def noted(one: student.Student, vocabulary: bytes, pairs: Sequence[Pair], *more: CoreTerms | None) -> student.Rows:
        read.append([pair.query for pair in pairs])
        return training.rows_for(one, vocabulary, pairs, *more)

    monkeypatch.setattr(train_verb, "rows_for", noted)
    assert train("student", *STUDENT, "--typos", "0.5", source="labels.jsonl", out=tmp_path).exit_code == 0
    learned, held = read
    assert 0.2 < np.mean([query not in QUERIES for query in learned]) < 0.7
    assert set(held) <= set(QUERIES)
    refused = train("student", *STUDENT, source="labels.jsonl", out=tmp_path)
    assert "it differs in typos" in refused.stderr


def test_a_training_with_neighbours_is_not_one_without(
    home: Path, train: Callable[..., Result], tmp_path: Path
) -> None:
    source = with_neighbours(home)
    assert train("student", *STUDENT, *READS, source=source, out=tmp_path).exit_code == 0
    refused = train("student", *STUDENT, *READS, "--no-neighbours", source=source, out=tmp_path)
    assert refused.exit_code == 1
    assert "belongs to another training (it differs in neighbours)" in refused.stderr


def test_neighbours_that_no_pair_has_are_not_learned_from_nor_compared_on(
    home: Path, train: Callable[..., Result], tmp_path: Path
) -> None:
    refused = train("student", *STUDENT, "--neighbours", out=tmp_path / "none")
    assert refused.exit_code == 1
    assert "judged.jsonl to learn from has `query_neighbours` or `item_neighbours`, lists of texts" in refused.stderr
    source, judged = with_neighbours(home), ("--judged", str(home / "judged.jsonl"))
    refused = train("student", *STUDENT, *READS, *judged, source=source, out=tmp_path / "none")
    assert refused.exit_code == 1
    assert "judged.jsonl held apart for calibration has `query_neighbours`" in refused.stderr
    assert not (tmp_path / "none").exists()
    assert train("student", *STUDENT, *READS, source=source, out=tmp_path / "some").exit_code == 0
    named = [str(tmp_path / "some"), "--pairs", str(home / "judged.jsonl"), "--repository", str(tmp_path / "models")]
    bare = CliRunner().invoke(main, ["export", *named])
    assert bare.exit_code == 1
    assert "this student reads neighbours, but none of the" in bare.stderr


@pytest.mark.parametrize(
    ("verb", "flags"), [("teacher", TEACHER), ("student", STUDENT), ("student", (*STUDENT, "--neighbours"))]
)
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    home: Path,
    train: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    flags: tuple[str, ...],
) -> None:
    source = with_neighbours(home) if "--neighbours" in flags else "judged.jsonl"
    assert train(verb, *flags, source=source, out=tmp_path / "unbroken").exit_code == 0
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)
    told = ProgressLine.__call__

    def stop(line: ProgressLine, done: int, total: int, more: str = "") -> None:
        if done == 2:
            raise SystemExit(9)
        told(line, done, total, more)

    with monkeypatch.context() as stopping:
        stopping.setattr(ProgressLine, "__call__", stop)
        assert train(verb, *flags, source=source, out=tmp_path / "stopped").exit_code != 0
    assert torch.load(tmp_path / "stopped" / fitting.STATE, weights_only=True)["step"] == 1
    assert train(verb, *flags, source=source, out=tmp_path / "stopped").exit_code == 0
    found, whole = kept(tmp_path / "stopped"), kept(tmp_path / "unbroken")
    assert all(np.array_equal(found[name], whole[name]) for name in whole)


def test_another_training_in_the_same_folder_is_refused(
    home: Path, train: Callable[..., Result], tmp_path: Path
) -> None:
    for verb, flags in (("teacher", TEACHER), ("student", STUDENT)):
        out = tmp_path / verb
        assert train(verb, *flags, out=out).exit_code == 0
        other = written(home / "other.jsonl", [row | {"label": 0.5} for row in rows()]).name
        refused = train(verb, *flags, out=out, source=other)
        assert refused.exit_code == 1
        assert "belongs to another training (it differs in data): name another folder" in refused.stderr
        assert train(verb, *flags, "--max-tokens", "17", out=out).exit_code == 1
        assert train(verb, *flags, "--seed", "1", out=out).exit_code == 1


def test_home_depot_is_a_source_by_its_name(home: Path, train: Callable[..., Result], tmp_path: Path) -> None:
    graded = [(str(row["query"]), str(row["title"]), 1 + 2 * float(str(row["label"]))) for row in rows()]
    write_home_depot(tmp_path, graded)
    shared = ["--weights", str(home / "weights"), "--threads", "1", "--device", "cpu", "--data", str(tmp_path)]
    flags = ["train", "student", "--labels", "homedepot", "--hard", "--out", str(tmp_path / "out"), *shared]
    result = CliRunner().invoke(main, flags)
    assert result.exit_code == 0, result.output
    absent = CliRunner().invoke(main, [*flags, "--data", str(tmp_path / "nowhere")])
    assert absent.exit_code == 1
    assert "it is made of train.csv of https://www.kaggle.com" in absent.stderr
    assert "name the folder with --data" in absent.stderr


@pytest.mark.parametrize(
    ("verb", "flags", "reason"),
    [
        (
            "teacher",
            ("--backbone", "bert-tiny"),
            "--backbone bert-tiny is neither minilm, mpnet, smollm2 nor a model's",
        ),
        ("teacher", ("--backbone", "{home}/weights"), "has no config.json: it is not the folder of a model"),
        ("teacher", ("--backbone", "{home}/broken"), "has no tokenizer.json: it is not the folder of a model"),
        ("teacher", ("--device", "tpu"), "--device tpu: there is none here"),
        ("teacher", ("--device", "cuda:99"), "--device cuda:99: there is none here"),
        ("ensemble", ("{home}/weights",), "holds no teacher that is trained to its end"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    home: Path, train: Callable[..., Result], tmp_path: Path, verb: str, flags: tuple[str, ...], reason: str
) -> None:
    (home / "broken").mkdir(exist_ok=True)
    (home / "broken" / "config.json").touch()
    result = train(verb, *(flag.format(home=home) for flag in flags), out=tmp_path)
    assert result.exit_code == 1, result.output
    assert reason in result.stderr
    assert "Traceback" not in result.output


def test_a_known_model_reads_as_it_was_made_to(train: Callable[..., Result], tmp_path: Path) -> None:
    result = train("teacher", "--backbone", "mpnet", "--kind", "causal", out=tmp_path)
    assert result.exit_code == 2
    assert "--backbone mpnet is of the kind encoder, not causal: leave --kind out" in result.stderr


@pytest.mark.parametrize("verb", ["teacher", "student"])
def test_pairs_that_cannot_be_read_are_one_sentence(
    home: Path, train: Callable[..., Result], tmp_path: Path, verb: str
) -> None:
    (home / "bad.jsonl").write_text('{"query": "a"}\n', encoding="utf-8")
    written(home / "few.jsonl", [{"query": "toilet", "title": "b", "label": 1}])
    for source, reason in (
        ("absent.jsonl", "No such file"),
        ("bad.jsonl", "bad.jsonl, line 1: Object missing required field `title`"),
        ("few.jsonl", "has no query on the side `train` of the split: it needs more queries"),
    ):
        result = train(verb, out=tmp_path, source=source)
        assert result.exit_code == 1, result.output
        assert reason in result.stderr
        assert list(tmp_path.iterdir()) == []


def test_a_backbone_that_is_broken_is_one_sentence(home: Path, train: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((home / "weights" / "mpnet" / name).read_bytes())
    result = train("teacher", "--backbone", str(folder), "--kind", "encoder", out=tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert len(result.stderr.splitlines()[-1]) < 600
    assert "Traceback" not in result.output


def test_a_teacher_that_learns_with_neighbours_does_not_lean_on_them(
    home: Path, train: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[Pair]()
    rows_of = teacher.Reader.rows

    def rows(reader: teacher.Reader, pairs: Sequence[Pair]) -> list[teacher.Row]:
        read.extend(pairs)
        return rows_of(reader, pairs)

    monkeypatch.setattr(teacher.Reader, "rows", rows)
    assert train("teacher", *TEACHER, source=with_neighbours(home), out=tmp_path / "one").exit_code == 0
    bare = np.mean([pair == pair.alone() for pair in read])
    own = np.mean([pair.query in pair.item_neighbours for pair in read])
    assert 0.15 < bare < 0.6 and 0.15 < own < 0.6


def test_ctrl_c_after_the_last_step_is_obeyed(
    tmp_path: Path, train: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(fitting, "fit", fit)
    result = train("student", *STUDENT, out=tmp_path / "student")
    assert result.exit_code == 1
    assert "stopped: the same command goes on from its last checkpoint" in result.output
    assert not (tmp_path / "student" / student.CONFIG).exists()


def test_ctrl_c_ends_a_training_in_one_sentence(
    tmp_path: Path, train: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit", stopped)
    result = train("teacher", *ENCODER, out=tmp_path / "teacher")
    assert result.exit_code == 1
    assert "stopped: the same command goes on from its last checkpoint" in result.output


def test_ctrl_c_is_obeyed_at_the_end_of_a_step_and_loses_none(
    tmp_path: Path, train: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("student", *STUDENT, out=tmp_path / "unbroken").exit_code == 0
    before = signal.getsignal(signal.SIGINT)

    def interrupt(line: ProgressLine, done: int, total: int, more: str = "") -> None:
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as stopping:
        stopping.setattr(ProgressLine, "__call__", interrupt)
        result = train("student", *STUDENT, out=tmp_path / "stopped")
    assert result.exit_code == 1
    assert "stopped: the same command goes on from its last checkpoint" in result.output
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(tmp_path / "stopped" / fitting.STATE, weights_only=True)["step"] == 2
    assert train("student", *STUDENT, out=tmp_path / "stopped").exit_code == 0
    found, whole = kept(tmp_path / "stopped"), kept(tmp_path / "unbroken")
    assert all(np.array_equal(found[name], whole[name]) for name in whole)


def test_after_its_last_step_a_training_keeps_no_moments_and_may_be_named_again(
    tmp_path: Path, train: Callable[..., Result]
) -> None:
    assert train("student", *STUDENT, out=tmp_path / "one").exit_code == 0
    whole = kept(tmp_path / "one")
    assert torch.load(tmp_path / "one" / fitting.STATE, weights_only=True)["optimiser"] == {}
    assert train("student", *STUDENT, out=tmp_path / "one").exit_code == 0
    again = kept(tmp_path / "one")
    assert all(np.array_equal(again[name], whole[name]) for name in whole)


def test_a_student_that_reads_core_terms_goes_on_with_the_same_catalogue_only(
    tmp_path: Path, train: Callable[..., Result]
) -> None:
    def shelf(brand: str) -> str:
        lines: list[dict[str, object]] = [
            {"item_id": f"{brand}{n}", "title": f"{brand} red shoe {n} cm"} for n in range(60)
        ]
        return str(written(tmp_path / f"{brand}.jsonl", lines))

    def learned(brand: str) -> Result:
        told = ("--core-terms", "--catalogue", shelf(brand), "--rows", "30")
        return train("student", *STUDENT, *told, source="labels.jsonl", out=tmp_path / "student")

    first = learned("Acme")
    assert first.exit_code == 0, first.output
    assert (tmp_path / "student" / student.CORE_TERMS).exists()
    other = learned("Bolt")
    assert other.exit_code == 1, other.output
    assert "belongs to another training (it differs in catalogue)" in other.output
    assert learned("Acme").exit_code == 0

    corrected = tmp_path / "corrected"
    flags = ("--init", str(tmp_path / "student"), "--hard", "--rows", "30")
    graded = train("student", *flags, out=corrected)
    assert graded.exit_code == 0, graded.output
    lists = (tmp_path / "student" / student.CORE_TERMS).read_bytes()
    assert (corrected / student.CORE_TERMS).read_bytes() == lists
    before, after = (student.load(folder)[0] for folder in (tmp_path / "student", corrected))
    assert (after.config.core_terms, after.config.max_tokens) == (True, 16)
    assert before.core_embeddings.weight.ne(after.core_embeddings.weight).any()


def test_a_student_begins_as_another_and_keeps_its_teachers(train: Callable[..., Result], tmp_path: Path) -> None:
    labels = [row | {"teacher": "wise"} for row in rows("probability")]
    written(tmp_path / "labels.jsonl", labels)
    first, second = tmp_path / "first", tmp_path / "second"
    made = train("student", "--max-tokens", "16", source=str(tmp_path / "labels.jsonl"), out=first)
    assert made.exit_code == 0, made.output
    flags = ("--init", str(first), "--hard", "--learning-rate", "1e-9", "--rows", "30")
    assert train("student", *flags, out=second).exit_code == 0
    before, after = kept(first), kept(second)
    assert max(float(np.abs(before[name] - after[name]).max()) for name in before) < 1e-6, "it began there"
    assert student.load(second)[0].config.teachers == ("wise",)

    with (first / student.WEIGHTS).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")
    other = train("student", *flags, out=second)
    assert "it differs in init" in other.stderr
    said = train("student", *flags, "--layers", "3", "--core-terms", out=tmp_path / "third")
    assert said.exit_code == 2
    assert "--layers, --core-terms: a student of --init has its own" in said.stderr
    nothing = train("student", "--init", str(tmp_path), "--hard", out=tmp_path / "third")
    assert nothing.exit_code == 1
    assert "holds no student: `headrace train student` makes one" in nothing.stderr
    itself = train("student", "--init", str(second), "--hard", out=second)
    assert "--init and --out are one folder" in itself.stderr
    (second / student.CONFIG).unlink()
    unfinished = train("student", "--init", str(second), "--hard", out=tmp_path / "third")
    assert "its training is not finished" in unfinished.stderr


def test_a_student_that_reads_neighbours_is_corrected_on_pairs_that_have_none(
    home: Path, train: Callable[..., Result], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train("student", *STUDENT, *READS, source=with_neighbours(home), out=first).exit_code == 0
    corrected = train("student", "--init", str(first), "--hard", "--rows", "30", out=second)
    assert corrected.exit_code == 0, corrected.output
    before, after = (student.load(folder)[0] for folder in (first, second))
    assert after.config.neighbours
    gates = zip(before.neighbours.parameters(), after.neighbours.parameters(), strict=True)
    assert all(one.allclose(other, rtol=1e-3) for one, other in gates), "but for the decay of weights"
    assert before.classifier.weight.ne(after.classifier.weight).any()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (student.CONFIG, "{", "student.json"),
        (student.CONFIG, '{"layers": 2}', "student.json"),
        (student.VOCABULARY, "[PAD]\n", "vocab.txt"),
        (student.VOCABULARY, "", "vocab.txt"),
    ],
)
def test_a_student_that_was_damaged_is_one_sentence(
    train: Callable[..., Result], tmp_path: Path, name: str, content: str, reason: str
) -> None:
    first = tmp_path / "first"
    assert train("student", *STUDENT, "--rows", "30", source="labels.jsonl", out=first).exit_code == 0
    (first / name).write_text(content, encoding="utf-8")
    refused = train("student", "--init", str(first), "--hard", out=tmp_path / "second")
    assert refused.exit_code == 1
    assert refused.exception is None or isinstance(refused.exception, SystemExit)
    assert reason in refused.stderr
