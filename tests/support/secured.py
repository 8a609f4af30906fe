"""A Kafka and a Redis as production has them: TLS, names, passwords, and rights for what Headrace does and no more."""

import asyncio
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from headrace.local.child import free_port
from headrace.local.kafka import LocalKafka
from headrace.local.valkey import LocalValkey

CERTIFICATE = Path(__file__).with_name("localhost.pem")
USER, PASSWORD = "shop", "pa55-of-kafka"
REDIS_PASSWORD = "pa55/of@redis"
REDIS_RIGHTS = (
    *("resetkeys", "-@all", "+@read", "+@write", "+@scripting", "+@connection"),
    *("+info", "+config|get", "+waitaof", "+time"),
)
"""As docs/production.md has them."""
RIGHTS = (
    (ResourceType.TOPIC, "search.", (ACLOperation.READ, ACLOperation.WRITE, ACLOperation.DESCRIBE_CONFIGS)),
    (ResourceType.GROUP, "headrace.", (ACLOperation.READ,)),
)

_MORE = """
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_{user}="{password}";
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class SecuredKafka(LocalKafka):
    """A node with a second listener that wants TLS, a name and a password; whoever comes by the first may do anything.

    Attributes:
        secure: the address of the second listener.
    """

    def __init__(self, folder: Path, jars: Path) -> None:
        super().__init__(folder, jars)
        self.secure = f"127.0.0.1:{free_port()}"

    def _format(self) -> None:
        super()._format()
        text = self._settings.read_text()
        for name in ("listeners", "advertised.listeners"):
            text = re.sub(rf"^({re.escape(name)}=.*)$", rf"\1,SECURE://{self.secure}", text, flags=re.MULTILINE)
        text = re.sub(r"^(listener.security.protocol.map=.*)$", r"\1,SECURE:SASL_SSL", text, flags=re.MULTILINE)
        self._settings.write_text(text + _MORE.format(certificate=CERTIFICATE, user=USER, password=PASSWORD))

    def admit(self) -> None:
        """Makes the user, with the rights of `RIGHTS`."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        user = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, PASSWORD)
        admin.alter_user_scram_credentials([user])
        admin.create_acls(
            [
                ACL(
                    f"User:{USER}",
                    "*",
                    operation,
                    ACLPermissionType.ALLOW,
                    ResourcePattern(kind, name, ACLResourcePatternType.PREFIXED),
                )
                for kind, name, operations in RIGHTS
                for operation in operations
            ]
        )
        admin.close()


def admit_to_redis(valkey: LocalValkey, namespace: str) -> None:
    """Makes the user in Redis, with the rights of `REDIS_RIGHTS` on one namespace, and shuts everybody else out."""
    with redis.Redis.from_url(valkey.url) as client:
        rights = ("reset", "on", f">{REDIS_PASSWORD}", *REDIS_RIGHTS, f"~hr:{namespace}:*")
        client.execute_command("ACL", "SETUSER", USER, *rights)
        client.execute_command("ACL", "SETUSER", "default", "off")


@contextmanager
def behind_tls(address: str) -> Iterator[int]:
    """The port of a door with TLS in front of a server (HOST:PORT) that has none."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    loop = asyncio.new_event_loop()
    doors: list[asyncio.Server] = []

    async def pour(source: asyncio.StreamReader, into: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                into.write(data)
                await into.drain()
        except OSError:
            pass
        finally:
            into.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pour(reader, there[1]), pour(there[0], writer))

    async def open_door() -> int:
        door = await asyncio.start_server(enter, "127.0.0.1", 0, ssl=context)
        doors.append(door)
        found: int = door.sockets[0].getsockname()[1]
        return found

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(open_door(), loop).result(10)
    finally:

        async def end() -> None:
            doors[0].close()
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
