"""What behaviour neighbours add to a student's score: a term behind a gate, and nothing at all where there are none.

What counts is how far a title is like what its query led to, and a query like those that led to its item. Out of the
texts' vectors alone a network learns no such comparison from some thousand pairs, so it is told what to compare: how
well the words of a text are found again among the neighbours of the other one.

Shapes: B pairs, T tokens, D dimensions, V words, M tokens of the neighbours of one side.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from headrace.models.pair_rows import ALIKE_SCALE, COUNTS, SIDES, TYPICAL

Batch = Mapping[str, Tensor]
"""The arrays of ``pair_rows`` by name: ids, mask, types, and what the extras read."""


class NeighbourGate(nn.Module):
    """What the neighbours add to a score; nothing at all where there are none, and nothing before it has learned."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * dimensions + len(SIDES), dimensions)
        self.out = nn.Linear(dimensions, 1)
        self.gate = nn.Linear(1 + COUNTS, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        # What no training pair ever told, e.g. exposures, is not listened to by chance.
        nn.init.zeros_(self.gate.weight)

    def forward(self, score: Tensor, first: Tensor, given: Batch, table: Tensor) -> Tensor:
        """What is added to the scores [B] of pairs with first states [B, D]; ``table`` is the words' [V, D]."""
        sides = [
            (table[given[f"{side}_neighbour_ids"]] * given[f"{side}_neighbour_weights"][:, :, None]).sum(1)
            for side in SIDES
        ]
        counts = given["neighbour_counts"]
        # A side that is not there says as much as one that is as like as most are.
        alike = torch.where(counts[:, 1:] > 0, ALIKE_SCALE * (likenesses(given, table) - TYPICAL), 0.0)
        told = self.out(torch.tanh(self.hidden(torch.cat([first, *sides, alike], 1))))
        gate = torch.sigmoid(self.gate(torch.cat([score[:, None], counts], 1)))
        added: Tensor = torch.where(counts[:, 1:].sum(1) > 0, (gate * told).squeeze(1), 0.0)
        return added


def likenesses(given: Batch, table: Tensor) -> Tensor:
    """How well the title's words are found among the query's neighbours, the query's among the item's: [B, 2].

    The mean, over a text's own word pieces, of the highest cosine with a word piece of the neighbours, 0 at least; 0
    where one of both has none. Nothing flows back from it: the words should not move so that they are alike.
    """
    query, title = own_words(given)
    texts = zip(SIDES, (title, query), strict=True)
    return torch.stack([_found(given, side, text, table.detach()) for side, text in texts], 1)


def own_words(given: Batch) -> tuple[Tensor, Tensor]:
    """1 at the word pieces of the query, and at those of the title, else 0: two of [B, T]; [CLS] and [SEP] are none."""
    mask, types = given["attention_mask"], given["token_type_ids"]
    # A text's last place is its [SEP]: nothing of the same text follows it.
    query, title = (text * functional.pad(text[:, 1:], (0, 1)) for text in (mask * (1 - types), mask * types))
    return functional.pad(query[:, 1:], (1, 0)), title


def _found(given: Batch, side: str, own: Tensor, table: Tensor) -> Tensor:
    words, others = (functional.normalize(table[given[name]], dim=2) for name in ("input_ids", f"{side}_neighbour_ids"))
    there = given[f"{side}_neighbour_weights"][:, None, :] > 0
    highest = torch.where(there, words @ others.transpose(1, 2), 0.0).amax(2).clamp(min=0)
    found: Tensor = (highest * own).sum(1) / own.sum(1).clamp(min=1)
    return found
