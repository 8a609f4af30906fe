"""docker-compose.yml and the Dockerfile as values: there need be no Docker to hold them against the program."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml

from headrace.commands import main as front

ROOT = Path(__file__).parents[2]
GIVEN = {"VALKEY_PASSWORD": "feedc0de", "HEADRACE_SERVE_TOKEN": "c0ffee"}
"""What a .env would hold."""
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(:\?|:-)([^}]*)\}")


def composed() -> dict[str, Any]:
    """The file as Docker Compose would see it with a .env of `GIVEN`."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    def given(found: re.Match[str]) -> str:
        name, kind, word = found.groups()
        return GIVEN[name] if kind == ":?" else word

    found: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(given, text))
    return found


@dataclass
class Stage:
    """A stage of a Dockerfile: where it begins, its instructions in order, what ENV, USER and the like leave."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """The argument of the last instruction of a kind."""
        return [argument for name, argument in self.steps if name == instruction][-1]

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        words = [word for name, argument in self.steps if name == "ENV" for word in shlex.split(argument)]
        return dict(word.split("=", 1) for word in words)


def stages() -> list[Stage]:
    """The stages of the Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in text.replace("\\\n", " ").splitlines():
        instruction, _, argument = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = argument.partition(" AS ")
            found.append(Stage(base, name))
        elif instruction:
            found[-1].steps.append((instruction, argument.strip()))
    return found


def health_command() -> list[str]:
    """What the image's HEALTHCHECK runs."""
    command: list[str] = json.loads(stages()[-1].last("HEALTHCHECK").partition(" CMD ")[2])
    return command


def ours() -> dict[str, dict[str, Any]]:
    """The services that run Headrace."""
    return {
        name: service for name, service in composed()["services"].items() if service["image"].startswith("headrace")
    }


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What a service of ours finds in its environment."""
    own: dict[str, str] = service.get("environment", {})
    return stages()[-1].environment() | own


def verb_of(words: Sequence[str]) -> tuple[tuple[str, ...], click.Command, list[str]]:
    """The path of a verb, the verb, and its arguments, from a command line without `headrace`."""
    command: click.Command = front.main
    path: list[str] = []
    rest = list(words)
    while isinstance(command, click.Group) and rest:
        below = command.get_command(click.Context(command), rest[0])
        assert below is not None, f"there is no verb {rest[0]}"
        command, path, rest = below, [*path, rest[0]], rest[1:]
    return tuple(path), command, rest


def settings_of(service: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the program takes from a service's command line and environment; refuses what it would.

    The environment must be set already: click reads it itself.
    """
    path, command, rest = verb_of(service["command"])
    with command.make_context(path[-1], rest, auto_envvar_prefix="_".join(("HEADRACE", *path)).upper()) as context:
        return context.params


def variables_of(path: Sequence[str], command: click.Command) -> Iterator[str]:
    """The environment variables that a verb takes."""
    for option in command.params:
        if isinstance(option, click.Option) and option.name:
            yield "_".join(("HEADRACE", *path, option.name)).replace("-", "_").upper()
            if isinstance(option.envvar, str):
                yield option.envvar
