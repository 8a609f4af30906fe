"""Random language models of two small layers, as folders that transformers opens, and trainings of seconds on them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
)

from headrace.models import distill, ensemble, fitting, pair_rows, student, teacher
from headrace.models.calibration import Ensemble
from headrace.models.prompts import Pair
from headrace.models.student import Student, StudentConfig
from headrace.models.teacher import Kind, Teacher, TeacherConfig
from tiny_pairs import VOCABULARY
from tiny_student import WORDS

torch.set_num_threads(1)  # many small products: a second thread only waits

WIDTH = 32
SHAPE = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 2 * WIDTH,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,  # as large as a trained one's: random ones of 0.02 hardly tell texts apart
}
KINDS: Mapping[str, Kind] = {"llama": "causal", "mpnet": "encoder", "bert": "encoder"}
_ENDS = ("<s>", "<pad>", "</s>", "<unk>")


def write_model(folder: Path, name: str, dropout: float = 0.1) -> Path:
    """The folder of a random ``llama``, ``mpnet`` or ``bert``, with its tokenizer; several processes may write it."""
    torch.manual_seed(1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    model, tokenizer = {"llama": _llama, "mpnet": _mpnet, "bert": _bert}[name](dropout)
    with TemporaryDirectory(dir=folder.parent) as made:
        aside = Path(made) / name
        model.save_pretrained(aside)
        tokenizer.save(str(aside / "tokenizer.json"))
        if name == "bert":
            (aside / student.VOCABULARY).write_bytes(VOCABULARY)
        with suppress(OSError):  # it is there already
            aside.rename(folder)
    return folder


def _llama(dropout: float) -> tuple[PreTrainedModel, Tokenizer]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    shape = SHAPE | {"max_position_embeddings": 512, "attention_dropout": dropout, "vocab_size": len(letters)}
    return _made(LlamaModel, LlamaConfig, shape), tokenizer


def _mpnet(dropout: float) -> tuple[PreTrainedModel, Tokenizer]:
    words = {word: number for number, word in enumerate((*_ENDS, *WORDS[4:]))}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), False, False)
    return _made(MPNetModel, MPNetConfig, SHAPE | _dropped(dropout) | {"vocab_size": len(words)}), tokenizer


def _bert(dropout: float) -> tuple[PreTrainedModel, Tokenizer]:
    return tiny_bert(dropout), pair_rows.tokenizer_of(VOCABULARY, student.part_config(tiny_student()))


def tiny_bert(dropout: float = 0.1, attention: str = "sdpa") -> BertModel:
    """A random BERT; students attend by ``sdpa``."""
    shape = SHAPE | _dropped(dropout) | {"vocab_size": len(WORDS), "attn_implementation": attention}
    made: BertModel = _made(BertModel, BertConfig, shape)
    return made


def _made(model: Any, config: Any, shape: Mapping[str, Any]) -> Any:
    """Any, since transformers' classes have no types that a call could be checked by."""
    return model(config(**shape))


def _dropped(dropout: float) -> dict[str, float]:
    return {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}


def tiny_student(config: StudentConfig | None = None, seed: int = 0, dropout: float = 0.1) -> Student:
    """A student on a random BERT."""
    torch.manual_seed(seed)
    return Student(config or StudentConfig(max_tokens=16), tiny_bert(dropout))


def tiny_teacher(folder: Path, name: str, rank: int = 0, dropout: float = 0.1, max_tokens: int = 64) -> Teacher:
    """A teacher on a random model that is written to ``folder/name``."""
    backbone = write_model(folder / f"{name}-{dropout}", name, dropout)
    return teacher.open_teacher(TeacherConfig(str(backbone), KINDS[name], rank, max_tokens))


QUERIES = ("red shoe", "mouse", "a b", "shoes", "red mouse")
TITLES = ("red shoes", "a mouse", "a b c", "shoe", "red", "b")
PAIRS = tuple(Pair(query, title) for query in QUERIES for title in TITLES)
TARGETS = np.array([float(bool(set(pair.query.split()) & set(pair.title.split()))) for pair in PAIRS])
LISTS = np.repeat(np.arange(len(QUERIES)), len(TITLES))


def tiny_ensemble(folder: Path) -> Path:
    """An ensemble of a causal and of an encoder teacher, in the folder ``both``; theirs lie beside it."""
    members = []
    for name in ("llama", "mpnet"):
        teacher.save(tiny_teacher(folder / "weights", name), folder / name)
        members.append(ensemble.Member(f"../{name}", ensemble.digest_of(folder / name)))
    ensemble.write(folder / "both", members, Ensemble((0.7, 0.6), -0.2, (0.0, 0.0)), 0.03)
    return folder / "both"


def rows_of(one: Student, pairs: Sequence[Pair] = PAIRS) -> pair_rows.PairRows:
    """Pairs as a student on the random BERT reads them."""
    tokenizer = pair_rows.tokenizer_of(VOCABULARY, student.part_config(one))
    return pair_rows.pair_rows(tokenizer, [pair.query for pair in pairs], [pair.title for pair in pairs])


def quiet(done: int, total: int, loss: float) -> None:
    """Says nothing."""


def teach(
    what: str, folder: Path, say: fitting.Say = quiet, dropout: float = 0.1, out: Path | None = None
) -> dict[str, NDArray[np.float32]]:
    """The weights of a training of few steps, gone on with where ``out`` (``folder/what``) has a checkpoint.

    Args:
        what: ``lora``, ``full`` (teachers) or ``student`` (with an adversary).
        folder: keeps backbones.
        say: is told of each step, before its checkpoint is written.
        dropout: of the backbone.
        out: keeps the checkpoint.
    """
    out = out or folder / what
    if what == "student":
        one = tiny_student(dropout=dropout)
        course = distill.DistillCourse(1e-3, 12, 8, 2, adversary=distill.Adversary(0.5))
        distill.train(one, rows_of(one), TARGETS, LISTS, course, out, say)
        return _arrays(fitting.learned(one))
    name, rank = {"lora": ("llama", 2), "full": ("mpnet", 0)}[what]
    model = tiny_teacher(folder, name, rank, dropout)
    rows = teacher.Reader(model.config).rows(PAIRS)
    teacher.train(model, rows, TARGETS, teacher.TeacherCourse(1e-3, 8, 2), out, say)
    return _arrays(fitting.learned(model))


def _arrays(weights: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: value.clone().numpy() for name, value in weights.items()}


def kept(out: Path) -> dict[str, NDArray[np.float32]]:
    """The weights of a checkpoint."""
    return _arrays(torch.load(out / fitting.STATE, weights_only=True)["weights"])
