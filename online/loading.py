"""Follows the champion of a repository: verifies a new bundle, opens what is new, tries it, and only then exchanges.

On a thread of its own, at lower priority, so that requests do not notice. A bundle that fails any check is refused: the
model before goes on, the reason is logged once, shown by ``/readyz`` and counted. It is tried again when its files
change (a copy that was half done) or, more and more seldom, for the case that the fault was ours.
"""

import contextlib
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from headrace import BundleCorrupt, BundleError, BundleMismatch
from headrace.models.bundle import Bundle, Part, champion, read_bundle, replay
from headrace.models.features import FEATURES
from headrace.models.head import Head
from headrace.online.catalogue import Catalogue
from headrace.online.meters import Meters
from headrace.online.opening import OpenStudent, at_work, replay_golden, warm_up
from headrace.online.refusal import Refusal, looks_of, refusal_after
from headrace.online.registry import Registry, Shelf
from headrace.online.score_writer import NoScoreWriter, ScoreWriter
from headrace.online.students import StudentAtWork
from headrace.online.worker import Model
from headrace.streams.score_cache import MAX_AGE_MS

log = logging.getLogger(__name__)

POLL_S: Final = 0.2
NICE: Final = 5
REST: Final = 1.0
"""While requests are served a new student warms up half of the time."""
HEAD_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class LoadingConfig:
    """How new models are taken in.

    Attributes:
        repository: folder of parts and bundles.
        tolerance: how far a student's golden score may be off: processors differ in the last bits, int8 makes steps
            of them.
        head_tolerance: the same for heads, which compute in float64.
        vector_bytes: bound of one student's item vectors, or scores of pairs.
        warm_items: so many of them are made before a new student serves, those asked for last first.
        cache_age_ms: scores of the cache in Redis that are older are not used.
    """

    repository: Path
    tolerance: float = 1e-3
    head_tolerance: float = 1e-6
    vector_bytes: int = 256 << 20
    warm_items: int = 2_000
    cache_age_ms: int = MAX_AGE_MS


@dataclass(slots=True)
class Loader:
    """Makes models of bundles; parts that are open already are shared, not opened again.

    Attributes:
        open_student: opens the folder of a student part.
        catalogue: whose items a new student warms up with.
        writer: where the scores of a cross-encoder go.
        shelf: the parts that are open.
        ending: set when the process ends: a warm-up then leaves off.
    """

    config: LoadingConfig
    open_student: OpenStudent
    catalogue: Catalogue
    writer: ScoreWriter = field(default_factory=NoScoreWriter)
    shelf: Shelf[StudentAtWork] = field(default_factory=Shelf)
    ending: threading.Event = field(default_factory=threading.Event)
    _verified: dict[str, Part] = field(default_factory=dict, init=False)

    def load(self, version: str, rest: float = 0.0) -> tuple[Model, Callable[[], None]]:
        """A model that passed every check, and how to close it.

        Args:
            version: which bundle.
            rest: pauses while a new student warms up, in times of its work; 0 when nobody is served meanwhile.

        Raises:
            BundleCorrupt: bytes are missing or differ from their hash.
            BundleMismatch: another format, or it does not score as its golden requests say.
        """
        held = self.shelf.digests()
        known = {digest: part for digest, part in self._verified.items() if digest in held}
        bundle = read_bundle(self.config.repository, version, known)
        head = read_head(bundle)
        replay(bundle.golden, {"head": golden_head(head)}, self.config.head_tolerance)
        try_head(head)
        student, digest = self._student(bundle, rest)
        self._verified = {d: part for d, part in self._verified.items() if d in self.shelf.digests()}
        parts = {kind: part.digest for kind, part in bundle.parts.items()}

        def close() -> None:
            if digest:
                self.shelf.give_back(digest)

        return Model(version=bundle.version, parts=parts, head=head, student=student), close

    def _student(self, bundle: Bundle, rest: float) -> tuple[StudentAtWork | None, str]:
        part = bundle.parts.get("student")
        if part is None:
            return None, ""
        student = self.shelf.take(part.digest)
        if student is not None:
            return student, part.digest
        opened = self.open_student(part.folder)
        replay_golden(opened, bundle.golden, self.config.tolerance)
        student = at_work(opened, self.config.vector_bytes, self.writer, self.config.cache_age_ms)
        before = self.shelf.parts()
        warm_up(student, self.catalogue, self.config.warm_items, before, rest, self.ending.is_set)
        self.shelf.put(part.digest, student)
        self._verified[part.digest] = part
        return student, part.digest


def read_head(bundle: Bundle) -> Head:
    """The head of a bundle.

    Raises:
        BundleMismatch: there is none, or it was made for other features. BundleCorrupt: its bytes are no head.
    """
    part = bundle.parts.get("head")
    if part is None or len(part.files) != 1:
        raise BundleMismatch(f"bundle {bundle.version} has no part `head` of one file: publish it with one")
    return Head.from_bytes(part.read(next(iter(part.files)), HEAD_BYTES))


