import gzip
import json
import re
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from headrace.commands.main import main
from headrace.models import bundle, ensemble, judged_pairs
from headrace.models.evaluation import Judged
from headrace.models.pair_rows import told
from headrace.models.prompts import Pair
from headrace.models.training_pairs import side_of
from headrace.online.pairs import PairScorer
from home_depot_files import write_home_depot
from tiny_pairs import tiny_pair_files
from tiny_student import tiny_files
from tiny_transformers import tiny_ensemble


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "icecat"
    folder.mkdir(parents=True)
    with gzip.open(folder / "products.jsonl.gz", "wb") as file:
        for number, title in enumerate(["red shoe", "mouse", "a b c"]):
            file.write(msgspec.json.encode({"id": str(number), "title": title}) + b"\n")
    with gzip.open(folder / "judgments.csv.gz", "wt", encoding="utf-8") as file:
        file.write("query,docid,rating\nred shoe,1,0\nred shoe,0,3\nmouse,1,2\nmouse,2,0\n")
    return tmp_path / "data"


def run(folder: Path, data: Path, *arguments: str) -> Result:
    return evaluate(folder, data, "icecat", *arguments)


def evaluate(folder: Path, data: Path, *arguments: str) -> Result:
    env = {"HEADRACE_REPOSITORY": str(folder / "models"), "HEADRACE_DATA": str(data)}
    return CliRunner().invoke(main, ["evaluate", *arguments], env=env)


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, str]:
    made = {"cosine": tiny_files(), "pairs": tiny_pair_files(), "another": tiny_pair_files(seed=1)}
    return {name: bundle.write_part(tmp_path / "models", "student", files) for name, files in made.items()}


