"""What neighbours are worth without a language model that was trained: logistic regressions on few numbers of a pair.

``counters`` reads no text, ``cosine`` reads the pair alone with MiniLM as it comes, ``cosine, neighbours`` the texts of
its neighbours as well.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModel

from prorbp_tasks import Row, Task

Doubles = NDArray[np.float64]
Vectors = dict[str, NDArray[np.float32]]

COUNTERS, COSINE, READ = "counters", "cosine", "cosine, neighbours"


def baselines(task: Task, weights: Path) -> dict[str, Doubles]:
    """Logits of the test rows by name.

    Args:
        task: training rows fit the regressions.
        weights: the folder of MiniLM.
    """
    rows = [*task.train, *task.test]
    vectors = text_vectors(weights, sorted({text for row in rows for text in _texts(row)}))
    counts = np.array([row.counts for row in rows])
    cosines = np.array([cosines_of(row, vectors) for row in rows])
    targets = np.array([row.target for row in task.train])
    columns = {COUNTERS: counts, COSINE: cosines[:, :1], READ: cosines}
    return {name: fitted(of[: len(targets)], of[len(targets) :], targets) for name, of in columns.items()}


def cosines_of(row: Row, vectors: Vectors) -> tuple[float, ...]:
    """Query and title; then for either side mean and highest with the other one's text, and whether there are any."""
    pair = row.pair
    found = [float(vectors[pair.query] @ vectors[pair.title])]
    for texts, other in ((pair.query_neighbours, pair.title), (pair.item_neighbours, pair.query)):
        alike = [float(vectors[text] @ vectors[other]) for text in texts] or [0.0]
        found += [float(np.mean(alike)), max(alike), float(bool(texts))]
    return tuple(found)


def text_vectors(weights: Path, texts: Sequence[str], batch: int = 128) -> Vectors:
    """Vectors of unit length: the mean over a text's tokens, as MiniLM is meant to be read."""
    model, tokenizer = AutoModel.from_pretrained(weights), Tokenizer.from_file(str(weights / "tokenizer.json"))
    tokenizer.enable_padding()
    order, found = sorted(texts, key=len), Vectors()
    with torch.inference_mode():
        for begin in range(0, len(order), batch):
            rows = tokenizer.encode_batch(order[begin : begin + batch])
            ids, mask = (torch.tensor([getattr(row, name) for row in rows]) for name in ("ids", "attention_mask"))
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
            means = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            found.update(zip(order[begin:], torch.nn.functional.normalize(means).numpy(), strict=False))
    return found


def fitted(train: Doubles, test: Doubles, targets: Doubles, pull: float = 1.0) -> Doubles:
    """Logits of ``test`` [M, F] by a logistic regression on ``train`` [N, F], columns brought to one spread."""
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-9
    inputs = np.hstack([(train - mean) / spread, np.ones((len(train), 1))])
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):
        said = 1 / (1 + np.exp(-inputs @ weights))
        curve = (inputs * (said * (1 - said))[:, None]).T @ inputs + pull * np.eye(len(weights))
        weights -= np.linalg.solve(curve, inputs.T @ (said - targets) + pull * weights)
    return np.asarray((test - mean) / spread @ weights[:-1], dtype=np.float64)


def _texts(row: Row) -> tuple[str, ...]:
    return (row.pair.query, row.pair.title, *row.pair.query_neighbours, *row.pair.item_neighbours)
