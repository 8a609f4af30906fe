"""Flags that several verbs share, and the effective configuration, printed when a long-running verb starts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import click
from click.core import ParameterSource

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

MASK = "***"
NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SECRET = re.compile(r"(^|_)(token|password|secret|credentials)$")


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
    """Adds ``--bootstrap-servers``, passed as ``bootstrap_servers: str``."""
    return click.option(
        "--bootstrap-servers",
        cls=SharedOption,
        envvar="HEADRACE_BOOTSTRAP_SERVERS",
        default="127.0.0.1:9092",
        callback=servers_of,
        metavar="HOST:PORT,...",
        help="Kafka brokers to begin with; a wrong one ends in a timeout that names it.",
    )(function)


def redis_url(function: Decorated) -> Decorated:
    """Adds ``--redis-url``, passed as ``redis_url: str``."""
    return click.option(
        "--redis-url",
        cls=SharedOption,
        envvar="HEADRACE_REDIS_URL",
        default="redis://127.0.0.1:6379/0",
        callback=url_of,
        metavar="URL",
        help="Where the state lives: redis://[USER:PASSWORD@]HOST:PORT/DB, rediss:// for TLS, or unix:///PATH.",
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
    text = str(value)
    parts = urlsplit(text)
    if parts.password is None:
        return text
    user = parts.username or ""
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{MASK}@{address}"))


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
