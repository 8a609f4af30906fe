from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification, BertModel

from headrace.models import student
from headrace.models.neighbour_gate import likenesses
from headrace.models.pair_rows import PairNeighbours, neighbour_arrays, tokenizer_of
from headrace.models.prompts import Pair
from headrace.models.student import NeighbourRows, Student, StudentConfig, predict, tensors_of
from tiny_pairs import VOCABULARY
from tiny_student import WORDS
from tiny_transformers import PAIRS, rows_of, tiny_bert, tiny_student, write_model

BOTH = StudentConfig(max_tokens=16, core_terms=True, neighbours=True)
CPU = torch.device("cpu")
SOME = PairNeighbours((("red shoes", 0.4), ("shoe", 0.2)), (("mouse", 0.3),), 120.0)


def taught(one: Student) -> Student:
    """The same with extras that have learned something."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, value in one.named_parameters():
            if name.startswith(("core_embeddings", "neighbours")):
                value.normal_(0, 0.5)
    return one


def with_neighbours(one: Student, given: list[PairNeighbours | None]) -> NeighbourRows:
    return NeighbourRows(rows_of(one), tokenizer_of(VOCABULARY, student.part_config(one)), given)


def test_a_new_student_scores_as_the_bert_it_was_made_of() -> None:
    one = tiny_student().eval()
    config = BertConfig.from_dict(one.bert.config.to_dict())
    config.num_labels = 1
    whole: Any = BertForSequenceClassification._from_config(config, attn_implementation="eager").eval()
    whole.load_state_dict(one.state_dict())
    arrays = tensors_of(rows_of(one).arrays(range(len(PAIRS))), CPU)
    with torch.inference_mode():
        torch.testing.assert_close(one(arrays), whole(**arrays).logits[:, 0], atol=1e-5, rtol=0)
    assert predict(one, rows_of(one)).std() > 0.01


@pytest.mark.parametrize("core_terms", [False, True])
@pytest.mark.parametrize("neighbours", [False, True])
def test_extras_that_have_learned_nothing_change_nothing(core_terms: bool, neighbours: bool) -> None:
    plain, one = tiny_student(), tiny_student(StudentConfig(16, core_terms, neighbours))
    one.load_state_dict(plain.state_dict() | {n: v for n, v in one.state_dict().items() if n not in plain.state_dict()})
    arrays = rows_of(plain).arrays(range(len(PAIRS)))
    arrays["core_ids"] = np.random.default_rng(0).integers(0, 5, arrays["input_ids"].shape)
    arrays |= neighbour_arrays(tokenizer_of(VOCABULARY, student.part_config(plain)), [SOME] * len(PAIRS))
    with torch.inference_mode():
        scores = [it.eval()(tensors_of(arrays, CPU)) for it in (plain, one)]
    assert torch.equal(scores[0], scores[1])


def test_core_terms_that_have_learned_are_heard() -> None:
    one = taught(tiny_student(BOTH)).eval()
    arrays = rows_of(one).arrays(range(4))
    zeros = np.zeros_like(arrays["input_ids"])
    with torch.inference_mode():
        none, some = (one(tensors_of(arrays | {"core_ids": ids}, CPU)) for ids in (zeros, zeros + 2))
    assert (none - some).abs().max() > 1e-3


def test_without_neighbours_a_taught_gate_leaves_the_score_as_it_is() -> None:
    config = StudentConfig(16, neighbours=True)
    one, plain = taught(tiny_student(config)), tiny_student(config)
    given = [SOME if number % 2 else None for number in range(len(PAIRS))]
    scores, bare = predict(one, with_neighbours(one, given)), predict(plain, rows_of(plain))
    np.testing.assert_array_equal(scores[::2], predict(one, rows_of(one))[::2])
    np.testing.assert_array_equal(scores[::2], bare[::2])
    assert (scores[1::2] != bare[1::2]).all()
    nothing = PairNeighbours((), (), 500.0)  # shown often, but no edge
    np.testing.assert_array_equal(predict(one, with_neighbours(one, [nothing] * len(PAIRS))), bare)


def test_a_gate_that_never_learned_with_exposures_does_not_hear_them() -> None:
    one = tiny_student(StudentConfig(16, neighbours=True), dropout=0.0)
    given = tensors_of(with_neighbours(one, [replace(SOME, exposures=0.0)] * len(PAIRS)).arrays(range(8)), CPU)
    course = torch.optim.AdamW(one.parameters(), 0.01, weight_decay=0.1)
    for _ in range(4):
        (one(given) - 1).square().mean().backward()
        course.step()
        course.zero_grad()
    assert one.neighbours.gate.weight.abs().max() > 0
    less, more = (predict(one, with_neighbours(one, [replace(SOME, exposures=e)] * len(PAIRS))) for e in (0, 500))
    np.testing.assert_array_equal(less, more)


def test_the_gate_adds_what_is_written_down() -> None:
    one = taught(tiny_student(StudentConfig(16, neighbours=True))).eval()
    rows = with_neighbours(one, [SOME] * len(PAIRS))
    given = tensors_of(rows.arrays([3]), CPU)
    with torch.inference_mode():
        states = one.bert(**{name: given[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
        plain = one.classifier(states.pooler_output)[0, 0]
        table = one.bert.embeddings.word_embeddings.weight
        sides = [
            given[f"{side}_neighbour_weights"][0] @ table[given[f"{side}_neighbour_ids"][0]]
            for side in ("query", "item")
        ]
        alike = 128 * (likenesses(given, table)[0] - 1 / 3)
        hidden = torch.tanh(one.neighbours.hidden(torch.cat([states.last_hidden_state[0, 0], *sides, alike])))
        counts = torch.tensor([float(plain), np.log1p(120.0), 2.0, 1.0], dtype=torch.float32)
        aim = plain + torch.sigmoid(one.neighbours.gate(counts))[0] * one.neighbours.out(hidden)[0]
    assert predict(one, rows)[3] == pytest.approx(float(aim), abs=1e-5)


def alike(pairs: list[Pair], given: list[PairNeighbours | None]) -> list[list[float]]:
    one = tiny_student(StudentConfig(8, neighbours=True))
    tokenizer = tokenizer_of(VOCABULARY, student.part_config(one))
    rows = NeighbourRows(rows_of(one, pairs), tokenizer, given)
    table = one.bert.embeddings.word_embeddings.weight
    found = likenesses(tensors_of(rows.arrays(range(len(pairs)), 12), CPU), table)
    assert not found.requires_grad
    return [[round(value, 6) for value in row] for row in found.tolist()]


def test_a_likeness_is_how_well_a_text_is_found_among_the_neighbours_of_the_other_one() -> None:
    words = tiny_student().bert.embeddings.word_embeddings.weight.detach()
    x, a, b, mouse = (words[WORDS.index(word)] / words[WORDS.index(word)].norm() for word in ("x", "a", "b", "mouse"))
    near = [max(0.0, float(word @ x), float(word @ mouse)) for word in (a, b)]
    given = PairNeighbours((("b", 1.0), ("x", 1.0)), (("red", 0.2),))
    assert alike([Pair("red", "b")], [given]) == [[1, 1]]
    assert alike([Pair("a", "a b")], [PairNeighbours((("x", 0.5), ("mouse", 0.1)))]) == [
        [pytest.approx(np.mean(near), abs=1e-6), 0]
    ]
    # Of a text that was cut, what is left; its mates are padded and have more neighbours.
    cut = alike([Pair("a", "a b " * 9), Pair("x", "mouse")], [PairNeighbours((("a b", 1.0),)), given])
    assert cut[0] == [1, 0]


def test_where_there_is_nothing_to_compare_nothing_is_alike() -> None:
    given = PairNeighbours((("b", 1.0),), (("b", 1.0),))
    assert alike([Pair("", "b"), Pair("b", ""), Pair("", ""), Pair("b", "b")], [*[given] * 3, None]) == [
        [1, 0],
        [0, 1],
        [0, 0],
        [0, 0],
    ]


def test_a_side_without_neighbours_says_neither_that_it_is_alike_nor_that_it_is_not() -> None:
    one = taught(tiny_student(StudentConfig(16, neighbours=True))).eval()
    seen: list[torch.Tensor] = []
    one.neighbours.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -2:]))
    predict(one, with_neighbours(one, [PairNeighbours((("mouse", 1.0),))] * len(PAIRS)))
    assert (seen[0][:, 0] != 0).all()
    assert (seen[0][:, 1] == 0).all()


def test_where_the_layers_are_coarse_the_neighbours_are_not() -> None:
    one = taught(tiny_student(StudentConfig(16, neighbours=True))).eval()
    given = tensors_of(with_neighbours(one, [SOME] * len(PAIRS)).arrays(range(8)), CPU)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    one.neighbours.hidden.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0][:, -2:], output)))
    with torch.inference_mode():
        one(given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert one(given).dtype == torch.float32
    assert torch.equal(seen[0][0], seen[1][0])
    assert seen[1][1].dtype == torch.float32


@pytest.mark.parametrize("config", [StudentConfig(64), StudentConfig(64, neighbours=True)])
def test_trimmed_rows_score_as_rows_of_fixed_width_and_alone_as_among_others(config: StudentConfig) -> None:
    one = taught(tiny_student(config))
    rows = with_neighbours(one, [SOME, None] * (len(PAIRS) // 2)) if config.neighbours else rows_of(one)
    trimmed = predict(one, rows)
    np.testing.assert_allclose(predict(one, rows, width=64), trimmed, atol=1e-5)
    np.testing.assert_allclose(predict(one, rows, batch_rows=1), trimmed, atol=1e-5)
    np.testing.assert_allclose(predict(one, rows, batch_rows=7), trimmed, atol=1e-5)


def test_a_student_is_kept_with_its_extras_and_scale(tmp_path: Path) -> None:
    one = taught(tiny_student(StudentConfig(16, neighbours=True, core_terms=True)))
    student.calibrated(one, 1.5, -0.25)
    student.save(one, VOCABULARY, tmp_path / "kept")
    plain = load_file(tmp_path / "kept" / student.WEIGHTS)
    assert {name.partition(".")[0] for name in plain} == {"bert", "classifier"}  # what transformers expects there
    again, vocabulary = student.load(tmp_path / "kept")
    assert again.config == one.config == StudentConfig(16, True, True, 1.5, -0.25)
    assert vocabulary == VOCABULARY
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in one.state_dict().items())
    config = student.part_config(again)
    assert (config.layers, config.heads, config.dimensions, config.slope, config.level) == (2, 4, 32, 1.5, -0.25)
    assert {"bert.pooler.dense.weight", "neighbours.out.bias", "core_embeddings.weight"} <= student.arrays_of(
        again
    ).keys()


def test_nothing_to_load_and_other_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        student.load(tmp_path)
    student.save(tiny_student(), VOCABULARY, tmp_path)
    said = (tmp_path / student.CONFIG).read_text(encoding="utf-8")
    (tmp_path / student.CONFIG).write_text(said.replace('"neighbours": false', '"neighbours": true'), encoding="utf-8")
    with pytest.raises(student.WrongStudent, match="holds weights of another model, or of an earlier version"):
        student.load(tmp_path)


@pytest.mark.parametrize("layers", [None, (1,)])
def test_a_student_begins_as_an_encoder_with_all_or_some_of_its_layers(
    tmp_path: Path, layers: tuple[int, ...] | None
) -> None:
    folder = write_model(tmp_path / "bert", "bert")
    one = student.from_encoder(folder, StudentConfig(16), layers, seed=3)
    kept = BertModel.from_pretrained(folder).state_dict()
    for place, number in enumerate(layers or (0, 1)):
        name = "encoder.layer.{}.attention.self.query.weight"
        assert torch.equal(one.bert.state_dict()[name.format(place)], kept[name.format(number)])
    assert len(one.bert.encoder.layer) == student.part_config(one).layers == len(layers or (0, 1))
    same = student.from_encoder(folder, StudentConfig(16), layers, seed=3)
    other = student.from_encoder(folder, StudentConfig(16), layers, seed=4)
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_a_bert_that_reads_masks_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="attends by sdpa"):
        Student(StudentConfig(), tiny_bert(attention="eager"))


def test_with_its_extras_off_it_loads_as_a_cross_encoder_and_scores_alike(tmp_path: Path) -> None:
    import sentence_transformers  # takes seconds, and one test needs it

    one = tiny_student()
    student.save(one, VOCABULARY, tmp_path)
    there = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu")
    pairs = [(pair.query, pair.title) for pair in PAIRS] + [("Red  SHOE", "a " * 60)]
    scores = there.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    rows = rows_of(one, [*PAIRS, type(PAIRS[0])("Red  SHOE", "a " * 60)])
    np.testing.assert_allclose(scores, predict(one, rows), atol=1e-5)
