"""The student: a small BERT that reads query and title together and says how relevant the title is.

It is a ``BertForSequenceClassification`` with one label, and loads as one (so in sentence-transformers as a
CrossEncoder) where its extras are off. The extras: an embedding of core-term kinds, added to the word, position and
type of each token; and the neighbours of query and item, let in through a gate. Both begin at zero, so a new student
scores exactly as the BERT it was made of.

Shapes: N pairs, B pairs of a batch, T tokens, D dimensions, M tokens of the neighbours of one side.

Source:
    ei-SRC's core terms (https://arxiv.org/abs/2406.02135), ProRBP's neighbours (https://arxiv.org/abs/2408.09439) as
    inputs of ours.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from headrace.models import pair_rows
from headrace.models.neighbour_gate import Batch, NeighbourGate
from headrace.models.pair_rows import CORE_KINDS, Arrays, PairConfig, PairNeighbours, PairRows, neighbour_arrays

CONFIG: Final = "student.json"
WEIGHTS: Final = "model.safetensors"
EXTRAS: Final = "extras.safetensors"
VOCABULARY: Final = "vocab.txt"
CORE_TERMS: Final = "core_terms.json"
_EXTRAS: Final = ("core_embeddings.", "neighbours.")


class WrongStudent(RuntimeError):
    """A folder whose weights do not fit its config; the text names it."""


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """What a student is beside its BERT.

    Attributes:
        max_tokens: of a pair.
        core_terms: whether it has that extra.
        neighbours: whether it has that extra.
        slope: makes a calibrated probability of a logit: sigmoid(slope * logit + level).
        level: with it.
        teachers: the names of those that it learned from; none where people graded.
    """

    max_tokens: int = 64
    core_terms: bool = False
    neighbours: bool = False
    slope: float = 1.0
    level: float = 0.0
    teachers: tuple[str, ...] = ()


class Student(nn.Module):
    """A BERT with one output, and the extras that its config names."""

    def __init__(self, config: StudentConfig, bert: BertModel) -> None:
        super().__init__()
        if bert.config._attn_implementation != "sdpa":
            raise ValueError("a student's BERT attends by sdpa: open it with attn_implementation='sdpa'")
        self.config = config
        self.bert = bert
        dimensions = bert.config.hidden_size
        self.dropout = nn.Dropout(bert.config.hidden_dropout_prob)
        self.classifier = nn.Linear(dimensions, 1)
        nn.init.normal_(self.classifier.weight, std=bert.config.initializer_range)
        nn.init.zeros_(self.classifier.bias)
        if config.core_terms:
            self.core_embeddings = nn.Embedding(CORE_KINDS, dimensions)
            nn.init.zeros_(self.core_embeddings.weight)
        if config.neighbours:
            self.neighbours = NeighbourGate(dimensions)

    def embed(self, given: Batch) -> Tensor:
        """The embeddings [B, T, D] that the layers read, normalised."""
        words = self.bert.embeddings.word_embeddings(given["input_ids"])
        if self.config.core_terms:
            words = words + self.core_embeddings(given["core_ids"])
        embedded: Tensor = self.bert.embeddings(inputs_embeds=words, token_type_ids=given["token_type_ids"])
        return embedded

    def read(self, embedded: Tensor, given: Batch) -> Tensor:
        """The logits float32 [B] of embeddings [B, T, D]; a batch without arrays of neighbours has none."""
        length = embedded.shape[1]
        allowed = given["attention_mask"][:, None, None, :].bool().expand(-1, 1, length, -1)
        layers: list[Any] = list(self.bert.encoder.layer)
        states = embedded
        for layer in layers[:-1]:
            states = layer(states, allowed)[0]
        # Nobody reads the last layer but at the first token, so it is computed there alone.
        attended = layers[-1].attention(states[:, :1], allowed[:, :, :1], encoder_hidden_states=states)[0]
        first = layers[-1].feed_forward_chunk(attended)
        assert self.bert.pooler is not None
        # In float32 also where the rest is not: bfloat16 is too coarse for margins.
        with torch.autocast(first.device.type, enabled=False):
            score: Tensor = self.classifier(self.dropout(self.bert.pooler(first.float()))).squeeze(1)
            if self.config.neighbours and "neighbour_counts" in given:
                table = self.bert.embeddings.word_embeddings.weight
                score = score + self.neighbours(score, first[:, 0].float(), given, table)
        return score

    def forward(self, given: Batch) -> Tensor:
        """The logits float32 [B] of a batch."""
        return self.read(self.embed(given), given)


def from_encoder(folder: Path, config: StudentConfig, layers: Sequence[int] | None = None, seed: int = 0) -> Student:
    """A student that begins as the BERT in a folder; ``layers``: only these of it, e.g. (0, 2, 5)."""
    torch.manual_seed(seed)
    bert = BertModel.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)
    if layers is not None:
        bert.encoder.layer = nn.ModuleList(bert.encoder.layer[number] for number in layers)
        bert.config.num_hidden_layers = len(layers)
    return Student(config, bert)


class Rows(Protocol):
    """Pairs as a student reads them: ``PairRows``, or ``NeighbourRows`` where neighbours are read too."""

    def __len__(self) -> int:
        """How many pairs."""

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair, [N]."""

    def arrays(self, places: Sequence[int] | NDArray[np.int64], width: int = 0) -> Arrays:
        """The arrays of some pairs, padded to ``width`` tokens at least."""


