"""Waiting for a broker, and being refused by it."""

import time
from collections.abc import Callable

from broker_clients import Refused

WAIT_S = 40.0


def eventually(holds: Callable[[], bool], within_s: float = WAIT_S) -> bool:
    """Whether something holds before long: what a controller has decided reaches its broker a moment later."""
    until_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.02)
    return True


def refused_with(code: int, ask: Callable[[], object]) -> None:
    """Fails unless the broker answers with this error."""
    try:
        answer = ask()
    except Refused as refusal:
        assert refusal.code == code, refusal
    else:
        raise AssertionError(f"not refused: {answer!r}")
