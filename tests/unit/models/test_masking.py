from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertModel

from headrace.models import fitting
from headrace.models.masking import MaskingCourse, adapt, between_ends, extend, hide

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "red", "shoe", "blue", "hat")
VOCABULARY = "".join(f"{word}\n" for word in (*WORDS, *(f"##{letter}" for letter in "dghorstu"))).encode()
TITLES = ["red shoe", "blue hat", "red shoe blue hat", "shoe hat", "dog shoe red", "dog hat blue"] * 4
COURSE = MaskingCourse(steps=40, rows=8, learning_rate=3e-3, share=0.3, max_tokens=12)


def tiny(seed: int = 0) -> BertModel:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    words = len(VOCABULARY.decode().splitlines())
    config = BertConfig(vocab_size=words, max_position_embeddings=32, **sizes)  # type: ignore[no-untyped-call]
    return BertModel(config)  # type: ignore[no-untyped-call]


def words_of(encoder: BertModel) -> nn.Embedding:
    table = encoder.get_input_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(table, nn.Embedding)
    return table


def run(encoder: BertModel, folder: Path, stop: int = -1) -> list[float]:
    losses: list[float] = []

    def say(done: int, steps: int, loss: float) -> None:
        losses.append(loss)
        if done == stop:
            raise KeyboardInterrupt

    adapt(encoder, VOCABULARY, TITLES, COURSE, folder, say)
    return losses


def test_an_encoder_gets_words_whose_vectors_are_those_of_their_pieces() -> None:
    encoder = tiny()
    old = words_of(encoder).weight.detach().clone()
    content = extend(encoder, VOCABULARY, ["dog"])
    table = words_of(encoder)
    assert content == VOCABULARY + b"dog\n"
    assert table.weight.requires_grad and table.padding_idx == 0
    assert encoder.config.vocab_size == len(table.weight) == len(old) + 1
    lines = VOCABULARY.decode().splitlines()
    mean = old[[lines.index(piece) for piece in ("d", "##o", "##g")]].mean(0)
    torch.testing.assert_close(table.weight[-1], mean)
    torch.testing.assert_close(table.weight[:-1], old)


def test_the_loss_falls_and_new_vectors_move(tmp_path: Path) -> None:
    encoder = tiny()
    content = extend(encoder, VOCABULARY, ["dog"])
    began = words_of(encoder).weight.detach()[-1].clone()
    losses: list[float] = []
    adapt(encoder, content, TITLES, COURSE, tmp_path, lambda done, steps, loss: losses.append(loss))
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])
    assert float((words_of(encoder).weight.detach()[-1] - began).norm()) > 0.01


def test_a_pass_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, first, second = tiny(), tiny(), tiny()
    losses = run(whole, tmp_path / "whole")
    monkeypatch.setattr(fitting.fit, "__defaults__", (0.0,))  # a checkpoint after every step
    with pytest.raises(KeyboardInterrupt):
        run(first, tmp_path / "stopped", stop=17)
    rest = run(second, tmp_path / "stopped")
    assert len(rest) < len(losses)
    assert rest == losses[-len(rest) :]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_checkpoint_of_other_titles_or_words_is_refused(tmp_path: Path) -> None:
    run(tiny(), tmp_path)
    with pytest.raises(fitting.WrongCheckpoint, match="differs in titles"):
        adapt(tiny(), VOCABULARY, TITLES[::-1], COURSE, tmp_path, lambda done, steps, loss: None)


def test_titles_without_a_word_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to guess"):
        adapt(tiny(), VOCABULARY, ["", " "], COURSE, tmp_path, lambda done, steps, loss: None)


@given(seed=st.integers(0, 2**32 - 1), free=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=5))
def test_only_free_tokens_are_hidden_and_at_least_one_is(seed: int, free: list[list[bool]]) -> None:
    may = np.array(free, dtype=bool).reshape(len(free), 4)
    ids = np.full(may.shape, 7, dtype=np.int64)
    shown, hidden = hide(ids, may, 0.15, (4, 40), np.random.default_rng(seed))
    again, _ = hide(ids, may, 0.15, (4, 40), np.random.default_rng(seed))
    np.testing.assert_array_equal(shown, again)
    assert not (hidden & ~may).any()
    assert hidden.any() == may.any()
    np.testing.assert_array_equal(shown[~hidden], ids[~hidden])


def test_ends_and_padding_are_not_hidden() -> None:
    there = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=np.int64)
    assert between_ends(there).astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]]


def test_shares_are_those_of_bert() -> None:
    ids = np.full((400, 50), 7, dtype=np.int64)
    shown, hidden = hide(ids, np.ones(ids.shape, dtype=bool), 0.15, (4, 1000), np.random.default_rng(0))
    assert hidden.mean() == pytest.approx(0.15, abs=0.01)
    assert (shown[hidden] == 4).mean() == pytest.approx(0.8, abs=0.03)
    assert (shown[hidden] == 7).mean() == pytest.approx(0.1, abs=0.03)
