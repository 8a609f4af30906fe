import click
import pytest
from click.testing import CliRunner, Result

from headrace.commands.options import bootstrap_servers, masked, namespace, redis_url


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
        ("batch_tokens", 128, "128"),
    ],
)
def test_secrets_are_masked(name: str, value: object, shown: str) -> None:
    assert masked(name, value) == shown
