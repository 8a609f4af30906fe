"""Makes the student that ships with the tour: `python tests/bench/tour_student.py --out FOLDER [--write]`.

From pretrained weights that install as packages and the tour's own texts. The teacher reads more than the student: two
sentence encoders over title, description and attributes, and the shop's lexical search, put together by the grades of
the 14 queries that the tour does not show. It labels queries made of the products' own texts, and those 14; a
cross-encoder of three layers learns that from titles alone, its vocabulary cut to what the shop needs. Nothing of the
40 queries that are shown is learned from; what comes out is measured on them at the end.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModel

from headrace.commands.progress import ProgressLine
from headrace.models import distill, export, pretrained, student, vocabulary
from headrace.models import pair_rows as rows_of
from headrace.models.bundle import write_part
from headrace.models.calibration import calibration_error, fit_calibration, fit_ensemble
from headrace.models.perturbations import dropped_letter, swapped_letters
from headrace.online.pairs import PairScorer
from headrace.streams.identity import normalise
from headrace.tour import texts
from headrace.tour.flow import listed
from headrace.tour.shop import Product, Shop, candidates, load, matches

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "src/headrace/tour/student"
WEIGHTS = ROOT / ".headrace/weights"
LAYERS = (0, 2, 5)
COMMON = 1_000
"""Whole words that stay beside those of the shop: three layers and all words stay below 8 MB."""
BEST, LEXICAL, OTHERS = 7, 5, 5
"""Items of a list: the teacher's best, the search's first, and others at random."""

Doubles = NDArray[np.float64]


def told(product: Product) -> str:
    """All that is written about a product."""
    return f"{product.title}. {product.description} {' '.join(product.attributes.values())} {product.department}"


def made_queries(shop: Shop, most: int, seed: int = 0) -> list[str]:
    """Queries that a shopper could type for some product, made of its texts; none that the tour shows."""
    random = np.random.default_rng(seed)
    found: dict[str, None] = {normalise(query.text): None for query in shop.queries if not query.held_out}
    for product in shop.products:
        title = [word for word in normalise(product.title).replace(",", " ").replace("-", " ").split() if len(word) > 1]
        says = [word for word in normalise(product.description).strip(".").replace(",", " ").split() if len(word) > 3]
        ways: list[Iterable[str]] = [title, title[:2], title[-2:], title[:1] + title[-1:], title[-1:]]
        ways += [[product.attributes[name], *title[-1:]] for name in ("brand", "colour", "material", "season")]
        ways += [[product.department, *title[-1:]], [*title[-2:], "for", product.department]]
        ways += [random.choice(title, min(2, len(title)), replace=False) for _ in range(2)]
        ways += [[*title[:1], *random.choice(says, min(1, len(says)))] for _ in range(2)]
        ways += [random.choice(says, min(2, len(says)), replace=False) for _ in range(2)]
        plain = [normalise(" ".join(way)) for way in ways]
        wrong = [slip(text, random) for slip in (swapped_letters, dropped_letter) for text in plain[:4]]
        found |= dict.fromkeys([text for text in [*plain, *(one for one in wrong if one)] if text])
    shown = {normalise(query.text) for query in shop.queries if query.held_out}
    judged = [text for text in found if text not in shown]
    count = sum(not query.held_out for query in shop.queries)
    chosen = random.choice(np.arange(count, len(judged)), min(most, len(judged) - count), replace=False)
    return judged[:count] + [judged[place] for place in sorted(chosen)]


def encode(package: pretrained.Package, texts: Sequence[str], kept: Path) -> Doubles:
    """The mean of each text's states, of unit length, [N, D]; kept in a folder, since it takes minutes."""
    name = hashlib.sha256("\0".join([package.name, *texts]).encode()).hexdigest()[:16]
    if (kept / f"{name}.npy").exists():
        return np.asarray(np.load(kept / f"{name}.npy"))
    folder = pretrained.folder_of(package, WEIGHTS, print)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(96)
    line, found = ProgressLine(f"encoding with {package.name}", "texts"), []
    with torch.inference_mode():
        for number, text in enumerate(texts):
            ids = torch.tensor([tokenizer.encode(text).ids])
            state = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(0)
            found.append((state / state.norm()).double().numpy())
            line(number + 1, len(texts))
    line.end(len(texts), len(texts))
    np.save(kept / f"{name}.npy", np.stack(found))
    return np.stack(found)


def teach(shop: Shop, queries: Sequence[str], kept: Path) -> tuple[Doubles, dict[str, object]]:
    """The teacher's probabilities of every product for every query [Q, P], and how it was put together."""
    judged = [query for query in shop.queries if not query.held_out]
    asked = [*queries, *(query.text for query in shop.queries)]
    given = []
    for package in (pretrained.MINILM, pretrained.MPNET):
        vectors = encode(package, [*asked, *map(told, shop.products)], kept)
        given.append(vectors[: len(asked)] @ vectors[len(asked) :].T)
    given.append(np.array([matches(shop, text) for text in asked]))
    scores = np.stack(given, axis=2)
    places = [asked.index(query.text, len(queries)) for query in judged]
    grades = np.array([[query.grades.get(product.item_id, 0) for product in shop.products] for query in judged])
    weights = fit_ensemble(scores[places].reshape(-1, len(given)), grades.reshape(-1) / 3)
    chances = np.array([weights.probabilities(row) for row in scores])
    shown = [place for place in range(len(queries), len(asked)) if shop.query(asked[place]).held_out]
    error = calibration_error(chances[shown].ravel(), _grades(shop, [asked[place] for place in shown]).ravel() / 3)
    about = {"weights": [round(weight, 3) for weight in weights.weights], "ndcg_shown": _quality(shop, chances[shown])}
    return chances[: len(queries)], {**about, "calibration_error_shown": round(error, 4)}


