import re
from collections.abc import Mapping
from dataclasses import asdict

import msgspec
import numpy as np
import pytest

from headrace import BundleMismatch
from headrace.models.core_terms import CoreTerms
from headrace.models.export import Bounds, ExportedPart, Settings, export, relief
from headrace.models.onnx_chain import Chain
from headrace.models.pair_graph import pair_chain
from headrace.models.pair_rows import (
    Arrays,
    PairConfig,
    PairNeighbours,
    neighbour_arrays,
    pair_rows,
    probabilities,
    tokenizer_of,
)
from tiny_pairs import VOCABULARY, Floats, tiny_config, tiny_pair_tensors
from tiny_student import WORDS

RANDOM = np.random.default_rng(5)
PAIRS = [
    (" ".join(RANDOM.choice(WORDS[4:], 1 + number % 4)), " ".join(RANDOM.choice(WORDS[4:], number % 11)))
    for number in range(40)
]
TOLD = [PairNeighbours((("red shoe", 0.5),), (("mouse", 0.2),), number) if number % 2 else None for number in range(40)]
WIDE = Bounds(int8=1.0)


TERMS = CoreTerms(frozenset({"mouse"}), frozenset({"shoe"}), frozenset({"red"}))


def trained(config: PairConfig) -> Floats:
    """What the trained model gives; test_pair_graph holds the graph to torch."""
    rows = pair_rows(
        tokenizer_of(VOCABULARY, config),
        [q for q, _ in PAIRS],
        [t for _, t in PAIRS],
        TERMS if config.core_terms else None,
    )
    files = pair_chain(tiny_pair_tensors(), config, "fp32")
    arrays = rows.arrays(range(len(PAIRS)))
    if config.neighbours:
        arrays |= neighbour_arrays(tokenizer_of(VOCABULARY, config), TOLD)
    return Chain(list(files), files.__getitem__, config.inputs(), "logit", "a test").run(arrays)


def exported(settings: Settings, config: PairConfig | None = None) -> ExportedPart:
    config = config or tiny_config()
    return export(tiny_pair_tensors(), config, VOCABULARY, PAIRS, trained(config), settings)


def test_a_part_within_its_bounds_says_what_was_measured() -> None:
    part = exported(Settings(WIDE, remarks={"source": "a test"}))
    assert part.measured.pairs == len(PAIRS)
    assert part.measured.graph <= 1e-5
    assert 1e-4 < part.measured.int8 < 1
    assert part.measured.alone <= 1e-6
    links = pair_chain(tiny_pair_tensors(), tiny_config(), "int8")
    assert set(part.files) == {*links, "vocab.txt", "config.json"}
    assert [name for name in links if links[name] != part.files[name]] == ["model-02.onnx"]  # its level, see below
    assert part.files["vocab.txt"] == VOCABULARY
    config = msgspec.json.decode(part.files["config.json"])
    assert config["measured"] == asdict(part.measured)
    assert part.measured.int8 < part.measured.int8_logit  # a probability moves less than its logit
    assert (config["kind"], config["slope"], config["source"]) == ("cross-encoder", 1.25, "a test")


def test_int8_moves_no_logit_in_the_mean() -> None:
    config = tiny_config()
    arrays = pair_rows(tokenizer_of(VOCABULARY, config), [q for q, _ in PAIRS], [t for _, t in PAIRS]).arrays(range(40))

    def moved(files: Mapping[str, bytes]) -> float:
        logits = Chain(list(files), files.__getitem__, config.inputs(), "logit", "").run(arrays)
        return float(np.average(logits - wanted, weights=chances * (1 - chances)))

    wanted = trained(config)
    chances = probabilities(config, wanted.astype(np.float32)).astype(np.float64)
    assert abs(moved(pair_chain(tiny_pair_tensors(), config, "int8"))) > 1e-4
    assert abs(moved(exported(Settings(WIDE)).files)) < 1e-6


def test_extras_are_part_of_what_is_compared() -> None:
    config = tiny_config(core_terms=True, neighbours=True)
    settings = Settings(WIDE, neighbours=TOLD, core_terms=TERMS)
    assert exported(settings, config).files["core_terms.json"] == TERMS.to_json()
    with pytest.raises(BundleMismatch, match="the graph differs from the trained model"):
        exported(Settings(WIDE, core_terms=TERMS), config)  # without the neighbours


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (Bounds(graph=-1.0), r"the graph differs .* / .* \(allowed: -1\): check that weights"),
        (Bounds(int8=1e-4), r"int8 differs from float32 by .* \(allowed: 0.0001\): keep the worst in float32 "),
        (Bounds(int8=1.0, alone=-1.0), "alone differs from that among others"),
    ],
)
def test_a_bound_that_is_missed_is_refused_with_the_pair_and_what_to_do(bounds: Bounds, reason: str) -> None:
    with pytest.raises(BundleMismatch, match=reason):
        exported(Settings(bounds))


