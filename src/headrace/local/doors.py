"""The worker and the learner of a local line, asked over HTTP."""

import time
from collections.abc import Mapping
from typing import Any

import httpx

WAIT_S = 60.0


class Refused(RuntimeError):
    """The line did not do what a replay needs; the text says which part, and where its log is."""


class Doors:
    """Asks, waits, and refuses what no shopper could be shown."""

    def __init__(self, serve_url: str, refresh_url: str) -> None:
        self._http = httpx.Client(timeout=WAIT_S, headers={"content-type": "application/json"})
        self._serve_url, self._status_url = serve_url, f"{refresh_url}/status"

    def scored(self, body: bytes) -> Any:
        """The answer to the body of a ``POST /v1/rank``, with scores for all items.

        Raises:
            Refused: the worker did not answer, or not all of it.
        """
        answer = self._http.post(f"{self._serve_url}/v1/rank", content=body)
        if answer.status_code != 200:
            raise Refused(f"the worker answered {answer.status_code}: {answer.text[:300]}; see serve.log")
        said = answer.json()
        if None in said["scores"]:
            raise Refused(f"the worker scored only a part of a list: {said['degraded']}; see serve.log")
        return said

    def ready(self) -> Mapping[str, Any]:
        """What the worker says of itself."""
        found: Mapping[str, Any] = self._http.get(f"{self._serve_url}/readyz").json()
        return found

    def wait_for_model(self, version: str) -> None:
        """Returns when the worker serves a version.

        Raises:
            Refused: it does not, after a minute.
        """
        until_s = time.monotonic() + WAIT_S
        while (model := self.ready().get("model")) != version:
            if time.monotonic() > until_s:
                raise Refused(f"the worker serves {model}, not {version}: see serve.log")
            time.sleep(0.01)

    def status(self) -> Mapping[str, Any]:
        """What the learner says of itself."""
        found: Mapping[str, Any] = self._http.get(self._status_url).json()
        return found

    def wait_for_learner(self, ends: Mapping[str, int]) -> Mapping[str, Any]:
        """The learner's status once it has read "topic/partition" up to these offsets.

        Raises:
            Refused: it does not, after a minute.
        """
        until = ",".join(f"{source}:{offset}" for source, offset in ends.items())
        answer = self._http.get(self._status_url, params={"until": until, "timeout_ms": 50_000})
        if answer.status_code != 200:
            raise Refused(f"the learner did not read up to {until}: see refresh.log ({answer.text[:200]})")
        found: Mapping[str, Any] = answer.json()
        return found

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()
