"""A cross-encoder at work: scores of (query, item text) pairs, from whoever has them first.

In order: the teacher's score in the cache in Redis; this student's own, in memory or in Redis; computed now, as far as
there is time, the top of the engine's order first; else behind the request, for the next one that asks. Scores of a
query that is asked for again go to the cache in Redis, for the other workers. A score is used only for the very text,
and the very neighbours, it was made of; the teacher's whatever it read, and one in memory as long as the state, which
names the neighbours, is not known. What is scored is the normalised query, so that one entry stands for all its
spellings and a cached score is the computed one (law 6).

Everything but ``warm`` and the scoring itself belongs to the event loop's thread.

Shapes: B items.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace import BundleMismatch, Overloaded
from headrace.online.batch import Batcher, DeadlinePassed, tokens_of
from headrace.online.catalogue import Catalogue, Text
from headrace.online.ladder import PairCosts
from headrace.online.messages import Student as StudentState
from headrace.online.pair_neighbours import Told
from headrace.online.pair_scores import PairScores
from headrace.online.pair_scoring import CLOSED, NOTHING, MadeOf, Pair, PairScoring
from headrace.online.score_writer import Made, NoScoreWriter, ScoreWriter
from headrace.online.scored import COMPUTED, PENDING, STUDENT_CACHE, TEACHER_CACHE, Known, nothing_known
from headrace.online.students import Asked
from headrace.streams.score_cache import Accepted, usable
from headrace.streams.searches import query_of

Floats = NDArray[np.float32]
Future = asyncio.Future[tuple[Floats, float, float]]

MAX_TOKENS: Final = 64


@dataclass(slots=True)
class PairStudent:
    """One open student part that reads query and text together.

    Attributes:
        scorer: computes. scores: what it has computed.
        accepted: whose scores of the cache in Redis it may use.
        calibration_error: how far its scores are off as probabilities, None where its part does not say.
        writer: where computed scores go, for the other workers.
        max_tokens: of a pair; longer ones are cut.
        neighbours: whether it reads behaviour neighbours beside a pair.
        costs: what scoring costs of late.
    """

    scorer: PairScoring
    scores: PairScores
    accepted: Accepted
    calibration_error: float | None = None
    writer: ScoreWriter = field(default_factory=NoScoreWriter)
    max_tokens: int = MAX_TOKENS
    neighbours: bool = False
    costs: PairCosts = field(default_factory=PairCosts)
    _running: dict[tuple[str, str], tuple[MadeOf, Future]] = field(default_factory=dict, init=False)
    _pending: dict[tuple[str, str], MadeOf] = field(default_factory=dict, init=False)

    def close(self) -> None:
        """Lets go of the scores; the scorer's session is freed with the last reference to it."""
        self.scores.clear()
        self.scorer = CLOSED

    def pending(self) -> int:
        """How many pairs are being scored behind the requests."""
        return len(self._pending)

    def held(self) -> tuple[int, int]:
        """How many scores it keeps in memory, and about how many bytes they take."""
        return len(self.scores), self.scores.size_bytes

    def prefill(self, catalogue: Catalogue, fillers: Batcher, room: int) -> int:
        """Nothing: which query a new text will be asked for by, nobody knows."""
        return 0

    async def known(self, asked: Asked) -> Known:
        """The scores that can be had in time; the others are computed behind the request.

        Raises:
            Overloaded: the worker is closing.
        """
        values = await asked.cached(asked.until_s)
        known = nothing_known(len(asked.ids), "computed")
        missing, bare = self._look(asked, values, known)
        if not missing:
            return _said(asked, known, "", bare)
        now, reason = self._affordable(asked, missing)
        futures = self._ask(now, asked)
        if len(futures) < len(now):
            reason = "overloaded"
        waited = {place for place, _ in futures}
        self._fill([pair for place, pair in missing if place not in waited], asked.fillers)
        began_s = time.monotonic()
        if futures:
            await asyncio.wait({future for _, future in futures}, timeout=max(0.0, asked.until_s - began_s))
        stages = _collect(futures, known)
        known.sources[[place for place, _ in missing if math.isnan(known.scores[place])]] = PENDING
        bare = bare or any(pair.blind and known.sources[place] == COMPUTED for place, pair in missing)
        return replace(_said(asked, known, reason or "deadline", bare), stages=stages)

    def warm(
        self,
        pairs: Sequence[tuple[str, str, Text]],
        batch: int = 8,
        rest: float = 0.0,
        ending: Callable[[], bool] = lambda: False,
    ) -> int:
        """Scores some pairs, without neighbours, before this student serves; from the thread that opens it, only then.

        Args:
            pairs: query, item id and text of each; without an id the score is not kept.
            batch: so many at a time.
            rest: pause after each batch, in times of what it took: the cores belong to the requests.
            ending: whether to leave off, asked before each batch.

        Raises:
            BundleMismatch: a score is no probability.
        """
        for start in range(0, len(pairs), batch):
            if ending():
                return start
            part = [self._pair(query, item_id, text) for query, item_id, text in pairs[start : start + batch]]
            began_s = time.monotonic()
            made = self._run(part)[:, 0]
            if rest:
                time.sleep(rest * (time.monotonic() - began_s))
            if not ((made >= 0) & (made <= 1)).all():
                raise BundleMismatch(f"the student gives scores that are no probabilities, e.g. for {part[0].key}")
            for pair, score in zip(part, made.tolist(), strict=True):
                if pair.item_id:
                    self.scores.put(pair.query, pair.item_id, pair.text.stamp, score)
        return len(pairs)

    def _pair(self, query: str, item_id: str, text: Text, told: Told = NOTHING, blind: bool = False) -> Pair:
        name, normalised = query_of(query)
        tokens = min(self.max_tokens, tokens_of(normalised) + tokens_of(text.text) - 1)
        return Pair(normalised, name, item_id, text, tokens, told, blind)

    def _look(self, asked: Asked, values: Sequence[bytes | None], known: Known) -> tuple[list[tuple[int, Pair]], bool]:
        """Writes down what the caches know; gives place and pair of what they do not, in the order asked.

        And whether a score in memory was made without neighbours, and nobody knows now whether there are some.
        """
        name, query = query_of(asked.query)
        own, missing, again, bare = self.scores.of(query), [], False, False
        beside = asked.told() if self.neighbours else ()
        blind = self.neighbours and not beside
        for place, (item_id, text) in enumerate(zip(asked.ids, asked.texts, strict=True)):
            if text is None:
                continue
            told = beside[place] if beside else NOTHING
            cached = usable(values[place], text.stamp, self.accepted, asked.now_ms, told.hash) if values else None
            stamp, score, read = own.get(item_id, (None, math.nan, 0))
            if cached is not None and cached[1] == "teacher":
                known.scores[place], known.sources[place] = cached[0], TEACHER_CACHE
            elif stamp == text.stamp and (blind or read == told.hash):
                known.scores[place], known.sources[place], again = score, STUDENT_CACHE, not blind
                bare = bare or (blind and not read)
            elif cached is not None:
                known.scores[place], known.sources[place] = cached[0], STUDENT_CACHE
            else:
                missing.append((place, self._pair(query, item_id, text, told, blind)))
        if again:
            for item_id, (stamp, score, read) in self.scores.take_unshared(query).items():
                self.writer.offer(Made(name, self.accepted.student, item_id, stamp, score, read))
        return missing, bare

    def _affordable(self, asked: Asked, missing: list[tuple[int, Pair]]) -> tuple[list[tuple[int, Pair]], str]:
        """The first pairs that there is time for, and why not all ("" when all)."""
        count = self.costs.affordable(
            [pair.tokens for _, pair in missing],
            asked.encoders.waiting_tokens(),
            asked.encoders.limits.threads,
            asked.until_s - time.monotonic(),
        )
        # of similar length side by side, so that batches are hardly padded
        return sorted(missing[:count], key=lambda entry: entry[1].tokens), "" if count == len(missing) else "deadline"

    def _ask(self, pairs: Sequence[tuple[int, Pair]], asked: Asked) -> list[tuple[int, Future]]:
        """Has pairs computed that this request waits for; fewer where the queue is full."""
        futures: list[tuple[int, Future]] = []
        for place, pair in pairs:
            made_of, future = self._running.get(pair.key, (None, None))
            if future is None or made_of != pair.made_of:
                try:
                    future = asked.encoders.submit(self._run, self, pair, asked.until_s, pair.tokens)
                except Overloaded:
                    break
                self._running[pair.key] = pair.made_of, future
                future.add_done_callback(self._keeper(pair, asked.fillers))
            futures.append((place, future))
        return futures

    def _fill(self, pairs: Sequence[Pair], fillers: Batcher) -> None:
        """Has pairs computed behind the requests; what does not fit is left for the next request that misses it."""
        for pair in pairs:
            if self._pending.get(pair.key) == pair.made_of:
                continue
            try:
                future = fillers.submit(self._run_behind, self, pair, math.inf, pair.tokens)
            except Overloaded:
                break
            self._pending[pair.key] = pair.made_of
            future.add_done_callback(self._filler(pair))

    def _run(self, pairs: Sequence[Pair]) -> Floats:
        """The scores of pairs, float32 [B, 1]; on a batcher's thread."""
        began_s = time.monotonic()
        made = self._run_behind(pairs)
        self.costs.learn(len(pairs) * max(pair.tokens for pair in pairs), time.monotonic() - began_s)
        return made

    def _run_behind(self, pairs: Sequence[Pair]) -> Floats:
        """The same where nobody waits: what it costs there tells nothing of what it costs a request."""
        queries, titles = [pair.query for pair in pairs], [pair.text.text for pair in pairs]
        if not self.neighbours:
            return self.scorer.score(queries, titles)[:, None]
        return self.scorer.score(queries, titles, [pair.told.neighbours for pair in pairs])[:, None]

    def _keeper(self, pair: Pair, fillers: Batcher) -> Callable[[Future], None]:
        def keep(future: Future) -> None:
            if self._running.get(pair.key, (None, None))[1] is future:
                del self._running[pair.key]
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                self._keep(pair, future)
            elif isinstance(error, DeadlinePassed):
                self._fill([pair], fillers)

        return keep

    def _filler(self, pair: Pair) -> Callable[[Future], None]:
        def keep(future: Future) -> None:
            if self._pending.get(pair.key) == pair.made_of:
                del self._pending[pair.key]
            if not future.cancelled() and future.exception() is None:
                self._keep(pair, future)

        return keep

    def _keep(self, pair: Pair, future: Future) -> None:
        score = float(future.result()[0][0])
        if 0 <= score <= 1 and self.scorer is not CLOSED:
            stamp, read = pair.made_of
            if pair.blind and self.scores.of(pair.query).get(pair.item_id, (None,))[0] == stamp:
                return  # another request, that knew the state, was faster
            self.scores.put(pair.query, pair.item_id, stamp, score, read)
            if self.scores.shared(pair.query) and not pair.blind:
                self.writer.offer(Made(pair.query_hash, self.accepted.student, pair.item_id, stamp, score, read))