def lists_of(shop: Shop, queries: Sequence[str], chances: Doubles, seed: int = 0) -> list[tuple[int, int]]:
    """(Query, product) places to learn from: of each query the likely, the found and some others."""
    random = np.random.default_rng(seed)
    places = {product.item_id: place for place, product in enumerate(shop.products)}
    pairs = []
    for number, text in enumerate(queries):
        best = np.argsort(-chances[number], kind="stable")[:BEST].tolist()
        found = [places[item] for item in candidates(shop, text, LEXICAL)]
        others = random.choice(len(shop.products), OTHERS, replace=False).tolist()
        pairs += [(number, place) for place in dict.fromkeys([*best, *found, *others])]
    return pairs


def make(shop: Shop, given: argparse.Namespace) -> export.ExportedPart:
    """The part, and what was measured of it."""
    queries = made_queries(shop, given.queries)
    chances, about = teach(shop, queries, given.out)
    print(f"{len(queries):,} made queries; the teacher on those that are shown: {about}")
    pairs = lists_of(shop, queries, chances)
    words = (pretrained.folder_of(pretrained.MINILM, WEIGHTS, print) / student.VOCABULARY).read_bytes()
    one = student.from_encoder(WEIGHTS / pretrained.MINILM.name, student.StudentConfig(32), LAYERS)
    texts = [*map(told, shop.products), *queries]
    table = one.bert.embeddings.word_embeddings.weight.detach().numpy()
    cut = vocabulary.cut(words, table, texts, COMMON)
    kept = torch.nn.Embedding(len(cut.table), cut.table.shape[1], padding_idx=0)
    kept.weight.data.copy_(torch.from_numpy(cut.table))
    one.bert.embeddings.word_embeddings = kept
    one.bert.config.vocab_size = len(cut.table)
    rows = _rows(one, cut.vocabulary, [(queries[q], shop.products[p].title) for q, p in pairs])
    aims = np.array([chances[q, p] for q, p in pairs])
    lists = np.array([q for q, _ in pairs])
    course = distill.DistillCourse(2e-4, epochs=given.epochs)
    line = ProgressLine("student", "steps")

    def say(done: int, total: int, loss: float) -> None:
        line(done, total, f", loss {loss:.3f}")

    distill.train(one, rows, aims, lists, course, given.out, say)
    fitted = fit_calibration(student.predict(one, rows), aims)
    student.calibrated(one, fitted.slope, fitted.level)
    student.save(one, cut.vocabulary, given.out)
    trial = [(queries[q], shop.products[p].title) for q, p in pairs[:: max(1, len(pairs) // 1_000)]]
    logits = student.predict(one, _rows(one, cut.vocabulary, trial))
    said = {"source": "tests/bench/tour_student.py", "license": "Apache-2.0", "teacher_of_the_tour": about}
    return export.export(
        student.arrays_of(one),
        student.part_config(one),
        cut.vocabulary,
        trial,
        logits,
        export.Settings(remarks=said),
    )


def measured(shop: Shop, folder: Path) -> float:
    """nDCG@10 of the part on the queries that are shown: the grades of what the first stage gives."""
    scorer = PairScorer(folder, 2)
    shown = [query.text for query in shop.queries if query.held_out]
    titles = [product.title for product in shop.products]
    return _quality(shop, np.array([scorer.score([text] * len(titles), titles) for text in shown], dtype=np.float64))


def _rows(one: student.Student, words: bytes, pairs: Sequence[tuple[str, str]]) -> rows_of.PairRows:
    tokenizer = rows_of.tokenizer_of(words, student.part_config(one))
    return rows_of.pair_rows(tokenizer, [query for query, _ in pairs], [title for _, title in pairs])


def _grades(shop: Shop, texts: Sequence[str]) -> Doubles:
    return np.array([[shop.query(text).grades.get(one.item_id, 0) for one in shop.products] for text in texts], float)


def _quality(shop: Shop, scores: Doubles) -> float:
    places = {product.item_id: place for place, product in enumerate(shop.products)}
    shown = [query.text for query in shop.queries if query.held_out]
    found = {
        text: {item.item_id: float(row[places[item.item_id]]) for item in listed(shop, text)}
        for text, row in zip(shown, scores, strict=True)
    }
    return round(texts.judged(shop, found), 4)


def main() -> None:
    """Makes it; with --write it becomes the one that ships."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / ".headrace/tour-student", help="keeps checkpoint and part")
    parser.add_argument("--queries", type=int, default=1_200, help="made of the products' texts")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="into the package")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    shop = load()
    part = make(shop, given)
    digest = write_part(given.out, "student", part.files)
    megabytes = sum(map(len, part.files.values())) / 1e6
    found = {"digest": digest, "megabytes": megabytes, "ndcg_shown": measured(shop, given.out / "parts" / digest)}
    print(json.dumps(found), part.measured)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if given.write:
        shutil.rmtree(PLACE, ignore_errors=True)
        shutil.copytree(given.out / "parts" / digest, PLACE / digest)


if __name__ == "__main__":
    main()
