"""Teachers: language models that say how relevant an item is for a query.

Two kinds share everything but how a pair becomes tokens. A *causal* teacher (SmolLM2 by default) reads the progressive
prompt of ``prompts`` and is read at the last token of each stage; an *encoder* teacher (mpnet) reads query and title as
a pair and is read at its first token. One logit comes out of a read-out; the loss is the binary cross-entropy against
soft targets.

Where a row is read is a position within it, so padding on either side changes nothing, and positions count from the
row's own first token.

Shapes: N rows, B rows of a batch, T tokens, K read-outs of a row, D dimensions.

Source:
    Walmart's teacher (https://arxiv.org/abs/2505.07105) and ProRBP (https://arxiv.org/abs/2408.09439), reconstructed
    where the papers are silent.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel

from headrace.models import fitting, inputs, prompts
from headrace.models.prompts import Pair, stages

Kind = Literal["causal", "encoder"]
Doubles = NDArray[np.float64]

CONFIG: Final = "teacher.json"
WEIGHTS: Final = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """What a teacher is.

    Attributes:
        backbone: a folder, or a name that ``transformers`` knows.
        kind: how it reads a pair.
        lora_rank: of the low-rank weights that learn; 0: all weights learn.
        max_tokens: of a row; a causal one cuts the end of the item's text, an encoder the longer of query and item.
        prompt: hash of the wording.
    """

    backbone: str
    kind: Kind
    lora_rank: int = 0
    max_tokens: int = 128
    prompt: str = prompts.PROMPT_HASH


@dataclass(frozen=True, slots=True)
class Row:
    """A pair as tokens: the ids, and where scores are read (ascending positions, at least one)."""

    ids: tuple[int, ...]
    reads: tuple[int, ...]


class Teacher(nn.Module):
    """A backbone and a head that is read at given tokens."""

    def __init__(self, config: TeacherConfig, backbone: nn.Module, dimensions: int) -> None:
        super().__init__()
        self.config = config
        # Models of RoBERTa's line, mpnet among them, number positions from behind the id of padding.
        padding = getattr(getattr(backbone, "embeddings", None), "padding_idx", None)
        self._first_position = 0 if padding is None else int(padding) + 1
        self._placed = "position_ids" in inspect.signature(backbone.forward).parameters
        if config.lora_rank:
            from peft import LoraConfig, get_peft_model  # only here: full training needs no peft

            lora = LoraConfig(r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear")
            backbone = get_peft_model(backbone, lora)
        self.backbone = backbone
        self.head = nn.Sequential(nn.Linear(dimensions, dimensions), nn.Tanh(), nn.Linear(dimensions, 1))

    def forward(self, ids: Tensor, mask: Tensor, reads: Tensor) -> Tensor:
        """Logits float32 [B, K] of rows [B, T], read at positions int64 [B, K] of the padded rows."""
        given: dict[str, Tensor] = {"input_ids": ids, "attention_mask": mask}
        if self._placed:
            given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0) + self._first_position
        states = self.backbone(**given).last_hidden_state
        chosen = states.gather(1, reads[:, :, None].expand(-1, -1, states.shape[2]))
        # In float32 also where the rest is not: bfloat16 has few numbers, and unequal items would come out equal.
        with torch.autocast(states.device.type, enabled=False):
            logits: Tensor = self.head(chosen.float()).squeeze(2)
        return logits


def open_teacher(config: TeacherConfig, seed: int = 0) -> Teacher:
    """A teacher with the backbone's own weights and a head that has learned nothing.

    Raises:
        OSError: the backbone is not there, or ``transformers`` cannot open it.
    """
    if Path(config.backbone).is_absolute() and not Path(config.backbone).is_dir():
        raise FileNotFoundError(f"the teacher's backbone is not there any more: {config.backbone}")
    torch.manual_seed(seed)
    backbone = AutoModel.from_pretrained(config.backbone, dtype=torch.float32, attn_implementation=_attention(config))
    backbone.config.use_cache = False
    return Teacher(config, backbone, int(backbone.config.hidden_size))


def _attention(config: TeacherConfig) -> str:
    # MPNet adds a bias by distance, which transformers computes in its own attention only.
    return "sdpa" if config.kind == "causal" else "eager"


class Reader:
    """Turns pairs into rows, as one teacher reads them."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        folder = Path(config.backbone)
        there = folder.is_dir()
        self._tokenizer = (
            Tokenizer.from_file(str(folder / "tokenizer.json")) if there else Tokenizer.from_pretrained(config.backbone)
        )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._ask = self._tokenizer.encode(prompts.ASK, add_special_tokens=False).ids

    def rows(self, pairs: Sequence[Pair]) -> list[Row]:
        """The pairs' rows, in their order."""
        return self._encoder(pairs) if self.config.kind == "encoder" else self._causal(pairs)

    def _encoder(self, pairs: Sequence[Pair]) -> list[Row]:
        self._tokenizer.enable_truncation(self.config.max_tokens, strategy="longest_first")
        texts = [(pair.query, f"{pair.title} {pair.details}".strip()) for pair in pairs]
        found = self._tokenizer.encode_batch(texts)
        return [Row(tuple(one.ids), (0,)) for one in found]

    def _causal(self, pairs: Sequence[Pair]) -> list[Row]:
        return [self._staged(pair) for pair in pairs]

    def _staged(self, pair: Pair) -> Row:
        # Each stage is encoded by itself: the one before is then a prefix to the token, whatever comes after it. So is
        # the question at its end, which stays whatever is cut.
        texts = [text.removesuffix(prompts.ASK) for text in stages(pair)]
        pieces = [self._tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        ids: list[int] = []
        reads: list[int] = []
        for number, own in enumerate(pieces):
            left = max(0, self.config.max_tokens - len(ids) - len(self._ask) * (len(pieces) - number))
            # A long description leaves half of the room to neighbours, should they need it: else they were never read.
            later = min(sum(map(len, pieces[number + 1 :])), left // 2)
            ids += own[: left - later] + self._ask
            reads.append(len(ids) - 1)
        return Row(tuple(ids), tuple(reads))


def batch_of(rows: Sequence[Row], pad: int, side: inputs.Side = "right") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, mask [B, T], positions of read-outs [B, K] and which of them exist [B, K] (bool).

    K is that of the row with the most; a row with fewer is read at its last one again, and told so by the last tensor.
    """
    ids, mask = inputs.padded([row.ids for row in rows], pad, side)
    most = max(len(row.reads) for row in rows)
    reads = np.array([[*row.reads, *[row.reads[-1]] * (most - len(row.reads))] for row in rows], dtype=np.int64)
    exists = np.array([[at < len(row.reads) for at in range(most)] for row in rows], dtype=np.bool_)
    if side == "left":
        reads += ids.shape[1] - mask.sum(axis=1, keepdims=True)
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(reads), torch.from_numpy(exists)


def soft_loss(logits: Tensor, targets: Tensor, exists: Tensor) -> Tensor:
    """The binary cross-entropy against soft targets, mean over a row's read-outs, summed over rows.

    Args:
        logits: [B, K].
        targets: [B], 0 to 1.
        exists: bool [B, K].
    """
    each = functional.binary_cross_entropy_with_logits(logits, targets[:, None].expand_as(logits), reduction="none")
    return ((each * exists).sum(1) / exists.sum(1)).sum()


@dataclass(frozen=True, slots=True)
class TeacherCourse:
    """How a teacher is trained.

    Attributes:
        rows: of a batch.
        epochs: passes over the pairs.
        head_rate: times the learning rate for the head; None: as ``head_rate`` says.
    """

    learning_rate: float
    rows: int = 32
    epochs: int = 1
    seed: int = 0
    warmup: float = 0.1
    head_rate: float | None = None


def head_rate(config: TeacherConfig) -> float:
    """How much faster or slower than the rest the head of a teacher learns.

    A step moves the head's sums by its rate times the length of what it reads. A causal model's last states are fifteen
    times as long as an encoder's, and low-rank weights bear a higher rate than all others: a head that keeps up with
    them is thrown about, and the teacher never gets better than guessing.
    """
    return (5.0 if config.kind == "encoder" else 1.0) / (5.0 if config.lora_rank else 1.0)


def train(
    teacher: Teacher,
    rows: Sequence[Row],
    targets: Doubles,
    course: TeacherCourse,
    folder: Path,
    say: fitting.Say,
    about: Mapping[str, str | int | float] | None = None,
) -> None:
    """Trains a teacher on rows and soft targets [N]; goes on from the checkpoint in ``folder`` where there is one."""
    device = next(teacher.parameters()).device
    lengths = [len(row.ids) for row in rows]
    plan = [
        batch
        for epoch in range(course.epochs)
        for batch in inputs.shuffled_batches(lengths, course.rows, np.random.default_rng([course.seed, epoch]))
    ]
    teacher.train()

    def loss_of(step: int) -> Tensor:
        batch = fitting.own_share(plan[step])
        if not len(batch):
            return fitting.nothing(device)
        ids, mask, reads, exists = (one.to(device) for one in batch_of([rows[at] for at in batch], 0))
        aims = torch.from_numpy(targets[batch]).float().to(device)
        with fitting.low_precision(device):
            logits = teacher(ids, mask, reads)
        return soft_loss(logits, aims, exists) / len(plan[step])

    rate = head_rate(teacher.config) if course.head_rate is None else course.head_rate
    steps = fitting.Course(len(plan), course.learning_rate, course.warmup, seed=course.seed, head_rate=rate)
    known = {**asdict(teacher.config), "rows": len(rows), **(about or {})}
    fitting.fit(teacher, steps, loss_of, folder, say, known)
    if fitting.first():
        save(teacher, folder)


def predict(
    teacher: Teacher, rows: Sequence[Row], batch_rows: int = 64, say: Callable[[int, int], None] | None = None
) -> Doubles:
    """The logits of rows, float64 [N, K]; NaN where a row has no such read-out."""
    device = next(teacher.parameters()).device
    teacher.eval()
    order = np.argsort([len(row.ids) for row in rows], kind="stable")[::-1]
    found = np.full((len(rows), max((len(row.reads) for row in rows), default=1)), np.nan)
    with torch.inference_mode():
        for begin in range(0, len(order), batch_rows):
            chosen = order[begin : begin + batch_rows]
            ids, mask, reads, exists = (one.to(device) for one in batch_of([rows[at] for at in chosen], 0))
            with fitting.low_precision(device):
                logits = teacher(ids, mask, reads)
            found[chosen, : logits.shape[1]] = torch.where(exists, logits, torch.nan).double().cpu().numpy()
            if say is not None:
                say(begin + len(chosen), len(rows))
    return found


def save(teacher: Teacher, folder: Path) -> None:
    """Writes what the teacher is and the weights that it learned; those of the backbone are not copied."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in fitting.learned(teacher).items()}
    with fitting.aside(folder / WEIGHTS) as path:
        save_file(weights, path)
    with fitting.aside(folder / CONFIG) as path:
        path.write_text(json.dumps(asdict(teacher.config), indent=2) + "\n", encoding="utf-8")


def load(folder: Path, weights: Path | None = None) -> Teacher:
    """The teacher that ``save`` wrote; ``weights``: the folder where its backbone's folder lies now.

    Raises:
        OSError: nothing was saved there, or its backbone is not there.
        fitting.WrongCheckpoint: its weights are of another model, or it learned from other words than it is asked in.
    """
    said: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config = TeacherConfig(**said)
    if weights is not None:
        config = replace(config, backbone=str(weights / Path(config.backbone).name))
    if config.kind == "causal" and config.prompt != prompts.PROMPT_HASH:
        raise fitting.WrongCheckpoint(f"{folder} learned from prompts in other words ({config.prompt}): train it again")
    teacher = open_teacher(config)
    fitting.take(teacher, load_file(folder / WEIGHTS))
    return teacher
