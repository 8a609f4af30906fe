"""A new head as a bundle: the champion's other parts, the head, golden requests; published under a fencing epoch."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from headrace import BundleError, BundleMismatch
from headrace.models.bundle import GoldenRequest, champion, claim_epoch, publish, read_bundle, write_bundle, write_part
from headrace.models.features import FEATURES
from headrace.models.head import Head
from headrace.models.parts import Part
from headrace.online.course import Decision

HEAD_FILE = "head.bin"
HEAD_BYTES = 16 << 20


class Publisher:
    """Publishes heads into one repository.

    Args:
        repository: folder of parts and bundles.
        epoch: the fencing number of this learner.
    """

    def __init__(self, repository: Path, epoch: int) -> None:
        self.repository = repository
        self.epoch = epoch
        self.version = ""
        """The last version this object published, "" before."""
        self._known: dict[str, Part] = {}

    def publish(self, decision: Decision) -> str:
        """The version with this head; it is the champion when this returns. Doing it twice gives the same version.

        Raises:
            BundleError: somebody with a newer epoch took over, or the champion's own parts are broken.
        """
        parts: dict[str, str] = {}
        golden: list[GoldenRequest] = []
        if (current := champion(self.repository)) is not None:
            bundle = read_bundle(self.repository, current.version, self._known)
            self._known = {part.digest: part for part in bundle.parts.values()}
            parts = {kind: part.digest for kind, part in bundle.parts.items() if kind != "head"}
            golden = [request for request in bundle.golden if request.part != "head"]
        parts["head"] = write_part(self.repository, "head", {HEAD_FILE: decision.head})
        golden += golden_requests(Head.from_bytes(decision.head), decision.golden)
        version = write_bundle(self.repository, parts, golden, decision.metadata)
        publish(self.repository, version, self.epoch)
        self.version = version
        return version


def golden_requests(head: Head, lists: tuple[NDArray[np.float32], ...]) -> list[GoldenRequest]:
    """What the head answers to these lists, each float32 [R, F], as golden requests."""
    return [
        GoldenRequest(
            part="head",
            request={"features": [[float(value) for value in row] for row in features]},
            scores=tuple(float(score) for score in head.score(features)),
        )
        for features in lists
    ]


def champions_head(repository: Path) -> Head | None:
    """The head that serves now; None where nothing was published, or what was has none for these features."""
    current = champion(repository)
    if current is None:
        return None
    part = read_bundle(repository, current.version).parts.get("head")
    if part is None or len(part.files) != 1:
        return None
    try:
        return Head.from_bytes(part.read(next(iter(part.files)), HEAD_BYTES), FEATURES)
    except BundleMismatch:
        return None


class Hold:
    """A lock of the operating system on ``<folder>/refresh.lock``: it goes with the process, so a crash leaves none.

    Args:
        folder: what only one learner may use; made when it is not there.
        insist: also take what another process holds. It is then the epochs that keep that one from writing.

    Raises:
        BundleError: another process holds it.
    """

    def __init__(self, folder: Path, insist: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "refresh.lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            if not insist:
                os.close(self._descriptor)
                raise BundleError(
                    f"{folder} has a learner already (process {holder}): stop that one, or, if it hangs, "
                    "start this one with --take-over"
                ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def __enter__(self) -> "Hold":
        """The lock, held."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives it back."""
        os.close(self._descriptor)


__all__ = ["Hold", "Publisher", "champions_head", "claim_epoch", "golden_requests"]
