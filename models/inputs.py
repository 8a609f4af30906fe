"""Token rows as a model reads them: cut into batches of like length, padded on either side.

Shapes: N rows, B rows of a batch, T tokens (padding included).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Side = Literal["left", "right"]


def shuffled_batches(
    lengths: Sequence[int] | Ints, rows: int, random: np.random.Generator, pool: int = 64
) -> list[Ints]:
    """All rows once, in batches of like length whose order and mates are random.

    Rows are shuffled, sorted by length within pools of ``pool`` batches, cut, and the batches shuffled: little padding,
    and yet no order by length that a model could feel.

    Args:
        lengths: tokens of each row [N].
        rows: of a batch; the last one of a pool may have fewer.
        random: decides.
        pool: batches that are sorted together.

    Returns:
        Places in ``lengths``, int64 [B] each.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = random.permutation(len(sizes))
    found: list[Ints] = []
    for begin in range(0, len(order), rows * pool):
        chosen = order[begin : begin + rows * pool]
        chosen = chosen[np.argsort(sizes[chosen], kind="stable")]
        found += [chosen[at : at + rows] for at in range(0, len(chosen), rows)]
    return [found[place] for place in random.permutation(len(found))]


def padded(rows: Sequence[Sequence[int]], pad: int = 0, side: Side = "right") -> tuple[Ints, Ints]:
    """Ids and mask of a batch, int64 [B, T], T that of its longest row.

    Args:
        rows: token ids [B], each of any length.
        pad: the id that stands in padding.
        side: where padding goes.
    """
    width = max(map(len, rows), default=0)
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for place, row in enumerate(rows):
        where = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[place, where] = row
        mask[place, where] = 1
    return ids, mask