@dataclass(frozen=True, slots=True)
class NeighbourRows:
    """Pairs with their neighbours.

    Attributes:
        rows: [N], the pairs.
        tokenizer: of the rows.
        neighbours: [N], None is a pair without.
    """

    rows: PairRows
    tokenizer: Tokenizer
    neighbours: Sequence[PairNeighbours | None]

    def __len__(self) -> int:
        return len(self.rows)

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair, [N]; those of neighbours are not counted, no layer reads them."""
        return self.rows.lengths()

    def arrays(self, places: Sequence[int] | NDArray[np.int64], width: int = 0) -> Arrays:
        """The arrays of some pairs, padded to ``width`` tokens at least, and those of their neighbours."""
        found = neighbour_arrays(self.tokenizer, [self.neighbours[place] for place in places])
        return self.rows.arrays(places, width) | found


def tensors_of(arrays: Arrays, device: torch.device) -> dict[str, Tensor]:
    """The arrays of ``pair_rows`` as tensors on a device."""
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def predict(student: Student, rows: Rows, batch_rows: int = 128, width: int = 0) -> NDArray[np.float64]:
    """The logits float64 [N] of rows, in float32; padded to ``width`` tokens at least."""
    device = next(student.parameters()).device
    student.eval()
    order = np.argsort(rows.lengths(), kind="stable")[::-1]
    found = np.empty(len(rows))
    with torch.inference_mode():
        for begin in range(0, len(order), batch_rows):
            chosen = order[begin : begin + batch_rows]
            found[chosen] = student(tensors_of(rows.arrays(chosen, width), device)).double().cpu().numpy()
    return found


def calibrated(student: Student, slope: float, level: float) -> None:
    """Sets what makes a probability of the student's logits."""
    student.config = replace(student.config, slope=slope, level=level)


def part_config(student: Student) -> PairConfig:
    """What the part of this student says of it."""
    bert, config = student.bert.config, student.config
    return PairConfig(
        kind=pair_rows.KIND,
        layers=bert.num_hidden_layers,
        heads=bert.num_attention_heads,
        dimensions=bert.hidden_size,
        max_tokens=config.max_tokens,
        lowercase=True,
        core_terms=config.core_terms,
        neighbours=config.neighbours,
        slope=config.slope,
        level=config.level,
    )


def arrays_of(student: Student) -> dict[str, NDArray[np.float32]]:
    """The weights by name, as the export reads them."""
    return {name: value.detach().cpu().float().numpy() for name, value in student.state_dict().items()}


def save(student: Student, vocabulary: bytes, folder: Path) -> None:
    """Writes a student as a folder of transformers, its extras beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in student.state_dict().items()}
    extras = {name: value for name, value in weights.items() if name.startswith(_EXTRAS)}
    bert = BertConfig.from_dict({**student.bert.config.to_dict(), "architectures": ["BertForSequenceClassification"]})
    bert.num_labels = 1
    bert.vocab_size = student.bert.embeddings.word_embeddings.num_embeddings
    bert.save_pretrained(folder)
    save_file({n: v for n, v in weights.items() if n not in extras}, folder / WEIGHTS, metadata={"format": "pt"})
    save_file(extras, folder / EXTRAS)
    (folder / VOCABULARY).write_bytes(vocabulary)
    tokenizer = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": student.config.max_tokens,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer) + "\n", encoding="utf-8")
    (folder / CONFIG).write_text(json.dumps(asdict(student.config), indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[Student, bytes]:
    """The student and the vocabulary that ``save`` wrote.

    Raises:
        FileNotFoundError: nothing was saved there.
        WrongStudent: its weights are of another model than its config says.
    """
    try:
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config = StudentConfig(**{**said, "teachers": tuple(said.get("teachers", ()))})
    except (ValueError, TypeError, AttributeError) as error:
        raise WrongStudent(f"{folder / CONFIG} cannot be read ({error}): train it again") from error
    bert = BertConfig.from_pretrained(folder, attn_implementation="sdpa")
    student = Student(config, BertModel(bert))  # type: ignore[no-untyped-call]
    try:
        student.load_state_dict(load_file(folder / WEIGHTS) | load_file(folder / EXTRAS))
    except RuntimeError as error:
        raise WrongStudent(
            f"{folder} holds weights of another model, or of an earlier version: train it again"
        ) from error
    vocabulary = (folder / VOCABULARY).read_bytes()
    words = vocabulary.removesuffix(b"\n").count(b"\n") + 1
    if words != bert.vocab_size:
        raise WrongStudent(
            f"{folder / VOCABULARY} has {words:,} words, the weights have {bert.vocab_size:,}: it is another student's"
        )
    return student, vocabulary
