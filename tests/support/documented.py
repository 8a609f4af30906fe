"""The commands that the documents show: found in Markdown, taken apart as a shell would, held against the program.

How a page marks them, so that it stays plain Markdown:

- A block fenced as ``sh`` is to be pasted. On the pages of `tests/servers/test_docs.py` it is run.
- A block fenced as ``text`` right behind it is what comes out; ``...`` stands for anything.
- ``# ends with 1`` behind a command is the code it ends with; without it that is 0.
- A block fenced as ``sh elsewhere`` belongs to another machine: its words are checked, nothing is run.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from headrace.commands.main import main

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( {0,3})(```+)\s*(.*)$")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_INLINE = re.compile(r"`(headrace [^`]+)`")
_SEPARATORS = {"&", "&&", "|", "||", ";", "(", ")", "{", "}", "do", "then", "else", "!"}


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        page: the file, as seen from the repository.
        line: where it begins, from 1.
        language: the word behind the fence; ``indented`` for a block of lines with four spaces.
        note: the words behind that.
        text: its lines.
        follows: it stands right behind another block, with nothing but empty lines between.
    """

    page: str
    line: int
    language: str
    note: str
    text: str
    follows: bool = False

    @property
    def where(self) -> str:
        """For messages: page and line."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every document of the repository."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(path: Path) -> list[Block]:
    """The blocks of a page, in order."""
    page = str(path.relative_to(ROOT))
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    at, near = 0, False
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence:
            end = next((i for i in range(at + 1, len(lines)) if lines[i].strip() == fence[2]), len(lines))
            language, _, note = fence[3].partition(" ")
            text = "\n".join(line.removeprefix(fence[1]) for line in lines[at + 1 : end])
            found.append(Block(page, at + 1, language, note.strip(), text + "\n", near))
            at, near = end + 1, True
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = next((i for i in range(at, len(lines)) if not lines[i].startswith("    ")), len(lines))
            text = "\n".join(line[4:] for line in lines[at:end])
            found.append(Block(page, at + 1, "indented", "", text + "\n", near))
            at, near = end, False
        else:
            near = near and not lines[at].strip()
            at += 1
    return found


def inline(path: Path) -> list[tuple[str, str]]:
    """(where, command) of every `headrace ...` between two backticks in a page's prose."""
    page = str(path.relative_to(ROOT))
    fenced = False
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            found += [(f"{page}:{number}", text) for text in _INLINE.findall(line)]
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a piece of shell, without redirections, assignments and bodies of here-documents."""
    lines = iter(text.splitlines())
    for line in lines:
        whole = line
        while whole.endswith("\\") or (words := _words(whole)) is None:
            more = next(lines, None)
            if more is None:
                raise ValueError(f"this command has no end: {whole!r}")
            whole = whole[:-1] + " " + more.strip() if whole.endswith("\\") else f"{whole}\n{more}"
        for ending in _HEREDOC.findall(whole):
            while next(lines, ending).strip() != ending:
                pass
        yield from _split(words)


def _words(line: str) -> list[str] | None:
    """The words of a line; None when a quotation is open at its end."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
    reader.whitespace_split = True
    reader.commenters = "#"
    try:
        return list(reader)
    except ValueError:
        return None


def _split(words: Sequence[str]) -> Iterator[list[str]]:
    command: list[str] = []
    leave_out = False
    for word in [*words, ";"]:
        if word in _SEPARATORS or set(word) <= set(";&|()"):
            if command:
                yield command
            command = []
        elif leave_out:
            leave_out = False
        elif re.fullmatch(r"\d?[<>]{1,2}", word):
            leave_out = True
        elif re.match(r"\d?[<>]", word) or (not command and re.match(r"[A-Za-z_]\w*=", word)):
            continue
        else:
            command.append(word)


def checked(words: Sequence[str], complete: bool = True) -> str:
    """What is wrong with a `headrace` command, as a clause; "" when the program knows the verb and every flag.

    Args:
        words: the command, ``headrace`` first.
        complete: also ask for what the verb requires.
    """
    context = click.Context(main, info_name="headrace")
    command: click.Command = main
    rest = list(words[1:])
    try:
        while True:
            given, rest, _ = command.make_parser(context).parse_args(list(rest))
            if not isinstance(command, click.Group) or given.get("help"):
                break
            if not rest:
                return "" if command.invoke_without_command or not complete else "a verb is missing"
            if not complete and rest[0].isupper():
                return ""  # `headrace VERB --help`
            name, below, rest = command.resolve_command(context, rest)
            assert below is not None
            context = click.Context(below, info_name=name, parent=context)
            command = below
        if not given.get("help"):
            _check_values(command, context, given, complete)
    except click.BadOptionUsage as error:
        return error.format_message() if complete else ""
    except click.UsageError as error:
        return error.format_message()
    return f"{rest[0]!r} is too much" if rest and complete else ""


def _check_values(command: click.Command, context: click.Context, given: dict[str, object], complete: bool) -> None:
    """Raises click.UsageError for a value that the flag does not take and, if complete, for one that is missing."""
    for parameter in command.get_params(context):
        assert parameter.name is not None
        value = given.get(parameter.name)
        if value is None or isinstance(value, bool) or not isinstance(value, str | list | tuple):
            if complete and parameter.required and not isinstance(value, bool):
                raise click.MissingParameter(ctx=context, param=parameter)
            continue
        if not isinstance(parameter.type, click.Path):
            for one in [value] if isinstance(value, str) else value:
                if "$" not in str(one) and str(one) != "..." and not str(one).isupper():  # NAME stands for a name
                    parameter.type.convert(one, parameter, context)


def verbs() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb and every verb of a verb: ("dlq", "list") and its command."""

    def below(
        path: tuple[str, ...], group: click.Group, context: click.Context
    ) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield (*path, name), command
            if isinstance(command, click.Group):
                yield from below((*path, name), command, click.Context(command, info_name=name, parent=context))

    yield from below((), main, click.Context(main, info_name="headrace"))
