"""What the verbs that speak to Kafka share: its errors as one sentence with the next step."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError


@contextmanager
def speaking_to(bootstrap_servers: str) -> Iterator[None]:
    """Turns Kafka's errors inside into one sentence, and keeps the client's own lines for ``--log-level debug``.

    Raises:
        click.ClickException: no broker answers, or one refuses.
    """
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        yield
    except (KafkaConnectionError, KafkaTimeoutError) as error:
        raise click.ClickException(
            f"No answer from Kafka at {bootstrap_servers} ({error}). Is it running, and is --bootstrap-servers right?"
        ) from error
    except KafkaError as error:
        raise click.ClickException(f"Kafka at {bootstrap_servers} refused: {error}") from error
