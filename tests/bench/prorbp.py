"""What behaviour neighbours bring a language model, and whether progressive prompts read them better than one prompt.

    python tests/bench/prorbp.py --out FOLDER [--part online_retail|tour] [--arms none one-shot progressive]
        [--rows 3000] [--held 800] [--test 3000] [--layers 30] [--neighbours 5] [--seeds 0] [--json FILE]

Arms: ``none`` reads the pair alone; ``one-shot`` reads all neighbours and answers once, at the end; ``progressive``
answers after the pair, after the query's neighbours and after the item's, and its answers are aggregated on rows held
apart. ``query`` and ``item`` are progressive with one side only. One-shot and progressive read the same tokens. What
was done is kept in the folder: the same command goes on where it was killed.

The two parts are described in tests/support/prorbp_tasks.py; the tour's shoppers are simulated. Beside the arms stand
the baselines of tests/support/prorbp_baselines.py, alone with ``--arms`` and nothing behind it. Needs torch,
transformers and peft, and the folders ``smollm2`` and ``minilm`` in ``--weights``.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from headrace.models import aggregation, fitting, prompts, teacher
from headrace.models.aggregation import Aggregation
from headrace.models.prompts import Pair
from headrace.models.teacher import Reader, Teacher, TeacherConfig, TeacherCourse

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from prorbp_baselines import COSINE, READ, baselines
from prorbp_report import by_cut, hold_to, saying, show
from prorbp_tasks import Row, Sizes, Task, task_of

ROOT: Final = Path(__file__).parents[2]
ARMS: Final = ("none", "one-shot", "progressive", "query", "item")
CHUNK: Final = 256
"""Rows that are scored before they are kept."""
Doubles = NDArray[np.float64]
Scores = dict[str, tuple[Doubles, Doubles]]
"""Arm to read-outs of held rows and of test rows."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the numbers depend on; a folder belongs to one of them."""

    part: str
    rows: int
    held: int
    test: int
    layers: int
    neighbours: int
    learning_rate: float
    batch: int
    epochs: int
    max_tokens: int
    start: str


def pair_of(row: Row, arm: str) -> Pair:
    """What an arm reads of a row."""
    if arm == "none":
        return row.pair.alone()
    if arm == "query":
        return replace(row.pair, item_neighbours=())
    if arm == "item":
        return replace(row.pair, query_neighbours=())
    return row.pair


def tokens_of(reader: Reader, rows: list[Row], arm: str) -> list[teacher.Row]:
    """The rows of an arm; one-shot is read at the end only."""
    found = reader.rows([pair_of(row, arm) for row in rows])
    return [teacher.Row(one.ids, one.reads[-1:]) for one in found] if arm == "one-shot" else found


def shortened(weights: Path, layers: int, out: Path) -> Path:
    """A folder with the same language model cut to its first layers; the weights are linked, not copied."""
    folder = out / f"backbone-{layers}"
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    if layers > config["num_hidden_layers"]:
        raise SystemExit(f"{weights} has {config['num_hidden_layers']} layers, not {layers}")
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}), encoding="utf-8")
    for name in ("model.safetensors", "tokenizer.json"):
        if not (folder / name).exists():
            (folder / name).symlink_to((weights / name).resolve())
    return folder


def arm_scores(
    task: Task, arm: str, seed: int, settings: Settings, backbone: Path, out: Path
) -> tuple[Doubles, Doubles]:
    """Trains an arm if it is not trained yet, and scores held and test rows."""
    folder = out / f"{arm}-{seed}"
    config = TeacherConfig(str(backbone), "causal", 16, settings.max_tokens)
    reader = Reader(config)
    if not (folder / teacher.CONFIG).exists():
        model = teacher.open_teacher(config, seed)
        if settings.start:
            fitting.take(model, load_file(Path(settings.start) / teacher.WEIGHTS))
        course = TeacherCourse(settings.learning_rate, settings.batch, settings.epochs, seed)
        targets = np.array([row.target for row in task.train])
        rows = tokens_of(reader, task.train, arm)
        teacher.train(model, rows, targets, course, folder, saying(f"{arm}, seed {seed}"), {"arm": arm})
    model = teacher.load(folder, out)
    held, test = (
        _kept(model, tokens_of(reader, rows, arm), folder, name)
        for name, rows in (("held", task.held), ("test", task.test))
    )
    return held, test


