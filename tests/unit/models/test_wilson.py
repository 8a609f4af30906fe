import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.wilson import wilson_lower
from headrace.streams import neighbours


@given(st.lists(st.integers(0, 10**6).flatmap(lambda shown: st.tuples(st.integers(0, shown), st.just(shown)))))
def test_many_bounds_at_once_are_those_of_one_at_a_time(counts: list[tuple[int, int]]) -> None:
    clicks, shown = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    assert wilson_lower(clicks, shown).tolist() == [neighbours.wilson_lower(*one) for one in counts]
