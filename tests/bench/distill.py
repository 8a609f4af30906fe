"""Training rows a second and core: `python tests/bench/distill.py [--json FILE] [--steps N] [--lists N]`.

Our distillation (all-pairs margins and an anchor, sorted and trimmed chunks) against sentence-transformers'
CrossEncoder with its MarginMSE loss: the same MiniLM, lists of twelve real pairs (Home Depot, queries to learn from)
with made-up scores, at most 64 tokens, one thread, the same precision, AdamW and clipping. Both take turns step by step
on the same lists, so a busy machine is equally busy for both; what counts is the processor time of a step, from texts
to moved weights. A row is one query and item read once. Of sentence-transformers only the loss and the model run, in a
bare loop: what its trainer costs on top is left out, in its favour.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from headrace.models import distill, fitting, pair_rows, pretrained, student
from headrace.models.distill import DistillCourse
from headrace.models.home_depot import judged_pairs

os.environ["TOKENIZERS_PARALLELISM"] = "false"
ROOT: Final = Path(__file__).parent.parent.parent
DATA: Final = Path(os.environ.get("HEADRACE_DATA") or ROOT.parent / "shared" / "data")
WEIGHTS: Final = ROOT / ".headrace" / "weights"
EACH: Final = 12
"""Pairs of a list; the loss we compare with wants the same number in each."""
TOKENS: Final = 64

Listed = tuple[str, tuple[str, ...]]


def lists_of(count: int) -> list[Listed]:
    """Queries with twelve titles each."""
    pairs, found = judged_pairs(DATA).of("train"), dict[str, list[str]]()
    for query, title in zip(pairs.queries, pairs.titles, strict=True):
        found.setdefault(query, []).append(title)
    long = [(query, tuple(titles[:EACH])) for query, titles in found.items() if len(titles) >= EACH]
    return [long[place] for place in np.random.default_rng(0).permutation(len(long))[:count]]


class Theirs:
    """sentence-transformers' model and loss, a step at a time."""

    def __init__(self, folder: Path, rate: float) -> None:
        from sentence_transformers import CrossEncoder
        from sentence_transformers.cross_encoder.losses import MarginMSELoss

        self._model = CrossEncoder(str(folder), device="cpu", max_length=TOKENS)
        self._loss = MarginMSELoss(self._model)
        self._model.train()
        self._optimiser = torch.optim.AdamW(self._model.parameters(), lr=rate, fused=True)

    def step(self, lists: Sequence[Listed], logits: np.ndarray[Any, Any]) -> None:
        """Learns from lists [L] with the teacher's logits [L, 12]."""
        columns = [[query for query, _ in lists], *([titles[at] for _, titles in lists] for at in range(EACH))]
        with fitting.low_precision(torch.device("cpu")):
            loss = self._loss(columns, torch.from_numpy(logits).float())
        loss.backward()
        clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)


def measured(lists: list[Listed], course: DistillCourse, one: student.Student, vocabulary: bytes) -> dict[str, Any]:
    """Rows a second of processor time of both, and their ratio, step by step."""
    random = np.random.default_rng(1)
    probabilities = random.uniform(0.02, 0.98, len(lists) * EACH)
    owners = np.repeat(np.arange(len(lists)), EACH)
    plan = distill.batches(owners, course.rows, np.random.default_rng([course.seed, 0]))
    logits = distill.aims_of(probabilities).reshape(len(lists), EACH)
    tokenizer = pair_rows.tokenizer_of(vocabulary, student.part_config(one))
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as aside:
        student.save(one, vocabulary, Path(aside) / "student")
        other = Theirs(Path(aside) / "student", course.learning_rate)
        begun_s = time.process_time()
        queries = [query for query, titles in lists for _ in titles]
        rows = pair_rows.pair_rows(tokenizer, queries, [title for _, titles in lists for title in titles])
        reading_s = (time.process_time() - begun_s) / len(rows)
        clock: list[float] = []

        def say(done: int, total: int, loss: float) -> None:
            chosen = [int(owners[group[0]]) for group in plan[done - 1]]
            count = len(chosen) * EACH
            ours.append(time.process_time() - clock[-1] + reading_s * count)
            begun_s = time.process_time()
            other.step([lists[place] for place in chosen], logits[chosen])
            theirs.append(time.process_time() - begun_s)
            print(
                f"step {done} of {total}: {count / ours[-1]:.1f} and {count / theirs[-1]:.1f} rows/s", file=sys.stderr
            )
            clock.append(time.process_time())

        clock.append(time.process_time())
        distill.train(one, rows, probabilities, owners, course, Path(aside) / "checkpoint", say)
    return summary([len(batch) * EACH for batch in plan], ours, theirs)


def summary(rows: Sequence[int], ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Medians over steps, the first left out: it warms up."""
    kept = range(1, len(rows)) if len(rows) > 1 else range(len(rows))
    ratios = sorted(theirs[at] / ours[at] for at in kept)
    return {
        "ours_rows_per_s": statistics.median(rows[at] / ours[at] for at in kept),
        "theirs_rows_per_s": statistics.median(rows[at] / theirs[at] for at in kept),
        "ratio": statistics.median(ratios),
        "ratio_least": ratios[0],
        "ratio_most": ratios[-1],
        "steps": len(kept),
    }


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", type=int, default=12, help="of each precision")
    parser.add_argument("--lists", type=int, default=8, help="a step, of twelve pairs each")
    parser.add_argument("--precision", choices=["fp32", "bf16", "both"], default="both")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = pretrained.folder_of(pretrained.MINILM, WEIGHTS, lambda sentence: print(sentence, file=sys.stderr))
    vocabulary = (folder / student.VOCABULARY).read_bytes()
    precisions: dict[str, Callable[[torch.device], contextlib.AbstractContextManager[Any]]] = {
        "fp32": lambda device: contextlib.nullcontext(),
        "bf16": lambda device: torch.autocast(device.type, dtype=torch.bfloat16),
    }
    found: dict[str, Any] = {"lists_a_step": options.lists, "pairs_a_list": EACH}
    for name, precision in precisions.items():
        if options.precision in (name, "both"):
            fitting.low_precision = precision  # type: ignore[assignment]  # another name of its argument
            course = DistillCourse(1e-4, options.lists * EACH)
            one = student.from_encoder(folder, student.StudentConfig(TOKENS))
            found[name] = measured(lists_of(options.steps * options.lists), course, one, vocabulary)
            print(f"{name}: " + "  ".join(f"{key} {value:.3g}" for key, value in found[name].items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
