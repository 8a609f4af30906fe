"""The tour's first bundle."""

from pathlib import Path

import pytest

from headrace.models.bundle import read_bundle
from headrace.models.head import Head
from headrace.online.pairs import PairScorer
from headrace.tour.bundles import GOLDEN_QUERY, GOLDEN_TEXTS, first_bundle
from tiny_models import write_pair_student


@pytest.mark.parametrize("neighbours", [True, False])
def test_its_golden_requests_ask_for_all_that_the_student_reads(tmp_path: Path, neighbours: bool) -> None:
    student = tmp_path / "made" / "parts" / write_pair_student(tmp_path / "made", 0, neighbours=neighbours)
    version = first_bundle(tmp_path / "tour", student, Head.cold())
    [golden] = [one for one in read_bundle(tmp_path / "tour", version).golden if one.part == "student"]
    bare = PairScorer(student).score([GOLDEN_QUERY] * len(GOLDEN_TEXTS), GOLDEN_TEXTS).tolist()
    changed = [abs(one - other) > 1e-3 for one, other in zip(golden.scores, bare, strict=True)]
    assert changed == [neighbours, neighbours, False]
    assert ("neighbours" in golden.request) == neighbours
