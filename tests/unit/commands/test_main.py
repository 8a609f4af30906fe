import importlib
import inspect
import subprocess
import sys
import types
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from headrace import StoreUnavailable
from headrace.commands import main as front
from headrace.commands.options import bootstrap_servers, namespace, redis_url, show_configuration


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that the front door takes for the file of the verb `count`."""
    module = types.ModuleType("headrace_count")
    monkeypatch.setitem(sys.modules, "headrace_count", module)
    monkeypatch.setattr(front, "verbs", lambda: {"count": ("headrace_count", "Count the records of a topic.")})
    return module


def run(*args: str, **env: str) -> Result:
    return CliRunner().invoke(front.main, args, env=env, catch_exceptions=False)


def test_a_verb_is_listed_without_being_loaded(verb: types.ModuleType) -> None:
    result = run("--help")  # the module is empty: loading it as a verb would fail
    assert result.exit_code == 0
    assert "count  Count the records of a topic." in result.output


def test_an_unknown_verb_names_the_nearest(verb: types.ModuleType) -> None:
    result = run("cuont")
    assert result.exit_code == 2
    assert "Did you mean count?" in result.stderr


def test_a_verb_runs_with_its_flag_from_the_environment(verb: types.ModuleType) -> None:
    @click.command
    @click.option("--topic", default="a")
    def command(topic: str) -> None:
        click.echo(topic)

    verb.__dict__["command"] = command
    assert run("count").output == "a\n"
    assert run("count", HEADRACE_COUNT_TOPIC="b").output == "b\n"
    assert run("count", "--topic", "c", HEADRACE_COUNT_TOPIC="b").output == "c\n"
    assert "HEADRACE_COUNT_TOPIC" in run("count", "--help").output


def test_a_known_fault_is_one_sentence(verb: types.ModuleType) -> None:
    @click.command
    def command() -> None:
        raise StoreUnavailable("127.0.0.1:6379 does not answer")

    verb.__dict__["command"] = command
    result = run("count")
    assert result.exit_code == 1
    assert result.stderr == "Error: StoreUnavailable: 127.0.0.1:6379 does not answer\n"


def test_a_bug_keeps_its_traceback(verb: types.ModuleType) -> None:
    @click.command
    def command() -> None:
        raise KeyError("x")

    verb.__dict__["command"] = command
    with pytest.raises(KeyError):
        run("count")


def test_a_missing_package_names_the_extra_at_the_call(verb: types.ModuleType) -> None:
    @click.command
    def command() -> None:
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime.capi")

    verb.__dict__["command"] = command
    result = run("count")
    assert result.exit_code == 1
    assert "pip install 'headrace[serve]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_package_names_the_extra_at_the_import(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(front, "verbs", lambda: {"count": ("headrace_needs_faust", "")})
    monkeypatch.setitem(sys.modules, "faust", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    with open(f"{tmp_path}/headrace_needs_faust.py", "w") as file:
        file.write("import faust\n")
    result = run("count")
    assert result.exit_code == 1
    assert "needs the package faust" in result.stderr
    assert "pip install 'headrace[streams]'" in result.stderr


def test_a_module_that_no_extra_brings_is_a_bug(verb: types.ModuleType) -> None:
    @click.command
    def command() -> None:
        raise ModuleNotFoundError("No module named 'headrace.nothing'", name="headrace.nothing")

    verb.__dict__["command"] = command
    with pytest.raises(ModuleNotFoundError):
        run("count")


def test_the_extra_is_the_verb_s_own_where_it_has_the_package() -> None:
    assert front.extra_for("kafka", "serve") == "serve"
    assert front.extra_for("kafka", "consume") == "streams"
    assert front.extra_for("numpy", "serve") is None


def test_every_verb_has_a_line_in_the_help() -> None:
    front.verbs.cache_clear()
    for name, (module, summary) in front.verbs().items():
        assert summary, f"{module} has no docstring: its first line is what `headrace --help` says of {name}"


def test_every_verb_loads() -> None:
    for name in front.verbs():
        result = run(name, "--help")
        assert result.exit_code == 0, result.output


def test_the_front_door_loads_nothing_heavy() -> None:
    program = (
        "import sys, headrace.commands.main\n"
        "heavy = {'numpy', 'kafka', 'faust', 'redis', 'onnxruntime', 'torch', 'starlette'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_configuration_is_printed_with_its_origins_and_without_secrets(verb: types.ModuleType) -> None:
    @click.command
    @bootstrap_servers
    @redis_url
    @namespace
    @click.option("--token", default="")
    def command(**settings: str) -> None:
        show_configuration()

    verb.__dict__["command"] = command
    result = run(
        "count", "--namespace", "shop", "--token", "t0ps3cret", HEADRACE_REDIS_URL="redis://me:t0ps3cret@cache:6379/1"
    )
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "t0ps3cret" not in result.stderr
    lines = [line.split() for line in result.stderr.splitlines()]
    assert ["namespace", "shop", "(flag)"] in lines
    assert ["redis_url", "redis://me:***@cache:6379/1", "(environment)"] in lines
    assert ["bootstrap_servers", "127.0.0.1:9092", "(default)"] in lines
    assert ["token", "***", "(flag)"] in lines


def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from leaves(below, (*path, name))
    else:
        yield path, command


def test_every_flag_of_every_verb_is_an_environment_variable() -> None:
    flags = 0
    for path, command in leaves(front.main, ()):
        said = "".join(run(*path, "--help").output.split())
        for option in command.params:
            if isinstance(option, click.Option) and option.name != "help":
                flags += 1
                own = "_".join(("HEADRACE", *path, option.name or "")).replace("-", "_").upper()
                shared = option.envvar if isinstance(option.envvar, str) else own
                assert own in said or shared in said, (path, option.name)
    assert flags > 100
    assert "HEADRACE_LOG_LEVEL" in run("--help").output


def test_a_verb_that_runs_for_long_prints_its_configuration_first() -> None:
    for verb in ("consume", "rebuild", "serve", "refresh", "local"):
        source = inspect.getsource(importlib.import_module(front.verbs()[verb][0]))
        assert "    show_configuration()\n" in source, verb
