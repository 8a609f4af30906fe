"""Flags that several verbs share, and the effective configuration, printed when a long-running verb starts."""

import logging
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from headrace.streams.kafka_access import MECHANISMS, PROTOCOLS, Access, use

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Found = TypeVar("Found")

MASK = "***"
NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SECRET = re.compile(r"(^|_)(token|password|secret|credentials)$")
_IN_URL = re.compile(r"(?<=://)([^/@:]*):.*@")
_IN_QUERY = re.compile(r"([?&]password=)[^&]*")


class Masking(logging.Filter):
    """Hides a secret in whatever is logged: clients of Kafka write their settings out when they debug."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record through, without the secret."""
        said = record.getMessage()
        if self._secret in said:
            record.msg, record.args = said.replace(self._secret, MASK), ()
        return True


class SharedOption(click.Option):
    """A flag with two environment variables: the verb's own, and after it a shorter one that holds for every verb."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value of `HEADRACE_<VERB>_<FLAG>`, else of the shared variable, else None."""
        shared, self.envvar = self.envvar, None
        try:
            own = super().resolve_envvar_value(ctx)
        finally:
            self.envvar = shared
        return own if own is not None else super().resolve_envvar_value(ctx)


def namespace_of(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """The namespace, checked: it becomes a part of every key."""
    if not NAMESPACE.fullmatch(value):
        raise click.BadParameter("1 to 32 of a-z, 0-9 and -, and not a - at the beginning", ctx, parameter)
    return value


def servers_of(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """The list of Kafka addresses, checked: HOST:PORT, separated by commas."""
    for address in value.split(","):
        host, colon, port = address.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise click.BadParameter(f"{address.strip()!r} is not HOST:PORT", ctx, parameter)
    return ",".join(address.strip() for address in value.split(","))


def url_of(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """The URL of Redis, checked for a scheme that the client knows."""
    if urlsplit(value).scheme not in {"redis", "rediss", "unix"}:
        raise click.BadParameter("begins with redis://, rediss:// (TLS) or unix://", ctx, parameter)
    return value


def bootstrap_servers(function: Decorated) -> Decorated:
    """Adds ``--bootstrap-servers``, passed as ``bootstrap_servers: str``, and the flags that say how to enter Kafka.

    Those are not passed on: they hold for every client that the process opens (``streams.kafka_access``).
    """

    @wraps(function)
    def entering(*args: Any, **values: Any) -> Any:
        entry = Access(
            values.pop("kafka_security"),
            values.pop("kafka_mechanism"),
            values.pop("kafka_user"),
            values.pop("kafka_password"),
            str(values.pop("kafka_ca") or ""),
        )
        if entry.fault:
            raise click.UsageError(entry.fault)
        try:
            entry.tls()
        except OSError as error:
            raise click.UsageError(f"--kafka-ca {entry.ca_file}: {error}") from error
        use(entry)
        if entry.password:
            for handler in logging.getLogger().handlers:
                handler.addFilter(Masking(entry.password))
        return function(*args, **values)

    decorated: Any = entering
    for name, settings in reversed(_KAFKA.items()):
        envvar = f"HEADRACE_{name.strip('-').replace('-', '_').upper()}"
        decorated = click.option(name, cls=SharedOption, envvar=envvar, **settings)(decorated)
    return cast("Decorated", decorated)


_KAFKA: Final[dict[str, dict[str, Any]]] = {
    "--bootstrap-servers": {
        "default": "127.0.0.1:9092",
        "callback": servers_of,
        "metavar": "HOST:PORT,...",
        "help": "Kafka brokers to begin with; a wrong one ends in a timeout that names it.",
    },
    "--kafka-security": {
        "type": click.Choice(PROTOCOLS),
        "default": "plaintext",
        "help": "How brokers are entered: ssl checks who they are, sasl asks for a name and a password.",
    },
    "--kafka-mechanism": {"type": click.Choice(MECHANISMS), "default": "SCRAM-SHA-512", "help": "Of sasl."},
    "--kafka-user": {"default": "", "metavar": "NAME", "help": "For sasl."},
    "--kafka-password": {
        "default": "",
        "metavar": "PASSWORD",
        "help": "For sasl. As the variable only: flags can be read by other users of the machine.",
    },
    "--kafka-ca": {
        "type": click.Path(exists=True, dir_okay=False, path_type=Path),
        "default": None,
        "metavar": "FILE",
        "help": "Certificates (PEM) that ssl checks brokers against; those of the system if not given.",
    },
}


def redis_url(function: Decorated) -> Decorated:
    """Adds ``--redis-url``, passed as ``redis_url: str``."""
    return click.option(
        "--redis-url",
        cls=SharedOption,
        envvar="HEADRACE_REDIS_URL",
        default="redis://127.0.0.1:6379/0",
        callback=url_of,
        metavar="URL",
        help="Where the state lives: redis://[USER:PASSWORD@]HOST:PORT/DB, rediss:// for TLS"
        " (?ssl_ca_certs=FILE for certificates of your own), or unix:///PATH.",
    )(function)


def namespace(function: Decorated) -> Decorated:
    """Adds ``--namespace``, passed as ``namespace: str``."""
    return click.option(
        "--namespace",
        cls=SharedOption,
        envvar="HEADRACE_NAMESPACE",
        default="default",
        callback=namespace_of,
        metavar="NAME",
        help="The namespace of the keys, hr:<NAME>:...; with another one than the writer's everything looks empty.",
    )(function)


def repository(function: Decorated) -> Decorated:
    """Adds ``--repository``, the folder of parts, bundles and the champion, passed as ``repository: Path``."""
    return click.option(
        "--repository",
        cls=SharedOption,
        envvar="HEADRACE_REPOSITORY",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".headrace/models"),
        metavar="FOLDER",
        help="The folder of model parts, bundles and the pointer to the one that serves.",
    )(function)


def data_folder(function: Decorated) -> Decorated:
    """Adds ``--data``, the folder of public data sets, passed as ``data: Path``."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="HEADRACE_DATA",
        default=Path("../shared/data"),
        metavar="FOLDER",
        help="The folder of public data sets; docs/data.md says what lies in it.",
    )(function)


def loaded(load: Callable[[Path], Found], folder: Path) -> Found:
    """What is loaded of a public set in the folder of ``--data``.

    Raises:
        click.ClickException: the set is not there, or not what it should be; the text says how to name the folder.
    """
    try:
        return load(folder)
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(f"{error}; name the folder with --data") from error


def json_file(function: Decorated) -> Decorated:
    """Adds ``--json``, passed as ``json_file: Path | None``: what was printed, as numbers."""
    return click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        metavar="FILE",
        help="Write what is printed there too, as numbers.",
    )(function)


def masked(name: str, value: object) -> str:
    """A setting as it may be printed: secrets, and passwords inside URLs, are hidden."""
    if _SECRET.search(name):
        return MASK if value else ""
    # up to the last @: a password in which somebody left a / or an @ must not show its rest
    hidden = _IN_URL.sub(rf"\1:{MASK}@", str(value))
    return _IN_QUERY.sub(rf"\1{MASK}", hidden)


def show_configuration() -> None:
    """Prints, on standard error, every setting of the running verb and where it comes from; secrets masked."""
    ctx = click.get_current_context()
    click.echo(f"{ctx.command_path}:", err=True)
    for name, value in sorted(ctx.params.items()):
        source = ctx.get_parameter_source(name)
        origin = (
            {
                ParameterSource.COMMANDLINE: "flag",
                ParameterSource.ENVIRONMENT: "environment",
            }.get(source, "default")
            if source is not None
            else "default"
        )
        click.echo(f"  {name:<24} {masked(name, value)}  ({origin})", err=True)
