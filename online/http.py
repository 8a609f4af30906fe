"""The edge: HTTP in, HTTP out. Bounded bodies, one place a request, plain errors, no tracebacks to callers.

Doors: ``POST /v1/rank``, ``POST /v1/features``, ``POST /v1/events``, ``GET /livez``, ``GET /readyz``, ``GET /metrics``.

A request that finds every place taken is refused at once (429 with Retry-After): there is no queue that nobody sees.
"""

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import msgspec
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from headrace import BadRequest, Overloaded, StoreUnavailable
from headrace.online.messages import ErrorSaid, EventsAnswer, features_request, rank_request
from headrace.online.meters import Meters
from headrace.online.worker import Worker

log = logging.getLogger(__name__)

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}", re.ASCII)
JSON: Final = "application/json"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

Doors = Callable[["Call"], Awaitable[Response]]


class TooLarge(BadRequest):
    """A body larger than the worker takes: 413."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """What the edge takes in.

    Attributes:
        places: requests that may be worked on or wait at a time; more are refused at once.
        body_bytes: a larger body is refused unread.
        body_s: a body that takes longer to arrive is given up.
        trust_now: take ``now_ms`` from requests; for replays only.
        token: what callers must show; "" asks for none.
        token_everywhere: on every door, not only on those that change things.
    """

    places: int = 256
    body_bytes: int = 1 << 20
    body_s: float = 5.0
    trust_now: bool = False
    token: str = ""
    token_everywhere: bool = False


@dataclass(slots=True)
class Places:
    """How many requests are inside; used from the event loop only."""

    limit: int
    taken: int = 0

    def enter(self) -> None:
        """Takes a place.

        Raises:
            Overloaded: none is free.
        """
        if self.taken >= self.limit:
            raise Overloaded(f"{self.taken} requests are being worked on; come back later")
        self.taken += 1

    def leave(self) -> None:
        """Gives a place back."""
        self.taken -= 1


@dataclass(frozen=True, slots=True)
class Call:
    """One request at a door: its id, when it came, its body (empty for GET)."""

    request: Request
    request_id: str
    arrived_s: float
    body: bytes = b""


AcceptEvents = Callable[[bytes], Awaitable[EventsAnswer]]


@dataclass(slots=True)
class Edge:
    """The doors of one worker.

    Attributes:
        worker: answers. meters: counts. accept: puts events into Kafka; None: this worker has no Kafka.
        ready: what ``/readyz`` says beside "ready", and whether it is.
        draining: set when the process was asked to end.
    """

    worker: Worker
    meters: Meters
    config: EdgeConfig
    ready: Callable[[], tuple[bool, Mapping[str, object]]]
    accept: AcceptEvents | None = None
    draining: bool = False
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        """Every place is free."""
        self.places = Places(self.config.places)

    def drain(self) -> None:
        """From now on ``/readyz`` says no."""
        self.draining = True

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                self._route("/v1/rank", "POST", self.rank),
                self._route("/v1/features", "POST", self.features),
                self._route("/v1/events", "POST", self.events, changes=True),
                self._route("/livez", "GET", self.livez),
                self._route("/readyz", "GET", self.readyz),
                self._route("/metrics", "GET", self.metrics),
            ]
        )

    async def rank(self, call: Call) -> Response:
        """Scores."""
        asked = rank_request(call.body, self.config.trust_now)
        answer = await self.worker.rank(asked, call.request_id, call.arrived_s)
        return _json(200, answer, {"x-model-version": answer.model.version})

    async def features(self, call: Call) -> Response:
        """What the state knows."""
        asked = features_request(call.body, self.config.trust_now)
        return _json(200, await self.worker.features(asked, call.request_id))

    async def events(self, call: Call) -> Response:
        """Events into Kafka; answers once they are there."""
        if self.accept is None:
            raise StoreUnavailable("this worker was started without Kafka and takes no events")
        return _json(202, await self.accept(call.body))

    async def livez(self, call: Call) -> Response:
        """The event loop turns."""
        return _json(200, {"live": True})

    async def readyz(self, call: Call) -> Response:
        """Whether requests should be sent here."""
        ready, details = self.ready()
        ready = ready and not self.draining
        return _json(200 if ready else 503, {"ready": ready, "draining": self.draining, **details})

    async def metrics(self, call: Call) -> Response:
        """The numbers, in Prometheus' text format."""
        self.meters.running.set(self.places.taken)
        self.ready()  # brings the gauges up to date
        return Response(generate_latest(self.meters.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _route(self, path: str, method: str, door: Doors, changes: bool = False) -> Route:
        duration = self.meters.request_s.labels(path)

        async def endpoint(request: Request) -> Response:
            arrived_s = time.monotonic()
            named = request.headers.get("x-request-id", "")
            request_id = named if REQUEST_ID.fullmatch(named) else uuid4().hex
            response = await self._answered(door, request, request_id, arrived_s, changes)
            response.headers["x-request-id"] = request_id
            self.meters.requests.labels(path, str(response.status_code)).inc()
            duration.observe(time.monotonic() - arrived_s)
            return response

        return Route(path, endpoint, methods=[method])

    async def _answered(
        self, door: Doors, request: Request, request_id: str, arrived_s: float, changes: bool
    ) -> Response:
        """The door's answer, or the error in words."""
        try:
            if not self._may_enter(request, changes):
                return _error(401, "unauthorized", "this door needs Authorization: Bearer <token>", request_id)
            if request.method == "GET":
                return await door(Call(request, request_id, arrived_s))
            body = await self._body(request)
            self.places.enter()
            try:
                return await door(Call(request, request_id, arrived_s, body))
            finally:
                self.places.leave()
        except Exception as error:
            return self._said(error, request_id)

    def _said(self, error: Exception, request_id: str) -> Response:
        match error:
            case TooLarge():
                return self._refused(413, "too_large", error, request_id)
            case BadRequest():
                return self._refused(400, "bad_request", error, request_id)
            case Overloaded():
                retry = {"retry-after": str(max(1, round(error.retry_after_s)))}
                if self.worker.registry.current() is None:
                    return self._refused(503, "not_ready", error, request_id, retry)
                return self._refused(429, "overloaded", error, request_id, retry)
            case StoreUnavailable():
                return self._refused(503, "unavailable", error, request_id, {"retry-after": "1"})
            case TimeoutError():
                return self._refused(408, "body_timeout", error, request_id)
            case ClientDisconnect():
                return self._refused(499, "gone", error, request_id)
            case _:
                log.error("request %s met a bug", request_id, exc_info=error)
                return _error(500, "bug", "this is a bug; the log has it under the request's id", request_id)

    def _refused(
        self, code: int, reason: str, error: Exception, request_id: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        self.meters.rejected.labels(reason).inc()
        named = getattr(error, "field", "")
        message = getattr(error, "message", "") or str(error) or reason
        return _error(code, reason, message, request_id, named, headers)

    def _may_enter(self, request: Request, changes: bool) -> bool:
        if not self.config.token or not (changes or self.config.token_everywhere):
            return True
        shown = request.headers.get("authorization", "")
        return hmac.compare_digest(shown.encode("utf-8", "replace"), f"Bearer {self.config.token}".encode())

    async def _body(self, request: Request) -> bytes:
        """The body, within its bounds of size and time."""
        # A browser sends this type to another site only after asking, and nobody answers that: no page can reach us.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise BadRequest("content-type", f"must be {JSON}")
        limit = self.config.body_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced[:20]) > limit:
            raise TooLarge("body", f"has {announced[:20]} bytes; at most {limit} are taken")
        parts: list[bytes] = []
        size = 0
        async with asyncio.timeout(self.config.body_s):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise TooLarge("body", f"has more than {limit} bytes")
                parts.append(part)
        return b"".join(parts)


def _json(code: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), code, dict(headers or {}), JSON)


def _error(
    code: int, error: str, message: str, request_id: str, field: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    return _json(code, ErrorSaid(error, message, request_id, field), headers)


def check_address(host: str, token: str) -> str:
    """Why a worker may not listen there, as a sentence; empty when it may."""
    if host in LOOPBACK or token:
        return ""
    return (
        f"{host} can be reached from outside: set HEADRACE_SERVE_TOKEN, which callers must then show as "
        "`Authorization: Bearer ...`, or listen on 127.0.0.1"
    )