@pytest.fixture
def home_depot(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    return write_home_depot(
        tmp_path / "data",
        [
            (f"red shoe {number % 7} in. x{number}", title, random.choice([1, 2.33, 3]))
            for number in range(300)
            for title in ("red shoe", "mouse", "a 12 in. b", "shoe b")
        ],
    )


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_the_champions_student_is_measured_and_written_as_numbers(tmp_path: Path, data: Path) -> None:
    repository = tmp_path / "models"
    student = bundle.write_part(repository, "student", tiny_files())
    version = bundle.write_bundle(repository, {"student": student}, [])
    bundle.publish(repository, version, 0)
    result = run(tmp_path, data, "--json", str(tmp_path / "found.json"))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["part"] == student
    assert (found["lists"], found["pairs"]) == (2, 4)
    assert found["ndcg_at_10"]["mean"] == pytest.approx(1)  # each title is its query
    assert re.search(r"nDCG@10 +1\.0000 \[1\.0000, 1\.0000\]", result.stdout)
    assert run(tmp_path, data, "--part", student).exit_code == 0


def test_what_is_absent_is_one_sentence_with_the_way_out(tmp_path: Path, data: Path) -> None:
    for where, arguments, reason in (
        (tmp_path / "nowhere", (), "name the folder with --data"),
        (data, (), "headrace parts build --publish"),
        (data, ("--part", "0" * 64), "is missing"),
    ):
        result = run(tmp_path, where, *arguments)
        assert result.exit_code == 1
        assert reason in result.stderr
        assert "Traceback" not in result.output


def test_a_cross_encoder_is_compared_with_the_cosine_on_the_same_lists(
    tmp_path: Path, data: Path, parts: dict[str, str]
) -> None:
    files = [str(tmp_path / name) for name in ("out/report.md", "out/plot.png", "out/found.json")]
    result = run(
        tmp_path, data, "--part", f"new={parts['pairs']}", "--against", f"old={parts['cosine']}",
        "--report", files[0], "--plot", files[1], "--json", files[2],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = read_json(tmp_path / "out" / "found.json")
    assert found["part"] == parts["pairs"]
    assert found["against"] == "old"
    ndcg = {name: values["nDCG@10"]["value"] for name, values in found["models"].items()}
    assert found["ahead"]["new"]["nDCG@10"]["value"] == pytest.approx(ndcg["new"] - ndcg["old"])
    assert found["ndcg_at_10"]["mean"] == ndcg["new"]
    assert "RMSE" not in found["models"]["new"]
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "## Against old" in page
    assert parts["cosine"] in page
    size = struct.unpack(">II", (tmp_path / "out" / "plot.png").read_bytes()[16:24])
    assert min(size) > 200


def test_home_depots_test_queries_are_measured_and_the_scores_can_be_read_again(
    tmp_path: Path, home_depot: Path, parts: dict[str, str]
) -> None:
    result = evaluate(
        tmp_path, home_depot, "homedepot", "--part", f"new={parts['pairs']}", "--against", f"old={parts['cosine']}",
        "--scores", str(tmp_path / "scores.jsonl.gz"), "--json", str(tmp_path / "found.json"), "--resamples", "20",
        "--report", str(tmp_path / "report.md"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = read_json(tmp_path / "found.json")
    assert 0 < found["queries"] < 150
    assert found["scale"]["span"] == 2
    for name in ("new", "old"):
        assert {"RMSE", "ECE", "AUC", "Spearman", "nDCG@10"} == found["models"][name].keys()
    assert found["models"]["old"]["ECE"]["value"] < 0.15, "calibrated on other queries"
    assert "old: a probability by slope" in (tmp_path / "report.md").read_text(encoding="utf-8")
    again = evaluate(
        tmp_path, home_depot, "pairs", str(tmp_path / "scores.jsonl.gz"), "--against", "old", "--span", "2",
        "--json", str(tmp_path / "again.json"), "--resamples", "20",
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    assert read_json(tmp_path / "again.json")["ahead"] == found["ahead"]
    some = evaluate(tmp_path, home_depot, "homedepot", "--part", parts["pairs"], "--rows", "9", "--resamples", "2")
    assert "12 pairs of 3 queries" in some.stdout


def test_a_teacher_is_measured_by_what_it_says_and_needs_no_student(
    tmp_path: Path, home_depot: Path, parts: dict[str, str]
) -> None:
    folder, file = tiny_ensemble(tmp_path), tmp_path / "scores.jsonl.gz"
    given = ["--teacher", f"both={folder}", "--rows", "9", "--resamples", "2"]
    result = evaluate(
        tmp_path, home_depot, "homedepot", *given, "--scores", str(file), "--report", str(tmp_path / "report.md")
    )
    assert result.exit_code == 0, result.output
    kept, asked = judged_pairs.read([file]), ensemble.open_ensemble(folder, device="cpu")
    assert kept.scores["both"] == pytest.approx(
        asked.probabilities(list(map(Pair, kept.queries, kept.titles))), abs=1e-6
    )
    assert np.ptp(kept.scores["both"]) > 0
    assert f"both: teacher {asked.id}." in (tmp_path / "report.md").read_text(encoding="utf-8")

    beside = evaluate(tmp_path, home_depot, "homedepot", *given, "--against", f"new={parts['pairs']}")
    assert beside.exit_code == 0, beside.output
    assert "to new" in beside.stdout
    twice = evaluate(tmp_path, home_depot, "homedepot", *given, "--part", f"both={parts['pairs']}")
    assert "two are called both" in twice.stderr
    nowhere = evaluate(tmp_path, home_depot, "homedepot", "--teacher", str(tmp_path / "nowhere"))
    assert nowhere.exit_code == 1
    assert f"Error: --teacher {tmp_path / 'nowhere'}" in nowhere.stderr


def test_seeds_are_one_arm(tmp_path: Path, home_depot: Path, parts: dict[str, str]) -> None:
    given = ["--part", f"new/0={parts['pairs']}", "--part", f"new/1={parts['another']}", "--resamples", "2"]
    result = evaluate(tmp_path, home_depot, "homedepot", *given)
    assert "new (2 seeds)" in result.stdout
    result = evaluate(tmp_path, home_depot, "homedepot", "--against", f"new/0={parts['pairs']}")
    assert result.exit_code == 1
    assert "no champion" in result.stderr
    result = evaluate(
        tmp_path, home_depot, "homedepot", "--part", parts["cosine"], "--against", f"a={parts['pairs']}",
        "--against", f"b={parts['another']}", "--resamples", "2",
    )  # fmt: skip
    assert "--against names a, b: only seeds of one" in result.stderr
    result = evaluate(tmp_path, home_depot, "homedepot", *["--part", parts["cosine"]] * 2)
    assert "two are called cosine" in result.stderr


def test_what_perturbations_cost_is_measured_for_each_part(
    tmp_path: Path, home_depot: Path, parts: dict[str, str]
) -> None:
    result = evaluate(
        tmp_path, home_depot, "robustness", "--part", f"new={parts['pairs']}", "--against", f"old={parts['cosine']}",
        "--rows", "60", "--resamples", "20", "--report", str(tmp_path / "report.md"),
        "--plot", str(tmp_path / "plot.png"), "--json", str(tmp_path / "found.json"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = read_json(tmp_path / "found.json")
    assert found["parts"] == {"new": parts["pairs"], "old": parts["cosine"]}
    harms = found["models"]["new"]
    assert harms["upper case"]["auc_lost"]["value"] == 0, "this part reads lower case"
    assert harms["letters swapped"]["places_moved"]["value"] > 0
    assert found["rows_changed"]["units dropped"] == 1
    assert "synonym" not in harms, "no query has one"
    both = [models["all that keep the meaning"]["auc_lost"]["value"] for models in found["models"].values()]
    assert found["auc_lost_minus"]["new"]["all that keep the meaning"]["value"] == pytest.approx(both[0] - both[1])
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| letters swapped | 100 % |" in page
    behind = page.partition("## AUC lost, minus that of old")[2]
    assert "| upper case | +.0000 [+.0000, +.0000] |" in behind
    assert "| letters swapped | +.0000 [+.0000, +.0000] |" not in behind
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_robustness_on_pairs_of_ones_own(tmp_path: Path, data: Path, parts: dict[str, str]) -> None:
    judged_pairs.write(tmp_path / "own.jsonl", Judged(("shoe",) * 2, ("red shoe", "mouse"), np.array([1.0, 0.0]), {}))
    result = evaluate(
        tmp_path,
        data,
        "robustness",
        "--pairs",
        str(tmp_path / "own.jsonl"),
        "--part",
        parts["pairs"],
        "--resamples",
        "2",
    )
    assert result.exit_code == 0, result.output
    assert "letter dropped" in result.stdout


def test_pairs_of_ones_own_are_scored_by_parts_and_teachers_that_read_all_that_a_line_says(
    tmp_path: Path, data: Path, parts: dict[str, str]
) -> None:
    gated = bundle.write_part(tmp_path / "models", "student", tiny_pair_files(neighbours=True))
    asked = [Pair(f"red shoe x{number}", "a 12 in. b", "a b", "", ("a b",), ("red shoe",)) for number in range(40)]
    mine = tmp_path / "judged.jsonl"
    rows = [msgspec.json.encode(pair)[:-1] + b',"label":%d}\n' % (number % 2) for number, pair in enumerate(asked)]
    mine.write_bytes(b"".join(rows))
    folder, out = tiny_ensemble(tmp_path), tmp_path / "found.json"
    given = ["--part", f"gated={gated}", "--teacher", f"both={folder}", "--resamples", "2", "--json", str(out)]
    result = evaluate(tmp_path, data, "pairs", str(mine), "--side", "test", "--against", "both", *given)
    assert result.exit_code == 0, result.output
    test = [place for place, pair in enumerate(asked) if side_of(pair.query) == "test"]
    assert 0 < len(test) < len(asked)
    assert read_json(out)["rows"] == len(test)

    labels = np.array(test) % 2
    scorer, teacher = PairScorer(tmp_path / "models" / "parts" / gated), ensemble.open_ensemble(folder, device="cpu")
    told_of = [told(asked[place]) for place in test]
    said: dict[str, NDArray[Any]] = {
        "gated": scorer.score([asked[place].query for place in test], ["a 12 in. b"] * len(test), told_of),
        "both": teacher.probabilities([asked[place] for place in test]),
    }
    for name, scores in said.items():
        rmse = float(np.sqrt(np.mean((scores - labels) ** 2)))
        assert read_json(out)["models"][name]["RMSE"]["value"] == pytest.approx(rmse, abs=1e-5)
    alone = scorer.score([asked[place].query for place in test], ["a 12 in. b"] * len(test))
    assert np.abs(alone - said["gated"]).max() > 1e-3, "neighbours count"

    cosine = f"old={parts['cosine']}"
    beside = evaluate(tmp_path, data, "pairs", str(mine), *given[:2], "--part", cosine, *given[-4:])
    assert beside.exit_code == 0, beside.output
    assert "RMSE" not in read_json(out)["models"]["old"], "a cosine is no probability"
    assert "RMSE" in read_json(out)["models"]["gated"]
    unnamed = evaluate(tmp_path, data, "pairs", str(mine), "--teacher", str(folder), *given[-4:])
    assert unnamed.stdout.splitlines()[1] == "both"
    early = evaluate(tmp_path, data, "pairs", str(mine), "--against", "nobody", *given)
    assert "there is no model 'nobody' to compare with, there are both, gated" in early.stderr
    assert "score " not in early.stderr, "it is said before the work"
    wrong = evaluate(tmp_path, data, "pairs", str(mine), "--teacher", str(folder.parent / "llama"))
    assert "holds no ensemble.json: `headrace train ensemble` makes it" in wrong.stderr

    none = evaluate(tmp_path, data, "pairs", str(mine))
    assert "or --part or --teacher gives them" in none.stderr
    mine.write_bytes(b"".join(row[:-2] + b',"scores":{"gated":1}}\n' for row in rows))
    twice = evaluate(tmp_path, data, "pairs", str(mine), *given)
    assert "gated has scores in a file" in twice.stderr
    mine.write_bytes(rows[test[0]])
    empty = evaluate(tmp_path, data, "pairs", str(mine), "--side", "held", *given)
    assert "no query on the side `held`" in empty.stderr


def test_a_bad_line_an_unknown_model_and_missing_scores_are_one_sentence(tmp_path: Path, data: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = '{"query":"a","title":"x","label":0.5,"scores":{"m":1}}\n'
    for text, arguments, reason in (
        (good + "{}\n", (), "pairs.jsonl, line 2: Object missing required field `query`"),
        (good, ("--against", "n"), "there is no model 'n' to compare with, there are m"),
        ('{"query":"a","title":"x","label":0.5}\n', (), "holds no scores"),
    ):
        path.write_text(text, encoding="utf-8")
        result = evaluate(tmp_path, data, "pairs", str(path), *arguments)
        assert result.exit_code == 1
        assert reason in result.stderr
        assert "Traceback" not in result.output
    result = evaluate(tmp_path, tmp_path / "nowhere", "homedepot", "--part", "0" * 64)
    assert "pairs.csv.gz is not there" in result.stderr
    assert "name the folder with --data" in result.stderr


def test_models_in_several_files_stand_side_by_side(tmp_path: Path, data: Path) -> None:
    random = np.random.default_rng(0)
    queries = tuple(f"query {number}" for number in range(30) for _ in range(4))
    labels = random.integers(0, 4, len(queries)) / 3
    for name, scores in (("ours", labels), ("theirs", random.random(len(queries)))):
        pairs = Judged(queries, queries, labels, {name: scores}, np.arange(len(queries), dtype=np.float64))
        judged_pairs.write(tmp_path / name, pairs)
    report = tmp_path / "report.md"
    result = evaluate(
        tmp_path, data, "pairs", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--against", "theirs",
        "--report", str(report), "--resamples", "50",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    page = report.read_text(encoding="utf-8")
    assert re.search(r"\| AUC tail \| 1\.0000 \[1\.0000, 1\.0000\] \|", page)
    assert re.search(r"\| AUC \| \*\*\+\.\d{4} \[\+", page), "0 lies outside"
    assert "| RMSE | .0000 [.0000, .0000] |" in page
