import gzip
from pathlib import Path

import numpy as np
import pytest

from headrace.models.home_depot import Pairs, judged_pairs, rounded_targets, targets

HEAD = "id,product_uid,product_title,search_term,relevance\n"


def written(folder: Path, text: str) -> Path:
    (folder / "homedepot").mkdir(exist_ok=True)
    (folder / "homedepot" / "pairs.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_the_file_is_read_in_its_order(tmp_path: Path) -> None:
    rows = '2,1,"Angle, 12-Gauge",angle bracket,3\n3,1,Deck über,l bracket,2.33\n'
    found = judged_pairs(written(tmp_path, HEAD + rows))
    assert found.queries == ("angle bracket", "l bracket")
    assert found.titles == ("Angle, 12-Gauge", "Deck über")
    assert found.ratings.tolist() == [3.0, 2.33]


def test_a_file_that_is_absent_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pairs\.csv\.gz is not there: .*https://www\.kaggle\.com/comp"):
        judged_pairs(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column product_title, relevance, search_term"),
        ("search_term,relevance\n", "no column product_title"),
        (HEAD + "1,1,a,b,0.9\n", "none from 1 to 3"),
        (HEAD + "1,1,a,b,3.1\n", "none from 1 to 3"),
        (HEAD + "1,1,a,b,nan\n", "none from 1 to 3"),
        (HEAD + "1,1,a,b,\n", "none from 1 to 3"),
        (HEAD + "1,1,a\n", "none from 1 to 3"),
        (HEAD + "1,1,a,b,good\n", "could not convert"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        judged_pairs(written(tmp_path, text))


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path, HEAD + "1,1,a,b,3\n" * 100)
    path = tmp_path / "homedepot" / "pairs.csv.gz"
    for content in (path.read_bytes()[:-12], b"no gzip"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read .*: fetch it again from"):
            judged_pairs(tmp_path)


def test_targets_are_not_rounded_unless_asked() -> None:
    ratings = np.array([1, 4 / 3, 2, 7 / 3, 3])
    np.testing.assert_allclose(targets(ratings), [0, 1 / 6, 1 / 2, 2 / 3, 1])
    assert rounded_targets(ratings).tolist() == [0, 0, 0.5, 0.5, 1]
    assert rounded_targets(np.array([1.5, 2.5])).tolist() == [0.5, 1]  # halves go up


def test_a_query_is_on_one_side_only() -> None:
    queries = tuple(f"query {number % 20}" for number in range(100))
    pairs = Pairs(queries, tuple(map(str, range(100))), np.linspace(1, 3, 100))
    sides = [pairs.of("train"), pairs.of("held"), pairs.of("test")]
    assert sorted(title for side in sides for title in side.titles) == sorted(pairs.titles)
    assert sum(len(set(side.queries)) for side in sides) == 20