def _kept(model: Teacher, rows: list[teacher.Row], folder: Path, name: str) -> Doubles:
    """The read-outs [N, 3] of rows, NaN behind a row's last, scored in chunks that are kept."""
    found = np.full((len(rows), prompts.STAGES), np.nan)
    for begin in range(0, len(rows), CHUNK):
        path = folder / f"{name}-{begin}.npy"
        if not path.exists():
            np.save(path, teacher.predict(model, rows[begin : begin + CHUNK], 32))
            print(f"{folder.name}: {name} {begin + CHUNK} of {len(rows)}", flush=True)
        read = np.load(path)
        found[begin : begin + len(read), : read.shape[1]] = read
    return found


def one_score(task: Task, arm: str, held: Doubles, test: Doubles) -> tuple[dict[str, Doubles], Aggregation | None]:
    """An arm's scores of the test rows by name, and its aggregation where it has one."""
    if arm in ("none", "one-shot"):
        return {arm: test[:, 0]}, None
    stages = [
        aggregation.placed(read, [prompts.present(pair_of(row, arm)) for row in rows])
        for read, rows in ((held, task.held), (test, task.test))
    ]
    fitted = aggregation.fit(stages[0], np.array([row.target for row in task.held]))
    last = np.nan_to_num(test[np.arange(len(test)), (~np.isnan(test)).sum(axis=1) - 1])
    return {
        arm: fitted.logits(stages[1]),
        f"{arm}, last answer alone": last,
        f"{arm}, first answer alone": test[:, 0],
        f"{arm}, not fitted": Aggregation().logits(stages[1]),
    }, fitted


def report(task: Task, scores: dict[int, Scores], beside: dict[str, Doubles]) -> dict[str, Any]:
    """AUC of every arm, the mean of its seeds, and differences, with intervals over queries, by third of E."""
    named: dict[str, list[Doubles]] = {name: [values] for name, values in beside.items()}
    fitted: dict[str, Any] = {}
    for seed, arms in scores.items():
        for arm, (held, test) in arms.items():
            own, how = one_score(task, arm, held, test)
            for name, values in own.items():
                named.setdefault(name, []).append(values)
            if how is not None:
                fitted[f"{arm}, seed {seed}"] = asdict(how)
    return {"aggregation": fitted, "seeds": sorted(scores), **by_cut(task.test, named, _DIFFERENCES)}


_DIFFERENCES: Final = (
    ("progressive", "none"),
    ("one-shot", "none"),
    ("progressive", "one-shot"),
    ("progressive", "progressive, last answer alone"),
    ("progressive, last answer alone", "one-shot"),
    ("progressive, first answer alone", "none"),
    ("query", "none"),
    ("item", "none"),
    (READ, COSINE),
)


def main() -> None:
    flags = _flags()
    torch.set_num_threads(flags.threads)
    settings = Settings(**{name: getattr(flags, name) for name in Settings.__dataclass_fields__})
    hold_to(flags.out, asdict(settings))
    backbone = shortened(flags.weights / "smollm2", flags.layers, flags.out)
    task = task_of(flags.part, flags.data, Sizes(flags.rows, flags.held, flags.test, flags.neighbours))
    beside, scores = baselines(task, flags.weights / "minilm"), dict[int, Scores]()

    def tell() -> None:
        numbers = {"settings": asdict(settings), "simulated": flags.part == "tour", **report(task, scores, beside)}
        if flags.json:
            flags.json.write_text(json.dumps(numbers, indent=2) + "\n")
        show(numbers)

    if not flags.arms:
        tell()
    for seed in flags.seeds:
        for arm in flags.arms:
            scores.setdefault(seed, {})[arm] = arm_scores(task, arm, seed, settings, backbone, flags.out)
            tell()


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="keeps checkpoints and scores")
    parser.add_argument("--part", choices=("online_retail", "tour"), default="online_retail")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=["none", "one-shot", "progressive"])
    parser.add_argument("--rows", type=int, default=3_000, help="to train on")
    parser.add_argument("--held", type=int, default=800, help="to fit the aggregation on")
    parser.add_argument("--test", type=int, default=3_000, help="to measure on")
    parser.add_argument("--layers", type=int, default=30, help="of the language model, the first ones")
    parser.add_argument("--neighbours", type=int, default=prompts.NEIGHBOURS, help="a side at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--start", default="", help="begin as this teacher (`headrace train teacher`), same layers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights", type=Path, default=ROOT / ".headrace/weights")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HEADRACE_DATA", "../shared/data")))
    parser.add_argument("--json", type=Path, default=None, help="write the numbers there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
