from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models import distill, fitting, student
from headrace.models.distill import Adversary, DistillCourse, aims_of, batches
from headrace.models.pair_rows import PairNeighbours, tokenizer_of
from headrace.models.prompts import Pair
from headrace.models.student import NeighbourRows, Student, StudentConfig
from tiny_pairs import VOCABULARY
from tiny_transformers import LISTS, TARGETS, quiet, rows_of, tiny_student

COURSE = DistillCourse(1e-3, 12, 8, 2)


def weights(one: Student) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in fitting.learned(one).items()}


def trained(folder: Path, course: DistillCourse, **settings: Any) -> dict[str, torch.Tensor]:
    one = tiny_student(**settings)
    distill.train(one, rows_of(one), TARGETS, LISTS, course, folder, quiet)
    return weights(one)


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 20), st.integers(0, 5))
def test_lists_stay_whole_and_each_is_in_one_batch(lists: list[int], rows: int, seed: int) -> None:
    found = batches(lists, rows, np.random.default_rng(seed))
    places = [place for batch in found for one in batch for place in one.tolist()]
    assert sorted(places) == list(range(len(lists)))
    owners = [{lists[place] for place in one.tolist()} for batch in found for one in batch]
    assert all(len(owner) == 1 for owner in owners)
    assert len(owners) == len(set(lists))
    for batch in found:
        assert sum(map(len, batch[:-1])) < rows  # the list that reaches so many is the last
    assert all(sum(map(len, batch)) >= rows for batch in found[:-1])


def test_a_teachers_probabilities_become_bounded_logits() -> None:
    probabilities = np.array([0.0, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(aims_of(probabilities), [-8, 0, np.log(3), 8])


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_an_adversary_of_no_weight_is_plain_training_exactly(tmp_path: Path, dropout: float) -> None:
    plain = trained(tmp_path / "plain", COURSE, dropout=dropout)
    weightless = replace(COURSE, adversary=Adversary(1.0, 0.0, 0.0, 0.0))
    pushed = trained(tmp_path / "pushed", weightless, dropout=dropout)
    assert all(torch.equal(plain[name], pushed[name]) for name in plain)
    real = trained(tmp_path / "real", replace(COURSE, adversary=Adversary(1.0, 0.5, 0.5, 0.0)), dropout=dropout)
    assert any(not torch.equal(plain[name], real[name]) for name in plain)


@pytest.mark.parametrize("adversary", [None, Adversary(0.7, 0.4, 0.3, 0.0)])
def test_a_step_moves_along_the_gradient_that_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adversary: Adversary | None
) -> None:
    one, course = tiny_student(dropout=0.0), replace(COURSE, chunk=5, adversary=adversary, margin=0.6, anchor=0.2)
    monkeypatch.setattr(fitting, "low_precision", lambda device: nullcontext())
    monkeypatch.setattr(fitting, "fit", lambda model, steps, loss_of, *rest: lost.append(loss_of(0)))
    lost: list[torch.Tensor] = []
    probabilities = np.random.default_rng(0).uniform(0.1, 0.9, len(LISTS))
    distill.train(one, rows_of(one), probabilities, LISTS, course, tmp_path, quiet)
    own = fitting.learning(one)
    found = torch.autograd.grad(lost[0], own, allow_unused=True)

    batch = batches(LISTS, course.rows, np.random.default_rng([course.seed, 0]))[0]
    places = np.concatenate(batch)
    given = student.tensors_of(rows_of(one).arrays(places), torch.device("cpu"))
    aims = torch.from_numpy(aims_of(probabilities)[places]).float()
    chances = torch.from_numpy(probabilities[places]).float()

    def base(scores: torch.Tensor) -> torch.Tensor:
        margins, at = scores.new_zeros(()), 0
        for group in batch:
            apart = (scores - aims)[at : at + len(group)]
            margins = margins + (apart[:, None] - apart[None]).square().sum() / (len(group) * (len(group) - 1))
            at += len(group)
        points = torch.nn.functional.binary_cross_entropy_with_logits(scores, chances)
        return 0.6 * margins / len(batch) + 0.2 * points

    embedded = one.embed(given)
    scores = one.read(embedded, given)
    whole = base(scores)
    if adversary is not None:
        [gradient] = torch.autograd.grad(whole, embedded, retain_graph=True)
        gradient = gradient * given["attention_mask"][:, :, None]
        push = 0.7 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None]
        theirs = one.read(embedded + push, given)
        p, q = torch.sigmoid(scores), torch.sigmoid(theirs)
        whole = whole + 0.4 * base(theirs) + 0.3 * ((p - q) * (scores - theirs) / 2).mean()
    torch.testing.assert_close(lost[0], whole, atol=1e-4, rtol=1e-4)
    for ours, aim in zip(found, torch.autograd.grad(whole, own, allow_unused=True), strict=True):
        assert (ours is None) is (aim is None)
        if ours is not None and aim is not None:
            torch.testing.assert_close(ours, aim, atol=1e-3, rtol=1e-3)


