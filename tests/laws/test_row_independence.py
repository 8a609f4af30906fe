"""Law 6 on the part that ships: a text's vector and score depend on neither batch mates nor padding."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.minilm import DIGEST, MAX_TOKENS
from headrace.online.scorer import Encoder, batches, cosine, padded

ALLOWED = 1e-5
WORDS = ("wireless", "mouse", "toner", "cartridge,", "black", "laptop", "15.6", "inch", "Logitech", "USB", "2", "m")
TITLES = st.lists(st.sampled_from(WORDS), max_size=150).map(" ".join)
TEXTS = st.lists(st.one_of(st.text(max_size=300), TITLES), min_size=1, max_size=24)


@pytest.fixture(scope="module")
def folder(parts_repository: Path) -> Path:
    return parts_repository / "parts" / DIGEST


@cache
def encoder(folder: Path, threads: int, batch_tokens: int) -> Encoder:
    return Encoder(folder, threads, batch_tokens)


@given(texts=TEXTS, batch_tokens=st.sampled_from([1, 64, 256, 1024, 1 << 20]), threads=st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_batch_mates_change_no_score(folder: Path, texts: list[str], batch_tokens: int, threads: int) -> None:
    together = encoder(folder, threads, batch_tokens).encode(texts)
    alone = np.concatenate([encoder(folder, 1, 1).encode([text]) for text in texts])
    assert np.abs(together - alone).max() <= ALLOWED
    for row in range(len(texts)):
        # The score of the first two texts: their vectors were made with mates and without.
        assert abs(cosine(together[0], together)[row] - cosine(alone[0], alone[row : row + 1])[0]) <= ALLOWED


@given(text=st.text(max_size=300), width=st.integers(0, MAX_TOKENS), junk=st.integers(0, 30_521))
@settings(max_examples=60, deadline=None)
def test_padding_changes_no_score(folder: Path, text: str, width: int, junk: int) -> None:
    used = encoder(folder, 1, 1)
    row = used.tokens([text])[0]
    ids, mask = padded([row], width)
    ids[mask == 0] = junk  # what stands under the mask is not read
    found = used.run(ids, mask)[0]
    assert np.abs(found - used.encode([text])[0]).max() <= ALLOWED


@given(lengths=st.lists(st.integers(1, 200), max_size=60), budget=st.integers(1, 400))
def test_every_text_is_in_exactly_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    cuts = batches(lengths, budget)
    assert sorted(index for cut in cuts for index in cut) == list(range(len(lengths)))
    for cut in cuts:
        assert len(cut) == 1 or len(cut) * max(lengths[index] for index in cut) <= budget
    longest = [max(lengths[index] for index in cut) for cut in cuts]
    assert longest == sorted(longest)


@given(texts=st.lists(st.text(max_size=40), min_size=2, max_size=12))
@settings(max_examples=20, deadline=None)
def test_a_cosine_depends_on_its_own_row(folder: Path, texts: list[str]) -> None:
    vectors = encoder(folder, 1, 256).encode(texts)
    scores = cosine(vectors[0], vectors)
    for row in range(len(texts)):
        assert cosine(vectors[0], vectors[row : row + 1])[0] == scores[row]
