"""What behaviour neighbours bring a student: MiniLM as a cross-encoder with gated neighbours, against one without.

    python tests/bench/neighbours.py --out FOLDER [--part online_retail|tour] [--arms none neighbours]
        [--rows 20000] [--held 2000] [--test 12000] [--neighbours 5] [--seeds 0] [--json FILE]

Arms: ``none`` is trained on the pairs alone; ``neighbours`` reads their neighbours too, as it would be served: all of a
side alike, no exposures; ``off`` is ``neighbours`` with the neighbours of the test rows taken away, so exactly its
plain part. All learn the labels by the point loss. What was done is kept in the folder: the same command goes on where
it was killed.

The two parts are described in tests/support/prorbp_tasks.py; the tour's shoppers are simulated. Held rows are measured
apart: what is chosen, e.g. the learning rate, is chosen on them. Beside the arms stand the baselines of
tests/support/prorbp_baselines.py, alone with ``--arms`` and nothing behind it. Needs torch and transformers, and the
folder ``minilm`` in ``--weights``.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.models import distill, fitting, pair_rows, prompts, student
from headrace.models.pair_rows import told
from headrace.models.student import NeighbourRows, Rows, Student, StudentConfig

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from prorbp_baselines import COSINE, READ, baselines
from prorbp_report import CUTS, by_cut, hold_to, numbers, saying, show
from prorbp_tasks import Row, Sizes, Task, task_of

ROOT: Final = Path(__file__).parents[2]
ARMS: Final = ("none", "neighbours")
OFF: Final = "off"
DIFFERENCES: Final = (("neighbours", "none"), ("neighbours", OFF), (OFF, "none"), (READ, COSINE))
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the numbers depend on; a folder belongs to one of them."""

    part: str
    rows: int
    held: int
    test: int
    neighbours: int
    learning_rate: float
    batch: int
    epochs: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Arms:
    """Trains arms and scores with them; what is in the folder already is read from there.

    Attributes:
        weights: the folder of MiniLM.
        out: keeps students and scores.
    """

    task: Task
    settings: Settings
    weights: Path
    out: Path

    def scores(self, arm: str, seed: int) -> dict[str, tuple[Doubles, Doubles]]:
        """Logits of held and of test rows by name: of the arm, and of ``off`` where it reads neighbours."""
        folder = self.out / f"{arm}-{seed}"
        found = {}
        for name in (arm, OFF) if arm == "neighbours" else (arm,):
            paths = [folder / f"{name}-{kind}.npy" for kind in ("held", "test")]
            if not all(path.exists() for path in paths):
                one = self._trained(arm, seed, folder)
                for path, rows in zip(paths, (self.task.held, self.task.test), strict=True):
                    values = student.predict(one, self._rows(one, rows, name == "neighbours"))
                    with fitting.aside(path) as made, made.open("wb") as file:
                        np.save(file, values)
            found[name] = np.load(paths[0]), np.load(paths[1])
        return found

    def _trained(self, arm: str, seed: int, folder: Path) -> Student:
        if (folder / student.CONFIG).exists():
            return student.load(folder)[0]
        settings, train = self.settings, self.task.train
        config = StudentConfig(settings.max_tokens, neighbours=arm == "neighbours")
        one = student.from_encoder(self.weights, config, seed=seed)
        names = {group: number for number, group in enumerate(dict.fromkeys(row.group for row in train))}
        distill.train(
            one,
            self._rows(one, train, config.neighbours),
            np.array([row.target for row in train]),
            [names[row.group] for row in train],
            self._course(seed),
            folder,
            saying(f"{arm}, seed {seed}"),
            {"arm": arm},
        )
        student.save(one, self._vocabulary(), folder)
        return one

    def _course(self, seed: int) -> distill.DistillCourse:
        own = self.settings
        return distill.DistillCourse(own.learning_rate, own.batch, epochs=own.epochs, seed=seed, margin=0, anchor=1)

    def _rows(self, one: Student, rows: list[Row], neighbours: bool) -> Rows:
        tokenizer = pair_rows.tokenizer_of(self._vocabulary(), student.part_config(one))
        pairs = [row.pair for row in rows]
        found = pair_rows.pair_rows(tokenizer, [pair.query for pair in pairs], [pair.title for pair in pairs])
        if not neighbours:
            return found
        return NeighbourRows(found, tokenizer, [told(row.pair) for row in rows])

    def _vocabulary(self) -> bytes:
        return (self.weights / student.VOCABULARY).read_bytes()


def report(task: Task, scores: dict[str, list[tuple[Doubles, Doubles]]], beside: dict[str, Doubles]) -> dict[str, Any]:
    """AUC of every arm, the mean of its seeds, and differences, of held rows and by third of E of test rows."""
    held = {name: [one for one, _ in seeds] for name, seeds in scores.items()}
    test = {name: [values] for name, values in beside.items()}
    test |= {name: [one for _, one in seeds] for name, seeds in scores.items()}
    return {"held": numbers(task.held, held, DIFFERENCES), **by_cut(task.test, test, DIFFERENCES)}


def main() -> None:
    flags = _flags()
    torch.set_num_threads(flags.threads)
    settings = Settings(**{name: getattr(flags, name) for name in Settings.__dataclass_fields__})
    hold_to(flags.out, asdict(settings))
    task = task_of(flags.part, flags.data, Sizes(flags.rows, flags.held, flags.test, flags.neighbours))
    beside, scores = baselines(task, flags.weights / "minilm"), dict[str, list[tuple[Doubles, Doubles]]]()
    arms = Arms(task, settings, flags.weights / "minilm", flags.out)

    def tell() -> None:
        found = {"settings": asdict(settings), "seeds": flags.seeds, "simulated": flags.part == "tour"}
        found |= report(task, scores, beside)
        if flags.json:
            flags.json.write_text(json.dumps(found, indent=2) + "\n")
        show(found, ("held", *CUTS))

    if not flags.arms:
        tell()
    for seed in flags.seeds:
        for arm in flags.arms:
            for name, values in arms.scores(arm, seed).items():
                scores.setdefault(name, []).append(values)
        tell()


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="keeps checkpoints and scores")
    parser.add_argument("--part", choices=("online_retail", "tour"), default="online_retail")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rows", type=int, default=20_000, help="to train on")
    parser.add_argument("--held", type=int, default=2_000, help="to choose by")
    parser.add_argument("--test", type=int, default=12_000, help="to measure on")
    parser.add_argument("--neighbours", type=int, default=prompts.NEIGHBOURS, help="a side at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights", type=Path, default=ROOT / ".headrace/weights")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HEADRACE_DATA", "../shared/data")))
    parser.add_argument("--json", type=Path, default=None, help="write the numbers there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
