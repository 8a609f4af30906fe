"""Law 6 where torch computes: a pair's score does not depend on batch mates, padding, or the side it is on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models import fitting, student, teacher
from headrace.models.inputs import Side
from headrace.models.pair_rows import PairNeighbours, PairRows, tokenizer_of
from headrace.models.prompts import Pair
from headrace.models.student import NeighbourRows, Student, StudentConfig
from headrace.models.teacher import Reader, Row, Teacher
from tiny_pairs import VOCABULARY
from tiny_transformers import rows_of, tiny_student, tiny_teacher

FEW = settings(max_examples=25, deadline=None)
TEXTS = ("red shoe", "mouse", "a b c d e f g", "", "shoes " * 9, "0 1 2 red mouse")
PAIRS = tuple(
    Pair(query, title, query_neighbours=("red", "b")[: place % 3], item_neighbours=("mouse",)[: place % 2])
    for place, (query, title) in enumerate((query, title) for query in TEXTS for title in TEXTS)
)
PLACES = st.lists(st.integers(0, len(PAIRS) - 1), min_size=1, max_size=9)


def taught() -> tuple[Student, NeighbourRows]:
    """A student whose extras have learned something, and pairs of which some have neighbours."""
    one = tiny_student(StudentConfig(max_tokens=32, core_terms=True, neighbours=True)).eval()
    torch.manual_seed(3)
    for name, value in one.named_parameters():
        if name.startswith(("core_embeddings", "neighbours")):
            torch.nn.init.normal_(value.data, std=0.5)
    plain = rows_of(one, PAIRS)
    kinds = tuple(tuple((place + at) % 5 for at in range(len(row))) for place, row in enumerate(plain.ids))
    led = [
        PairNeighbours(tuple((text, 0.3) for text in pair.query_neighbours), (), 150.0)
        if pair.query_neighbours
        else None
        for pair in PAIRS
    ]
    rows = PairRows(plain.ids, plain.firsts, kinds)
    return one, NeighbourRows(rows, tokenizer_of(VOCABULARY, student.part_config(one)), led)


STUDENT, ROWS = taught()
ALONE = student.predict(STUDENT, ROWS, batch_rows=1)


@FEW
@given(PLACES, st.integers(0, 64))
def test_a_students_score_is_its_pairs_alone(places: list[int], width: int) -> None:
    arrays = student.tensors_of(ROWS.arrays(places, width), torch.device("cpu"))
    with torch.inference_mode():
        np.testing.assert_allclose(STUDENT(arrays).numpy(), ALONE[places], atol=1e-5)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Teacher, list[Row], torch.Tensor]]:
    """Teachers of each kind, the pairs as they read them, and the logits of each pair alone."""
    found = []
    for name in ("llama", "mpnet", "bert"):
        one = tiny_teacher(Path(tmp_path_factory.mktemp("law")), name, max_tokens=96).eval()
        rows = Reader(one.config).rows(PAIRS)
        found.append((one, rows, torch.stack([logits(one, [row], "right", 0, 3)[0] for row in rows])))
    return found


def logits(one: Teacher, rows: list[Row], side: Side, pad: int, reads: int) -> torch.Tensor:
    """[B, reads], the last that exists again where there are fewer."""
    ids, mask, places, _ = teacher.batch_of(rows, pad, side)
    with torch.inference_mode():
        found = one(ids, mask, places)
    return torch.cat([found, found[:, -1:].expand(-1, reads - found.shape[1])], 1)


@FEW
@given(st.integers(0, 2), PLACES, st.sampled_from(["left", "right"]), st.integers(0, 3))
def test_a_teachers_logits_are_its_pairs_alone(
    teachers: list[tuple[Teacher, list[Row], torch.Tensor]], which: int, places: list[int], side: Side, pad: int
) -> None:
    one, rows, alone = teachers[which]
    found = logits(one, [rows[place] for place in places], side, pad, 3)
    torch.testing.assert_close(found, alone[places], atol=1e-4, rtol=0)


def test_in_bfloat16_a_teachers_logits_are_so_up_to_its_rounding(
    teachers: list[tuple[Teacher, list[Row], torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "low_precision", lambda device: torch.autocast("cpu", dtype=torch.bfloat16))
    for one, rows, alone in teachers:
        low = [teacher.predict(one, rows, batch_rows) for batch_rows in (1, 4, 36)]
        for found in low[1:]:
            np.testing.assert_allclose(found, low[0], atol=5e-3)
        np.testing.assert_allclose(low[0][:, 0], alone[:, 0], atol=0.05)
        whole = torch.from_numpy(low[0][:, 0]).float()
        assert (whole != whole.bfloat16().float()).float().mean() > 0.9  # what comes out is not as coarse