def golden_head(head: Head) -> Callable[[Mapping[str, object]], Sequence[float]]:
    """Answers golden requests ``{"features": [[number, ...], ...]}``, rows of all features, with scores."""

    def answer(request: Mapping[str, object]) -> Sequence[float]:
        try:
            features = np.array(request.get("features"), dtype=np.float32)
        except (TypeError, ValueError):
            features = np.empty(0, dtype=np.float32)
        if features.ndim != 2 or features.shape[1] != len(FEATURES):
            raise BundleMismatch(f'a golden request to the head must be {{"features": rows of {len(FEATURES)}}}')
        return [float(score) for score in head.score(features)]

    return answer


def try_head(head: Head) -> None:
    """Warms the head up with rows of every size.

    Raises:
        BundleMismatch: a score or margin is not finite.
    """
    for value in (0.0, 1.0, -1.0, 1e4, -1e4):
        rows = np.full((100, len(FEATURES)), value, dtype=np.float32)
        if not (np.isfinite(head.score(rows)).all() and np.isfinite(head.margin(rows)).all()):
            raise BundleMismatch(f"the head scores numbers that are not finite when every feature is {value:g}")


@dataclass(slots=True)
class Watcher:
    """The thread that follows the champion.

    Attributes:
        registry: where the model is exchanged.
        loader: makes models. meters: counts swaps.
        poll_s: how often to look.
    """

    registry: Registry[Model]
    loader: Loader
    meters: Meters
    poll_s: float = POLL_S
    refusal: Refusal | None = field(default=None, init=False)
    exchanged_s: float = field(default=math.nan, init=False)
    _pointer_fault: str = field(default="", init=False)
    _closing: "queue.SimpleQueue[Callable[[], None]]" = field(default_factory=queue.SimpleQueue, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, lets go of the model and closes what no request holds."""
        self.loader.ending.set()
        if self._thread is not None:
            self._thread.join()
        self.registry.clear()
        self._close_retired()

    def look(self) -> bool:
        """Looks once; whether the model was exchanged. Never raises: whatever is wrong, the model before goes on."""
        self._close_retired()
        version = self._wanted()
        current = self.registry.current()
        if version is None or (current is not None and current.version == version):
            if self.refusal is not None and version is not None:
                self.refusal = None  # the pointer was moved back
            return False
        if not self._due(version):
            return False
        loading = self.meters.model_state.labels("loading")
        loading.set(1)
        try:
            return self._try(version)
        finally:
            loading.set(0)

    def _wanted(self) -> str | None:
        try:
            found = champion(self.loader.config.repository)
        except (BundleError, OSError) as error:
            if str(error) != self._pointer_fault:
                log.error("the pointer to the champion cannot be read: %s; the model before goes on", error)
            self._pointer_fault = str(error)
            return None
        self._pointer_fault = ""
        return found.version if found else None

    def _due(self, version: str) -> bool:
        refusal = self.refusal
        if refusal is None or refusal.version != version or time.monotonic() >= refusal.retry_s:
            return True
        return looks_of(self.loader.config.repository, version) != refusal.files

    def _try(self, version: str) -> bool:
        began_s = time.monotonic()
        looks = looks_of(self.loader.config.repository, version)
        try:
            model, close = self.loader.load(version, REST if self.registry.current() else 0.0)
        except BundleCorrupt as error:
            self._refuse(version, "corrupt", str(error), looks)
            return False
        except BundleError as error:
            self._refuse(version, "mismatch", str(error), looks)
            return False
        except Exception as error:  # a bug or a full disk must not take down the model that serves
            log.exception("bundle %s could not be loaded", version)
            self._refuse(version, "failed", f"{type(error).__name__}: {error}", looks)
            return False
        self.refusal = None
        self.registry.exchange(model, partial(self._closing.put, close))
        self.exchanged_s = time.monotonic()
        self.meters.swaps.labels("ok").inc()
        self.meters.swap_s.observe(self.exchanged_s - began_s)
        self.meters.model_info.clear()
        self.meters.model_info.labels(version, "champion").set(1)
        log.info("model %s serves after %.0f ms", version, 1000 * (self.exchanged_s - began_s))
        return True

    def _refuse(self, version: str, result: str, reason: str, looks: int) -> None:
        before = self.refusal if self.refusal is not None and self.refusal.version == version else None
        self.meters.swaps.labels(result).inc()
        if before is None or before.reason != reason:
            log.error("bundle %s is refused (%s): %s; the model before goes on", version, result, reason)
        self.refusal = refusal_after(before, version, reason, looks, time.monotonic())

    def _close_retired(self) -> None:
        # Freeing a session takes milliseconds: here, not on the thread of the request that happened to be last.
        while True:
            try:
                close = self._closing.get_nowait()
            except queue.Empty:
                return
            close()

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self.loader.ending.is_set():
            self.look()
            self.meters.model_since_s.set(time.monotonic() - self.exchanged_s)
            self.loader.ending.wait(self.poll_s)