def _collect(futures: Sequence[tuple[int, Future]], known: Known) -> dict[str, float]:
    """Writes down what was computed in time; gives the seconds that it waited and ran.

    Raises:
        Overloaded: the worker is closing.
    """
    waited_s, ended_s = [], []
    for place, future in futures:
        if not future.done() or future.cancelled() or isinstance(future.exception(), DeadlinePassed):
            continue
        row, queued_s, ran_s = future.result()
        known.scores[place], known.sources[place] = row[0], COMPUTED
        waited_s.append(queued_s)
        ended_s.append(queued_s + ran_s)
    if not waited_s:
        return {"queue": 0.0, "infer": 0.0}
    return {"queue": min(waited_s), "infer": max(ended_s) - min(waited_s)}


def _said(asked: Asked, known: Known, reason: str, bare: bool) -> Known:
    """What was found, with the words for it; ``bare``: some was made without neighbours, for want of the state."""
    known = replace(known, bare="deadline" if bare else "")
    no_text = sum(text is None for text in asked.texts)
    pending = int((known.sources == PENDING).sum())
    scored = len(asked.ids) - no_text - pending
    if pending and not scored:
        return replace(known, state="skipped", skipped=reason, no_text=no_text, pending=pending)
    state: StudentState = "absent" if not scored else "partial" if no_text or pending else "computed"
    return replace(known, state=state, fewer=reason if pending else "", no_text=no_text, pending=pending)
