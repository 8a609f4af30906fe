"""What a request still gets when its time runs short; pure.

The ladder, from the top: everything; without neighbours (a cross-encoder that reads them scored texts before the state
was there); fewer pairs (it scored the texts of the first items only); without the student (nothing of it came in time);
fewer items (the first of the engine's order that there is time for); the prior order (the engine's own, no scores).
Beside it stands ``without_state``: the store cannot be reached, so nothing is known of shopper, query and items, nor of
neighbours.

Each answer names its rung and why. Shorter input is no rung: titles are short, and another cut of a text would be
another score than the cached one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.online.messages import Degraded, Rung

SMOOTHING = 0.1
OUTLIER = 4.0
LEAST_S = 1e-7


@dataclass(slots=True)
class Costs:
    """What scoring has cost of late, as moving averages, seconds; begins with a guess that errs on the slow side.

    Attributes:
        fixed_s: of a request, whatever its size.
        item_s: of each item.
    """

    fixed_s: float = 0.0005
    item_s: float = 0.000_010

    def learn(self, items: int, took_s: float) -> None:
        """Takes one measurement into account; one that a pause of the machine spoiled counts little."""
        fixed_s = min(self.fixed_s, took_s)
        item_s = min((took_s - fixed_s) / max(items, 1), OUTLIER * self.item_s)
        self.item_s = max(LEAST_S, self.item_s + SMOOTHING * (item_s - self.item_s))
        if items <= 10:
            self.fixed_s += SMOOTHING * (min(took_s, OUTLIER * self.fixed_s) - self.fixed_s)

    def of(self, items: int) -> float:
        """What scoring so many items costs, seconds."""
        return self.fixed_s + self.item_s * items

    def affordable(self, left_s: float) -> int:
        """How many items can be scored in the time that is left."""
        return max(0, int((left_s - self.fixed_s) / self.item_s))


@dataclass(slots=True)
class PairCosts:
    """What scoring pairs has cost of late, as a moving average; begins with a guess that errs on the slow side.

    Attributes:
        token_s: of a token, padding included, on one thread.
    """

    token_s: float = 0.000_2

    def learn(self, tokens: int, took_s: float) -> None:
        """Takes one batch into account; one that a pause of the machine spoiled counts little."""
        token_s = min(took_s / max(tokens, 1), OUTLIER * self.token_s)
        self.token_s = max(LEAST_S, self.token_s + SMOOTHING * (token_s - self.token_s))

    def affordable(self, pairs: Sequence[int], waiting: int, threads: int, left_s: float) -> int:
        """How many of the first pairs can be scored in the time that is left.

        Args:
            pairs: tokens of each, in the order of the request.
            waiting: tokens of others that come before them.
            threads: batches that run at the same time.
            left_s: the time that is left.
        """
        budget = left_s * threads / self.token_s - waiting
        for count, tokens in enumerate(pairs):
            budget -= tokens
            if budget < 0:
                return count
        return len(pairs)


@dataclass(frozen=True, slots=True)
class Steps:
    """What happened on the way to a request's scores.

    Attributes:
        asked: items in the request.
        scored: items that are scored, the first of the order asked.
        student: why the student's part is missing although the model has a student, "" when it is not.
        state: why nothing was read from the store, "" when it was.
        prior: why there are no scores at all, "" when there are.
        pairs: why some texts were not scored although the student is at work, "" when all were.
        neighbours: why some were scored without neighbours although there may be some, "" when none were.
    """

    asked: int
    scored: int
    student: str = ""
    state: str = ""
    prior: str = ""
    pairs: str = ""
    neighbours: str = ""

    def taken(self) -> list[tuple[Rung, str]]:
        """Every step down, with its reason, the lowest last."""
        if self.prior:
            return [("prior_order", self.prior)]
        steps: list[tuple[Rung, str]] = []
        if self.neighbours and not self.state:
            steps.append(("without_neighbours", self.neighbours))
        if self.pairs:
            steps.append(("fewer_pairs", self.pairs))
        if self.student:
            steps.append(("without_student", self.student))
        if self.scored < self.asked:
            steps.append(("fewer_items", "deadline"))
        if self.state:
            steps.append(("without_state", self.state))
        return steps

    def said(self) -> Degraded | None:
        """The lowest step, as the answer says it; None when nothing is missing that need not be."""
        steps = self.taken()
        if not steps:
            return None
        rung, reason = steps[-1]
        return Degraded(rung=rung, reason=reason, scored=0 if self.prior else self.scored)
