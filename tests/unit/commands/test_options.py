import logging
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from headrace.commands.options import Masking, bootstrap_servers, masked, namespace, redis_url, show_configuration
from headrace.streams import kafka_access


@click.command
@bootstrap_servers
@redis_url
@namespace
def command(bootstrap_servers: str, redis_url: str, namespace: str) -> None:
    click.echo(f"{bootstrap_servers} {redis_url} {namespace}")


def run(*args: str, **env: str) -> Result:
    return CliRunner().invoke(command, args, env=env, auto_envvar_prefix="HEADRACE_COUNT")


def test_the_verb_s_own_variable_goes_before_the_shared_one() -> None:
    assert run(HEADRACE_NAMESPACE="all").output.split()[2] == "all"
    assert run(HEADRACE_NAMESPACE="all", HEADRACE_COUNT_NAMESPACE="mine").output.split()[2] == "mine"
    assert run("--namespace", "flag", HEADRACE_COUNT_NAMESPACE="mine").output.split()[2] == "flag"


@pytest.mark.parametrize("name", ["", "-a", "A", "a:b", "a{b}", "x" * 33])
def test_a_namespace_that_would_break_keys_is_refused(name: str) -> None:
    result = run("--namespace", name)
    assert result.exit_code == 2
    assert "--namespace" in result.stderr


@pytest.mark.parametrize("servers", ["", "kafka", "kafka:", ":9092", "kafka:x", "kafka:70000", "a:1,,b:2"])
def test_an_address_without_host_or_port_is_refused(servers: str) -> None:
    result = run("--bootstrap-servers", servers)
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr


def test_addresses_come_without_spaces() -> None:
    assert run("--bootstrap-servers", "a:1, b:2").output.split()[0] == "a:1,b:2"


def test_a_url_of_something_else_is_refused() -> None:
    assert run("--redis-url", "http://cache:6379").exit_code == 2
    assert run("--redis-url", "unix:///run/valkey.sock").exit_code == 0


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("token", "abc", "***"),
        ("token", None, ""),
        ("sasl_password", "abc", "***"),
        ("redis_url", "redis://:abc@h:1/0", "redis://:***@h:1/0"),
        ("redis_url", "redis://u:abc@h:1/0", "redis://u:***@h:1/0"),
        ("redis_url", "redis://h:1/0", "redis://h:1/0"),
        ("redis_url", "redis://u:a/b@c:d@h:1/0", "redis://u:***@h:1/0"),
        ("redis_url", "rediss://h:1/0?password=abc&db=1", "rediss://h:1/0?password=***&db=1"),
        ("batch_tokens", 128, "128"),
    ],
)
def test_secrets_are_masked(name: str, value: object, shown: str) -> None:
    assert masked(name, value) == shown


@pytest.fixture
def entry() -> Iterator[None]:
    """Leaves Kafka entered, and what is logged, as it was."""
    before = kafka_access.access()
    levels = {name: logging.getLogger(name).level for name in kafka_access._TELLTALES}
    filters = {handler: list(handler.filters) for handler in logging.getLogger().handlers}
    yield
    kafka_access.use(before)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for handler, had in filters.items():
        handler.filters = had


@pytest.mark.usefixtures("entry")
def test_kafka_is_entered_as_the_environment_says() -> None:
    result = run(
        HEADRACE_KAFKA_SECURITY="sasl_ssl",
        HEADRACE_KAFKA_USER="shop",
        HEADRACE_KAFKA_PASSWORD="pa55",
        HEADRACE_COUNT_KAFKA_MECHANISM="PLAIN",
    )
    assert result.exit_code == 0, result.output
    entered = kafka_access.access()
    assert (entered.protocol, entered.mechanism, entered.user, entered.password) == (
        "sasl_ssl",
        "PLAIN",
        "shop",
        "pa55",
    )
    assert "pa55" not in repr(entered)
    arguments = kafka_access.clients("a:1,b:2")
    assert arguments.pop("ssl_context").check_hostname
    assert arguments == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "shop",
        "sasl_plain_password": "pa55",
    }


@pytest.mark.usefixtures("entry")
def test_where_brokers_ask_for_nothing_clients_say_nothing() -> None:
    assert run().exit_code == 0
    assert kafka_access.clients("a:1") == {"bootstrap_servers": ["a:1"]}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--kafka-security", "sasl_ssl"], "HEADRACE_KAFKA_PASSWORD"),
        (["--kafka-security", "sasl_ssl", "--kafka-user", "a"], "HEADRACE_KAFKA_PASSWORD"),
        (["--kafka-user", "a", "--kafka-password", "pa55"], "sasl_ssl does"),
        (["--kafka-security", "ssl", "--kafka-password", "pa55"], "sasl_ssl does"),
        (["--kafka-ca", __file__], "ssl and sasl_ssl do"),
        (["--kafka-security", "ssl", "--kafka-ca", __file__], __file__),
    ],
)
@pytest.mark.usefixtures("entry")
def test_what_does_not_fit_together_is_said_in_a_sentence(flags: list[str], said: str) -> None:
    result = run(*flags)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "pa55" not in result.stderr


@click.command
@bootstrap_servers
@redis_url
@click.option("--token", default="")
def long_running(**values: str) -> None:
    show_configuration()


@pytest.mark.usefixtures("entry")
def test_no_secret_is_printed_at_the_start() -> None:
    secrets = {
        "HEADRACE_KAFKA_SECURITY": "sasl_plaintext",
        "HEADRACE_KAFKA_USER": "shop",
        "HEADRACE_KAFKA_PASSWORD": "pa55",
        "HEADRACE_REDIS_URL": "redis://:pa55@h:1/0",
        "HEADRACE_COUNT_TOKEN": "pa55",
    }
    result = CliRunner().invoke(long_running, env=secrets, auto_envvar_prefix="HEADRACE_COUNT")
    assert result.exit_code == 0, result.output
    assert "pa55" not in result.stderr
    for line in ("kafka_user               shop  (environment)", "kafka_password           ***  (environment)"):
        assert line in result.stderr
    assert "redis://:***@h:1/0  (environment)" in result.stderr


def test_a_secret_is_masked_in_what_is_logged() -> None:
    record = logging.LogRecord("kafka", logging.DEBUG, "", 0, "settings: %s", ({"sasl_plain_password": "pa55"},), None)
    other = logging.LogRecord("kafka", logging.DEBUG, "", 0, "settings: %s", (["a"],), None)
    assert Masking("pa55").filter(record) and Masking("pa55").filter(other)
    assert record.getMessage() == "settings: {'sasl_plain_password': '***'}"
    assert other.getMessage() == "settings: ['a']"


@pytest.mark.usefixtures("entry")
def test_clients_that_write_requests_out_are_quiet_where_one_holds_a_password() -> None:
    teller = logging.getLogger("kafka.net.connection")
    before = teller.level
    teller.setLevel(logging.DEBUG)
    try:
        assert run("--kafka-security", "sasl_ssl", "--kafka-user", "a", "--kafka-password", "b").exit_code == 0
        assert not teller.isEnabledFor(logging.DEBUG)
    finally:
        teller.setLevel(before)