def test_while_it_warms_up_there_is_no_adversary(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", COURSE)
    warm = trained(tmp_path / "warm", replace(COURSE, adversary=Adversary(warmup=1.0)))
    assert all(torch.equal(plain[name], warm[name]) for name in plain)


def test_chunks_change_nothing_but_rounding(tmp_path: Path) -> None:
    found = [
        trained(tmp_path / str(chunk), replace(COURSE, chunk=chunk, learning_rate=1e-4), dropout=0.0)
        for chunk in (2, 100)
    ]
    if not fitting.bf16_processor():
        for name in found[0]:
            torch.testing.assert_close(found[0][name], found[1][name], atol=1e-5, rtol=1e-4)
    assert found[0].keys() == found[1].keys()


@pytest.mark.parametrize("adversary", [None, Adversary(0.5)])
def test_a_student_learns_the_order_that_its_teacher_sees(tmp_path: Path, adversary: Adversary | None) -> None:
    one, lost = tiny_student(dropout=0.0), []
    probabilities = 0.1 + 0.8 * TARGETS
    course = DistillCourse(5e-3, 12, 8, 15, adversary=adversary)
    before = student.predict(one, rows_of(one))
    distill.train(
        one, rows_of(one), probabilities, LISTS, course, tmp_path, lambda done, total, loss: lost.append(loss)
    )
    after = student.predict(one, rows_of(one))
    assert np.mean(lost[-5:]) < 0.5 * np.mean(lost[:5]) or adversary is not None
    assert _in_order(after) > max(0.9, _in_order(before))


def _in_order(scores: np.ndarray[Any, Any]) -> float:
    """The share of pairs of one list, one relevant and one not, that are in their order."""
    found = []
    for owner in range(LISTS.max() + 1):
        own, aims = scores[owner == LISTS], TARGETS[owner == LISTS]
        found += [bool(high > low) for high in own[aims == 1] for low in own[aims == 0]]
    return float(np.mean(found))


def test_hard_labels_are_learned_by_the_point_loss_alone(tmp_path: Path) -> None:
    one = tiny_student(dropout=0.0)
    course = DistillCourse(5e-3, 12, 8, 15, margin=0.0, anchor=1.0)
    distill.train(one, rows_of(one), TARGETS, LISTS, course, tmp_path, quiet)
    scores = student.predict(one, rows_of(one))
    assert ((scores > 0) == (TARGETS > 0.5)).mean() > 0.9


def test_neighbours_are_learned_from(tmp_path: Path) -> None:
    one = tiny_student(StudentConfig(16, neighbours=True), dropout=0.0)
    led = [PairNeighbours((("mouse" if aim else "b", 1.0),), (), 100.0) for aim in TARGETS]
    rows = NeighbourRows(rows_of(one), tokenizer_of(VOCABULARY, student.part_config(one)), led)
    distill.train(one, rows, TARGETS, LISTS, replace(COURSE, epochs=4), tmp_path, quiet)
    assert one.neighbours.out.weight.abs().max() > 0
    assert not np.array_equal(student.predict(one, rows), student.predict(one, rows.rows))


Told = list[tuple[Pair, PairNeighbours]]


def _told(letters: str, count: int, seed: int) -> tuple[Told, np.ndarray[Any, Any]]:
    """Pairs of one query with random titles, relevant where a neighbour is like the title, and these targets."""
    random, found = np.random.default_rng(seed), Told()
    for number in range(count):
        title, other, third = random.choice(list(letters), (3, 2), replace=False).tolist()
        near = title[::-1] if number % 2 else other
        given = PairNeighbours(((" ".join(near), 1.0), (" ".join(third), 1.0)))
        found.append((Pair("red", " ".join(title)), given))
    return found, np.arange(count) % 2


def test_that_titles_like_their_neighbours_are_relevant_is_learned_in_few_steps_of_any_words(tmp_path: Path) -> None:
    one = tiny_student(StudentConfig(16, neighbours=True), dropout=0.0)

    def rows(told: Told) -> NeighbourRows:
        tokenizer = tokenizer_of(VOCABULARY, student.part_config(one))
        return NeighbourRows(rows_of(one, [pair for pair, _ in told]), tokenizer, [given for _, given in told])

    told, aims = _told("abcdefghijklmnop", 320, 1)
    course = DistillCourse(1e-3, 32, 32, 15, margin=0.0, anchor=1.0)
    distill.train(one, rows(told), aims.astype(np.float64), range(len(told)), course, tmp_path, quiet)
    others, aims = _told("qrstuvwxyz", 200, 2)
    scores = student.predict(one, rows(others))
    assert np.mean(scores[aims == 1][:, None] > scores[aims == 0]) > 0.9


def test_the_checkpoint_of_another_course_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, COURSE)
    with pytest.raises(fitting.WrongCheckpoint, match=r"differs in margin, seed\): name another folder, or remove it"):
        trained(tmp_path, replace(COURSE, margin=0.5, seed=3))
