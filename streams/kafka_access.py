"""How this process enters Kafka: one way for every client that it opens, set once by the command line.

A cluster of its own on one machine asks for nothing. One in production asks for TLS, and for a name with a password
(SASL). A process speaks to one cluster, so this is the one thing here that is set for the whole process: handing it
through every signature between a verb and ten kinds of clients would say the same thing ten times.
"""

import logging
import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
PROTOCOLS: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TELLTALES: Final = ("kafka.net.connection", "kafka.protocol.parser", "aiokafka.conn")
"""Loggers that write every request out when they debug, the one with the password too."""


@dataclass(frozen=True, slots=True)
class Access:
    """What brokers ask for; a password never appears in its text.

    Attributes:
        protocol: as Kafka's ``security.protocol``, in lower case.
        mechanism: of SASL.
        user: for SASL.
        password: for SASL.
        ca_file: certificates that brokers are checked against; "": those of the system.
    """

    protocol: Protocol = "plaintext"
    mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""

    @property
    def by_name(self) -> bool:
        """Whether brokers want a name and a password."""
        return self.protocol.startswith("sasl")

    @property
    def fault(self) -> str:
        """What does not fit together, as a sentence; "" when all does."""
        if self.by_name and not (self.user and self.password):
            return f"--kafka-security {self.protocol} needs --kafka-user and the variable HEADRACE_KAFKA_PASSWORD"
        if not self.by_name and (self.user or self.password):
            return f"--kafka-security {self.protocol} takes no user and no password: sasl_ssl does"
        if self.ca_file and not self.protocol.endswith("ssl"):
            return f"--kafka-security {self.protocol} has no certificates to check: ssl and sasl_ssl do"
        return ""

    def tls(self) -> ssl.SSLContext | None:
        """The context of TLS; None without.

        Raises:
            OSError: the file of certificates cannot be read, or holds none.
        """
        if not self.protocol.endswith("ssl"):
            return None
        return ssl.create_default_context(cafile=self.ca_file or None)


METADATA_MS: Final = 10_000
"""How old what a member knows of topics may be. A group that met while the broker had just come back may have been told
of no topic, and owns nothing until its members look again: in their own time after five minutes."""
JOIN_MS: Final = 1_000
"""A join takes two answers of the broker; a poll that ends between them loses it."""

_access = Access()


def use(access: Access) -> None:
    """From now on every client of this process enters Kafka so."""
    global _access
    _access = access
    if access.by_name:
        for name in _TELLTALES:
            logging.getLogger(name).setLevel(logging.INFO)


def access() -> Access:
    """How this process enters Kafka."""
    return _access


def clients(bootstrap: str) -> dict[str, Any]:
    """The arguments of every client of kafka-python: addresses, and how to enter.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
    """
    found: dict[str, Any] = {"bootstrap_servers": bootstrap.split(",")}
    if _access.protocol == "plaintext":
        return found
    found |= {"security_protocol": _access.protocol.upper(), "ssl_context": _access.tls()}
    if _access.by_name:
        found |= {
            "sasl_mechanism": _access.mechanism,
            "sasl_plain_username": _access.user,
            "sasl_plain_password": _access.password,
        }
    return found


def poll_ms(consumer: Any, wait_ms: int) -> int:
    """How long the next poll of a member of a group may take: as asked, longer where it has to join first.

    kafka-python 3.0.12 forgets a join when a poll ends between its two answers (to JoinGroup, to SyncGroup): the member
    owns nothing then, for ever, and says nothing. So it is asked for again here, and given time.
    """
    if not consumer._coordinator.rejoining:
        return wait_ms
    consumer._coordinator.request_rejoin()
    return max(wait_ms, JOIN_MS)
