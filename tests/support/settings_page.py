"""docs/reference/settings.md, made from the program: `python tests/support/settings_page.py` writes it."""

from collections.abc import Iterator, Sequence

import click

from documented import ROOT, verbs
from headrace.commands.main import main
from headrace.commands.options import SharedOption

PAGE = ROOT / "docs" / "reference" / "settings.md"
_HEAD = """# Settings

Every flag of every verb, made from the program by `python tests/support/settings_page.py`; a test holds this page to
it. A flag wins over its environment variable, a variable over the default. Verbs that run for long print at their start
where each value came from, secrets masked. `headrace VERB --help` says the same for one verb, with an example.

## Before the verb

`headrace --log-level warning consume`
"""
_SHARED = """
## Flags of several verbs

The variable named here holds for every verb that has the flag; `HEADRACE_<VERB>_<FLAG>`, where it is set, comes before
it for that verb alone.
"""


def settings_page() -> str:
    """The whole page."""
    every = [(path, command) for path, command in verbs() if not isinstance(command, click.Group)]
    shared: dict[str, click.Option] = {}
    for _, command in every:
        for option in _options(command):
            if isinstance(option, SharedOption):
                shared.setdefault(_flag(option), option)
    lines = [_HEAD, *_table(main, [option for option in _options(main) if option.name == "log_level"])]
    lines += [_SHARED, *_table(main, [shared[flag] for flag in sorted(shared)])]
    for path, command in every:
        lines += ["", f"## headrace {' '.join([*path, *_arguments(command)])}", "", _sentence(command)]
        own = [option for option in _options(command) if not isinstance(option, SharedOption)]
        lines += _table(command, own) if own else []
        if also := sorted(_flag(option) for option in _options(command) if isinstance(option, SharedOption)):
            lines += ["", f"Also: {', '.join(f'`{flag}`' for flag in also)}."]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _options(command: click.Command) -> list[click.Option]:
    return [option for option in command.params if isinstance(option, click.Option)]


def _arguments(command: click.Command) -> Iterator[str]:
    context = click.Context(command)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            yield parameter.make_metavar(context)


def _sentence(command: click.Command) -> str:
    return (command.help or "").partition("\n\n")[0].replace("\n", " ")


def _flag(option: click.Option) -> str:
    return next(name for name in option.opts if name.startswith("--"))


def _table(command: click.Command, options: Sequence[click.Option]) -> list[str]:
    rows = ["", "| flag | variable | default | |", "|---|---|---|---|"]
    return rows + [_row(click.Context(command), option) for option in options]


def _row(context: click.Context, option: click.Option) -> str:
    flag = "`" + " / ".join([_flag(option), *option.secondary_opts])
    if not option.is_flag:
        flag += " " + _takes(context, option)
    variable = option.envvar or f"HEADRACE_{(option.name or '').upper()}"
    default = option.get_default(context)
    if option.is_flag:
        told = ("on" if default else "off") if option.secondary_opts else ""
    else:
        told = "" if option.multiple or default is None or default == "" else f"`{default}`"
    meaning = " ".join((option.help or "").split()).replace("|", "\\|").replace("<", "&lt;")
    return f"| {flag}` | `{variable}` | {'required' if option.required else told} | {meaning} |"


def _takes(context: click.Context, option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return " \\| ".join(str(choice) for choice in option.type.choices)
    if isinstance(option.type, click.IntRange | click.FloatRange) and option.metavar is None:
        bounds = [str(bound) if bound is not None else "" for bound in (option.type.min, option.type.max)]
        return "..".join(bounds) if any(bounds) else "N"
    return option.make_metavar(context).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} is written")
