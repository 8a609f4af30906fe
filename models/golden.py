"""Golden requests: what a bundle answered where it was made, so that a worker can ask it again before it serves."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from headrace import BundleMismatch
from headrace.models.parts import Part, write_part

KIND = "golden"
LIMIT_BYTES = 16 << 20
_FILE = "golden.json"


class GoldenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request to one part, and what that part answered where the bundle was made.

    Attributes:
        part: the kind of part that is asked, e.g. ``student`` or ``head``.
        request: plain JSON, as the caller of that part understands it; a number that is NaN is stored as null.
        scores: the answer, finite numbers.
    """

    part: str
    request: dict[str, object]
    scores: tuple[float, ...]


def write_golden(repository: Path, golden: Sequence[GoldenRequest]) -> str:
    """The digest of a part that holds these requests.

    Raises:
        BundleMismatch: a score is not finite, or they are too large together.
    """
    for index, request in enumerate(golden):
        if not all(math.isfinite(score) for score in request.scores):
            raise BundleMismatch(f"golden request {index} to the {request.part} does not score finite numbers")
    content = msgspec.json.encode(list(golden), order="sorted")
    if len(content) > LIMIT_BYTES:
        raise BundleMismatch(f"golden requests have {len(content)} bytes, {LIMIT_BYTES} are allowed: take fewer")
    return write_part(repository, KIND, {_FILE: content})


def read_golden(part: Part, kinds: Collection[str]) -> tuple[GoldenRequest, ...]:
    """The requests that a part holds.

    Args:
        part: a verified part.
        kinds: the kinds of part that may be asked: those of the bundle.

    Raises:
        BundleMismatch: it is another kind of part, cannot be read, or asks a part that is not there.
    """
    if part.kind != KIND:
        raise BundleMismatch(f"part {part.digest} is a {part.kind} where golden requests were named: publish again")
    try:
        golden = msgspec.json.decode(part.read(_FILE, LIMIT_BYTES), type=tuple[GoldenRequest, ...])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleMismatch(f"golden requests {part.digest} cannot be read ({error}): publish again") from error
    for index, request in enumerate(golden):
        if request.part not in kinds:
            raise BundleMismatch(f"golden request {index} asks a {request.part:.100}, which the bundle has not")
    return golden


def replay(
    golden: Sequence[GoldenRequest],
    answers: Mapping[str, Callable[[Mapping[str, object]], Sequence[float]]],
    tolerance: float = 1e-3,
) -> int:
    """The number of golden requests that were asked again and answered alike.

    Args:
        golden: the requests of a bundle.
        answers: who answers, by kind of part; requests to a kind that is not named are left out, since that part is
            one that already serves.
        tolerance: how far a score may lie from the golden one; processors differ in the last bits, and int8 turns a
            last bit into a step.

    Raises:
        BundleMismatch: a score is not finite, differs by more, or their number does.
    """
    asked = 0
    for index, wanted in enumerate(golden):
        answer = answers.get(wanted.part)
        if answer is None:
            continue
        scores = [float(score) for score in answer(wanted.request)]
        asked += 1
        where = f"golden request {index} to the {wanted.part}"
        if len(scores) != len(wanted.scores):
            raise BundleMismatch(f"{where} gives {len(scores)} scores where there were {len(wanted.scores)}")
        for row, (score, expected) in enumerate(zip(scores, wanted.scores, strict=True)):
            if not math.isfinite(score):
                raise BundleMismatch(f"{where} scores {score} in row {row}: the part is broken, build it again")
            if abs(score - expected) > tolerance:
                raise BundleMismatch(
                    f"{where} scores {score:.6g} in row {row} where it was {expected:.6g} "
                    f"(allowed: {tolerance:g}): this machine does not run the part as it was made"
                )
    return asked
