"""The clients that the contract of brokers is tested with."""

from collections.abc import Iterator
from typing import Any

import pytest

from broker_clients import CLIENTS, Broker, make_client


@pytest.fixture(params=["embedded", "apache"])
def broker(request: pytest.FixtureRequest) -> str:
    """Every contract of brokers is held by both."""
    name: str = request.param
    return name


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, kafka: Broker) -> Iterator[Any]:
    """A client of the broker; see `broker_clients.Client`."""
    made = make_client(request.param, kafka.bootstrap)
    yield made
    made.close()


@pytest.fixture
def topic(topic_suffix: str) -> str:
    """The name of a topic that is not there yet."""
    return f"contract.{topic_suffix}"


@pytest.fixture
def group(topic_suffix: str) -> str:
    """The name of a group that is not there yet."""
    return f"group.{topic_suffix}"
