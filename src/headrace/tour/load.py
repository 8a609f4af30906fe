"""Requests at a steady rate from a thread, and what each of them saw; a late answer delays none of the others."""

import asyncio
import threading
import time
from collections.abc import Sequence
from types import TracebackType

import httpx

from headrace.tour.acts import Requests

TIMEOUT_S = 20.0
JSON = {"content-type": "application/json"}


class Load:
    """A steady load on one door, from ``with`` to the end of its block.

    Attributes:
        due_s: when each answered request was due, on the monotonic clock.
        took_ms: from then until its answer was whole.
        failed: what each that was no success was answered.
        versions: of the models that answered, in the order in which they were first seen to.
    """

    def __init__(self, url: str, bodies: Sequence[bytes], rate: float) -> None:
        """Prepares it.

        Args:
            url: of the worker.
            bodies: of the requests to ``/v1/rank``, one after the other and again from the beginning.
            rate: requests a second.
        """
        self._url, self._bodies, self._rate = f"{url}/v1/rank", bodies, rate
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="tour-load", daemon=True)
        self.due_s: list[float] = []
        self.took_ms: list[float] = []
        self.failed: list[str] = []
        self.versions: list[str] = []

    @property
    def requests(self) -> Requests:
        """How many were sent and what failed."""
        return Requests(len(self.took_ms) + len(self.failed), tuple(self.failed))

    def __enter__(self) -> "Load":
        """Starts sending."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Sends no more and waits for the answers that are due."""
        self._ending.set()
        self._thread.join(TIMEOUT_S)

    async def _run(self) -> None:
        started_s = time.monotonic()
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client, asyncio.TaskGroup() as group:
            number = 0
            while not self._ending.is_set():
                due_s = started_s + number / self._rate
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                group.create_task(self._ask(client, self._bodies[number % len(self._bodies)], due_s))
                number += 1

    async def _ask(self, client: httpx.AsyncClient, body: bytes, due_s: float) -> None:
        try:
            answer = await client.post(self._url, content=body, headers=JSON)
        except httpx.HTTPError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
            return
        if answer.status_code != 200:
            self.failed.append(f"{answer.status_code}: {answer.text[:200]}")
            return
        self.due_s.append(due_s)
        self.took_ms.append((time.monotonic() - due_s) * 1000)
        version = answer.json()["model"]["version"]
        if not self.versions or self.versions[-1] != version:
            self.versions.append(version)


def split(load: Load, moved: Sequence[tuple[float, float]], near_s: float) -> tuple[list[float], list[float]]:
    """The milliseconds of the requests near a swap, and of all others.

    Args:
        load: what requests saw.
        moved: for each swap when its pointer moved and when the new model was first seen to answer.
        near_s: so long after that still is near.
    """
    near, away = list[float](), list[float]()
    for due_s, took_ms in zip(load.due_s, load.took_ms, strict=True):
        close = any(began_s <= due_s <= seen_s + near_s for began_s, seen_s in moved)
        (near if close else away).append(took_ms)
    return near, away
