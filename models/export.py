"""A trained cross-encoder as the files of a part, refused unless they score as the model that was trained.

Three bounds, on real pairs: the graph in float32 against the logits of the model it was made of; the probabilities of
int8 against those of float32 (a logit has the scale that its teacher gave it, and only the probability is served);
a pair alone against the same pair among others. What was measured stands in ``config.json``.

What int8 does to all logits alike is taken out first (decision 0016).

Needs onnx and onnxruntime; knows no torch, so the caller hands weights and logits over as arrays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from headrace import BundleMismatch
from headrace.models import pair_rows
from headrace.models.core_terms import CoreTerms
from headrace.models.graph_nodes import Floats
from headrace.models.onnx_chain import Chain
from headrace.models.pair_graph import pair_chain, pair_link
from headrace.models.pair_rows import PairConfig, PairNeighbours

_BIAS: Final = "classifier.bias"
_WORDS: Final = "bert.embeddings.word_embeddings.weight"
_MAPS: Final = ("attention.self", "attention.output.dense", "intermediate.dense", "output.dense")
"""Of each layer, as ``Settings.exact`` names them."""
_POSITIONS: Final = "bert.embeddings.position_embeddings.weight"
BATCH: Final = 16
"""Pairs that are scored together, in the order they come, so that rows of all lengths are mates."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far logits may lie apart.

    Attributes:
        graph: float32 against the trained model, in logit.
        int8: int8 against float32, in probability.
        alone: a row alone against among others, in logit.
    """

    graph: float = 1e-4
    int8: float = 0.05
    alone: float = 1e-5


@dataclass(frozen=True, slots=True)
class Measured:
    """The largest differences that were found, as ``Bounds`` has them, and on how many pairs.

    Attributes:
        int8_logit: int8 against float32, in logit.
    """

    graph: float
    int8: float
    int8_logit: float
    alone: float
    pairs: int


@dataclass(frozen=True, slots=True)
class ExportedPart:
    """The files of a part, for ``parts.write_part``, and what was measured on them."""

    files: Mapping[str, bytes]
    measured: Measured


@dataclass(frozen=True, slots=True)
class Settings:
    """What an export may be told.

    Attributes:
        bounds: see there.
        exact: linear maps that stay fp32, e.g. ``encoder.layer.0`` or ``encoder.layer.5.output.dense``: slower and
            larger, for a model whose int8 form misses its bound.
        neighbours: of each pair, where the config reads them.
        core_terms: their recogniser, where the config reads them.
        remarks: more for ``config.json``, e.g. where the weights come from.
    """

    bounds: Bounds = field(default_factory=Bounds)
    exact: tuple[str, ...] = ()
    neighbours: Sequence[PairNeighbours | None] = ()
    core_terms: CoreTerms | None = None
    remarks: Mapping[str, object] = field(default_factory=dict)


def export(
    tensors: Mapping[str, Floats],
    config: PairConfig,
    vocabulary: bytes,
    pairs: Sequence[tuple[str, str]],
    reference_logits: NDArray[np.floating],
    settings: Settings | None = None,
) -> ExportedPart:
    """The int8 part of a trained cross-encoder.

    Args:
        tensors: its weights, float32, by the names of ``pair_graph.pair_link``.
        config: its sizes, extras and calibration.
        vocabulary: the content of its ``vocab.txt``.
        pairs: real pairs of a query and a title, 1,000 or so: the bounds hold for these.
        reference_logits: what the trained model gives for them, [N].
        settings: see there.

    Raises:
        BundleMismatch: a bound is missed, or what was given does not fit together; the text says what to do.
    """
    settings = settings or Settings()
    _check(config, tensors, vocabulary, len(pairs), reference_logits, settings)
    terms = settings.core_terms if config.core_terms else None
    trial = _Trial(config, _tokenizer(vocabulary, config), pairs, terms, settings.neighbours)
    try:
        exact = trial.logits(trial.chain(pair_chain(tensors, config, "fp32")), BATCH)
        links = trial.levelled(tensors, exact, settings.exact)
    except KeyError as error:
        raise BundleMismatch(f"the weights have no {error.args[0]}: export the model that the config names") from error
    served = trial.chain(links)
    stepped = trial.logits(served, BATCH)
    _hold(reference_logits, exact, settings.bounds.graph, pairs, _GRAPH)
    chances, steps = pair_rows.probabilities(config, exact), pair_rows.probabilities(config, stepped)
    try:
        _hold(chances, steps, settings.bounds.int8, pairs, _INT8)
    except BundleMismatch as refused:
        harms = relief(tensors, config, vocabulary, pairs[:_RELIEF_PAIRS])
        left = [name for name, _ in harms if not f"{name}.".startswith(tuple(f"{one}." for one in settings.exact))]
        flags = " ".join(f"--exact {name}" for name in left[:_RELIEVED])
        raise BundleMismatch(f"{refused}: keep the worst in float32 ({flags}), or train on") from refused
    alone = trial.logits(served, 1)
    _hold(stepped, alone, settings.bounds.alone, pairs, _ALONE)
    measured = Measured(
        graph=_apart(reference_logits, exact),
        int8=_apart(chances, steps),
        int8_logit=_apart(exact, stepped),
        alone=_apart(stepped, alone),
        pairs=len(pairs),
    )
    remarks = {**settings.remarks, "measured": asdict(measured), "exact": list(settings.exact), "precision": "int8"}
    files = {**links, "vocab.txt": vocabulary, "config.json": pair_rows.written(config, remarks)}
    if terms is not None:
        files["core_terms.json"] = terms.to_json()
    return ExportedPart(files, measured)


_GRAPH: Final = (
    "the graph differs from the trained model by {found:.2g} in the logit of {pair} (allowed: {bound:g}): "
    "check that weights, vocabulary and config are of one model, and its logits of these pairs, in float32, no dropout"
)
_INT8: Final = "int8 differs from float32 by {found:.2g} in the probability of {pair} (allowed: {bound:g})"
_RELIEF_PAIRS: Final = 64
_RELIEVED: Final = 3
"""So many of the linear maps that int8 harms most are named when it does too much."""
_ALONE: Final = (
    "the logit of {pair} alone differs from that among others by {found:.2g} (allowed: {bound:g}): "
    "this onnxruntime does not keep rows apart, use a version of docs/dependencies.md"
)


def relief(
    tensors: Mapping[str, Floats], config: PairConfig, vocabulary: bytes, pairs: Sequence[tuple[str, str]]
) -> list[tuple[str, float]]:
    """(Linear map, what int8 there alone does to logits, root mean square), the worst first: for ``Settings.exact``.

    Neighbours and core terms are left out: they add nothing to what int8 does.

    Args:
        tensors: as for ``export``.
        config: likewise.
        vocabulary: likewise.
        pairs: a hundred are enough.
    """
    nothing = CoreTerms(frozenset(), frozenset(), frozenset()) if config.core_terms else None
    trial = _Trial(config, _tokenizer(vocabulary, config), pairs, nothing)
    names = _maps(config.layers)

    def logits(exact: Sequence[str]) -> Floats:
        return trial.logits(trial.chain(pair_chain(tensors, config, "int8", tuple(exact))), BATCH)

    without = logits(names)
    found = []
    for name in names:
        apart = logits([other for other in names if other != name]) - without
        found.append((name, float(np.sqrt(np.mean(apart**2)))))
    return sorted(found, key=lambda one: -one[1])


def _check(
    config: PairConfig,
    tensors: Mapping[str, Floats],
    vocabulary: bytes,
    count: int,
    logits: NDArray[np.floating],
    settings: Settings,
) -> None:
    """Nothing, where what was given fits together."""
    words, width = len(tensors.get(_WORDS, ())), config.dimensions
    lines = vocabulary.count(b"\n") + (not vocabulary.endswith(b"\n"))
    positions = len(tensors.get(_POSITIONS, ()))
    known = [f"{name}." for name in _maps(config.layers)]
    strange = [name for name in settings.exact if not any(one.startswith(f"{name}.") for one in known)]
    said = {
        f"kind is {config.kind}, not {pair_rows.KIND}": config.kind != pair_rows.KIND,
        f"{config.heads} heads do not divide {width} dimensions": not config.heads or width % config.heads > 0,
        "slope and level must be finite, and slope above 0": not (
            math.isfinite(config.slope) and math.isfinite(config.level) and config.slope > 0
        ),
        f"the vocabulary has {lines} lines, the weights {words} words": lines != words,
        f"{config.max_tokens} tokens are allowed, there are {positions} positions": config.max_tokens > positions,
        "there are no pairs to compare on": count == 0,
        f"{count} pairs have logits of shape {logits.shape}": logits.shape != (count,),
        "neighbours must be as many as pairs": config.neighbours and len(settings.neighbours) not in (0, count),
        "core terms need their recogniser": config.core_terms and settings.core_terms is None,
        f"there is no {' nor '.join(strange)} to keep exact": bool(strange),
        "a weight is not finite": not all(np.isfinite(array).all() for array in tensors.values()),
    }
    for fault, there in said.items():
        if there:
            raise BundleMismatch(f"this model cannot be exported: {fault}")


def _maps(layers: int) -> list[str]:
    return [f"encoder.layer.{number}.{one}" for number in range(layers) for one in _MAPS]


def _tokenizer(vocabulary: bytes, config: PairConfig) -> Tokenizer:
    try:
        return pair_rows.tokenizer_of(vocabulary, config)
    except ValueError as error:
        raise BundleMismatch(f"this model cannot be exported: the vocabulary {error}") from error


class _Trial:
    """The pairs that models are compared on, as a worker would read them."""

    def __init__(
        self,
        config: PairConfig,
        tokenizer: Tokenizer,
        pairs: Sequence[tuple[str, str]],
        core_terms: CoreTerms | None,
        neighbours: Sequence[PairNeighbours | None] = (),
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        queries, titles = [query for query, _ in pairs], [title for _, title in pairs]
        self.rows = pair_rows.pair_rows(tokenizer, queries, titles, core_terms)
        self.neighbours = neighbours or [None] * len(pairs)

    def chain(self, links: Mapping[str, bytes]) -> Chain:
        return Chain(list(links), links.__getitem__, self.config.inputs(), "logit", "this export")

    def levelled(self, tensors: Mapping[str, Floats], wanted: Floats, exact: tuple[str, ...]) -> dict[str, bytes]:
        """The int8 links, whose logits are those wanted in the mean.

        Half of what int8 does to a logit, it does to all alike; the bias of the classifier takes that out. In the mean
        a pair counts as much as its logit moves its probability, p (1 - p): what is surely irrelevant says little.
        """
        links = pair_chain(tensors, self.config, "int8", exact)
        chances = pair_rows.probabilities(self.config, wanted).astype(np.float64)
        counts = chances * (1 - chances) + 1e-9
        moved = np.average((self.logits(self.chain(links), BATCH) - wanted).astype(np.float64), weights=counts)
        levelled = {**tensors, _BIAS: (tensors[_BIAS] - moved).astype(np.float32)}
        return links | {max(links): pair_link(levelled, self.config, "int8", self.config.layers - 1, exact)}

    def logits(self, chain: Chain, batch: int) -> Floats:
        """The logits [N], so many pairs at a time, in the order they come."""
        found = np.empty(len(self.rows), np.float32)
        for begin in range(0, len(self.rows), batch):
            places = range(begin, min(begin + batch, len(self.rows)))
            arrays = self.rows.arrays(places, self.rows.width(places, self.config.max_tokens))
            if self.config.neighbours:
                told = [self.neighbours[place] for place in places]
                arrays |= pair_rows.neighbour_arrays(self.tokenizer, told)
            found[places] = chain.run(arrays)
        return found


def _apart(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


def _hold(
    wanted: NDArray[np.floating],
    found: NDArray[np.floating],
    bound: float,
    pairs: Sequence[tuple[str, str]],
    refusal: str,
) -> None:
    apart = np.abs(wanted.astype(np.float64) - found.astype(np.float64))
    worst = int(np.argmax(apart))  # the first NaN, where there is one
    if not apart[worst] <= bound:
        pair = " / ".join(f"{text!r:.60}" for text in pairs[worst])
        raise BundleMismatch(refusal.format(found=apart[worst], pair=pair, bound=bound))
