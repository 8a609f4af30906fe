"""Which model answers, and until when each one lives.

A request asks the registry once and keeps what it got until it ends. An exchange replaces one reference; the model
before closes when the last request that holds it has ended. Parts that two models share are opened once and close with
the last model that names them, so a refreshed head never closes the student under it.

Everything here is counting under a lock, without I/O: opening, verifying and warming happen before, elsewhere.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from headrace import Overloaded


class Closable(Protocol):
    """Something opened that must be closed once."""

    def close(self) -> None:
        """Gives back what it holds."""


PartT = TypeVar("PartT", bound=Closable)
ModelT = TypeVar("ModelT")


@dataclass(slots=True)
class _Open(Generic[PartT]):
    part: PartT
    holders: int


class Shelf(Generic[PartT]):
    """Open parts by digest, each with the number of models that hold it."""

    def __init__(self) -> None:
        self._open: dict[str, _Open[PartT]] = {}
        self._lock = threading.Lock()

    def take(self, digest: str) -> PartT | None:
        """The open part of this digest, held once more; None when it is not open."""
        with self._lock:
            entry = self._open.get(digest)
            if entry is None:
                return None
            entry.holders += 1
            return entry.part

    def put(self, digest: str, part: PartT) -> None:
        """A freshly opened part, held once.

        Raises:
            ValueError: one of this digest is open already.
        """
        with self._lock:
            if digest in self._open:
                raise ValueError(f"part {digest} is open already")
            self._open[digest] = _Open(part, 1)

    def give_back(self, digest: str) -> None:
        """One holder less; the last one closes the part."""
        with self._lock:
            entry = self._open[digest]
            entry.holders -= 1
            if entry.holders:
                return
            del self._open[digest]
        entry.part.close()

    def parts(self) -> list[PartT]:
        """The parts that are open, the newest first."""
        with self._lock:
            return [entry.part for entry in reversed(self._open.values())]

    def digests(self) -> frozenset[str]:
        """The digests of the parts that are open."""
        with self._lock:
            return frozenset(self._open)


@dataclass(slots=True)
class _Held(Generic[ModelT]):
    model: ModelT
    close: Callable[[], None]
    requests: int = 0
    retired: bool = False


@dataclass(slots=True)
class Registry(Generic[ModelT]):
    """The model that answers, and those before it that still have requests.

    Attributes:
        closed: how many models have been closed.
    """

    closed: int = field(default=0, init=False)
    _current: _Held[ModelT] | None = field(default=None, init=False)
    _retired: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def current(self) -> ModelT | None:
        """The model that a request would get now; for looking at, not for scoring."""
        held = self._current
        return None if held is None else held.model

    def waiting(self) -> int:
        """How many models before the current one still have requests."""
        return self._retired

    @contextmanager
    def acquire(self) -> Iterator[ModelT]:
        """The model that answers, which stays open until the block ends.

        Raises:
            Overloaded: none has passed its checks yet.
        """
        with self._lock:
            held = self._current
            if held is None:
                raise Overloaded("no model has passed its checks yet")
            held.requests += 1
        try:
            yield held.model
        finally:
            with self._lock:
                held.requests -= 1
                last = held.retired and held.requests == 0
                self._retired -= last
            if last:
                self._close(held)

    def exchange(self, model: ModelT, close: Callable[[], None]) -> None:
        """From now on requests get this model; the one before closes with its last request.

        Args:
            model: verified, opened and warm.
            close: called once, when it was replaced and no request holds it any more; from whatever thread was last.
        """
        self._replace(_Held(model, close))

    def clear(self) -> None:
        """From now on requests get no model; the last one closes with its last request."""
        self._replace(None)

    def _replace(self, held: _Held[ModelT] | None) -> None:
        with self._lock:
            before, self._current = self._current, held
            if before is None:
                return
            before.retired = True
            last = before.requests == 0
            self._retired += not last
        if last:
            self._close(before)

    def _close(self, held: _Held[ModelT]) -> None:
        held.close()
        with self._lock:
            self.closed += 1


@dataclass(frozen=True, slots=True)
class Loaded(Generic[ModelT]):
    """A model that may serve: what it is made of and how to close it."""

    version: str
    parts: Mapping[str, str]
    model: ModelT
    close: Callable[[], None]