def test_int8_that_does_too_much_names_the_maps_to_keep_exact() -> None:
    def named(exact: tuple[str, ...]) -> list[str]:
        with pytest.raises(BundleMismatch) as refused:
            exported(Settings(Bounds(int8=1e-6), exact))
        return re.findall(r"--exact ([\w.]+)", str(refused.value))

    worst = [name for name, _ in relief(tiny_pair_tensors(), tiny_config(), VOCABULARY, PAIRS[:64])]
    assert named(()) == worst[:3]
    assert named((worst[0], "encoder.layer.0"))[0] == next(one for one in worst[1:] if ".layer.0." not in one)


def test_a_runtime_that_mixes_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Chain.run

    def mixing(chain: Chain, values: Arrays) -> Floats:
        found = run(chain, values)
        return found + np.float32(2e-5) * len(found)

    wanted = trained(tiny_config()) + np.float32(2e-5) * 16
    monkeypatch.setattr(Chain, "run", mixing)
    with pytest.raises(BundleMismatch, match=r"alone differs from that among others by 0\.0003 "):
        export(tiny_pair_tensors(), tiny_config(), VOCABULARY, PAIRS[:32], wanted[:32], Settings(WIDE))


def test_logits_of_another_model_are_refused_on_the_pair_that_differs_most() -> None:
    logits = trained(tiny_config())
    logits[7] += 0.01
    with pytest.raises(BundleMismatch, match=r"differs from the trained model by 0\.01 ") as refused:
        export(tiny_pair_tensors(), tiny_config(), VOCABULARY, PAIRS, logits, Settings(WIDE))
    assert repr(PAIRS[7][0]) in str(refused.value)
    logits[7] = np.nan
    with pytest.raises(BundleMismatch, match="differs from the trained model by nan"):
        export(tiny_pair_tensors(), tiny_config(), VOCABULARY, PAIRS, logits, Settings(WIDE))


def test_maps_that_stay_exact_take_the_error_out() -> None:
    all_maps = tuple(f"encoder.layer.{number}" for number in range(2))
    found = [exported(Settings(WIDE, kept)).measured.int8 for kept in ((), all_maps)]
    assert found[1] < found[0] / 2  # what is left is the words
    assert msgspec.json.decode(exported(Settings(WIDE, all_maps)).files["config.json"])["exact"] == list(all_maps)


def test_relief_names_every_map_the_most_harmful_first() -> None:
    found = relief(tiny_pair_tensors(), tiny_config(), VOCABULARY, PAIRS)
    maps = ("attention.output.dense", "attention.self", "intermediate.dense", "output.dense")
    assert sorted(name for name, _ in found) == [f"encoder.layer.{layer}.{one}" for layer in (0, 1) for one in maps]
    harms = [harm for _, harm in found]
    assert harms == sorted(harms, reverse=True)
    assert harms[-1] > 0
    names = [name for name, _ in found]
    worst, least = (exported(Settings(WIDE, tuple(kept))).measured.int8_logit for kept in (names[:4], names[4:]))
    assert worst < least


def test_pairs_without_a_model_are_refused() -> None:
    weights = dict(tiny_pair_tensors())
    config = tiny_config()
    logits = trained(config)

    def refused(reason: str, **changes: object) -> None:
        given = {"config": config, "weights": weights, "vocabulary": VOCABULARY, "pairs": PAIRS, "logits": logits}
        given |= {"settings": Settings(WIDE)} | changes
        with pytest.raises(BundleMismatch, match=reason):
            export(*(given[name] for name in ("weights", "config", "vocabulary", "pairs", "logits", "settings")))  # type: ignore[arg-type]

    replace = msgspec.structs.replace
    refused("kind is bi-encoder", config=replace(config, kind="bi-encoder"))
    refused("5 heads do not divide 32", config=replace(config, heads=5))
    refused("slope and level must be finite", config=replace(config, slope=0.0))
    refused("slope and level must be finite", config=replace(config, level=float("nan")))
    refused("100 tokens are allowed, there are 32 positions", config=replace(config, max_tokens=100))
    refused("the weights have no encoder.layer.2", config=replace(config, layers=3))
    refused("the vocabulary has 47 lines, the weights 46 words", vocabulary=VOCABULARY + b"boot\n")
    refused("is not a BERT vocabulary", vocabulary=VOCABULARY.replace(b"[CLS]", b"[cls]"))
    refused("there are no pairs", pairs=[], logits=np.empty(0, np.float32))
    refused("40 pairs have logits of shape", logits=logits[:-1])
    refused("core terms need", config=replace(config, core_terms=True))
    refused(
        "neighbours must be as many", config=replace(config, neighbours=True), settings=Settings(neighbours=TOLD[1:])
    )
    refused("there is no encoder.layer.2 to keep exact", settings=Settings(WIDE, ("encoder.layer.2",)))
    broken = weights | {"classifier.bias": np.array([np.inf], np.float32)}
    refused("a weight is not finite", weights=broken)
