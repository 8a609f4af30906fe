"""What a part of the broker answers: a request's class, the versions it knows, and the function that answers it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        body: an instance of the request's generated class.
    """

    body: Any
    version: int
    client_id: str
    host: str


@dataclass(frozen=True)
class Api:
    """How one kind of request is answered.

    Attributes:
        request: the generated class.
        versions: the lowest and the highest that are answered; Kafka 4.1's where there is no reason for others.
        answer: returns an instance of the response's generated class, or None for no answer.
        most_bytes: of a request; only one with records is larger.
    """

    request: Any
    versions: tuple[int, int]
    answer: Callable[[Asked], Awaitable[Any]]
    most_bytes: int = 4_194_304
