"""What `--help` teaches: every verb has an example, and the program knows what stands in it."""

import click
import pytest
from click.testing import CliRunner

from documented import checked, commands, verbs
from headrace.commands.main import main

VERBS = dict(verbs())


def said(*path: str) -> str:
    result = CliRunner().invoke(main, [*path, "--help"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_shows_an_example_that_the_program_knows(path: tuple[str, ...]) -> None:
    help_text = said(*path)
    assert "\b" not in help_text and "\\b" not in help_text
    _, there, example = help_text.partition("\n  Example:")
    assert there, f"`headrace {' '.join(path)} --help` shows no example: end its docstring with one"
    shown = [words for words in commands(example.partition("\n\n")[0]) if words[0] == "headrace"]
    assert any(tuple(words[1 : 1 + len(path)]) == path for words in shown)
    assert [(words, wrong) for words in shown if (wrong := checked(words))] == []


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_flag_says_what_it_does_and_names_its_variable(path: tuple[str, ...]) -> None:
    for parameter in VERBS[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path}: {parameter.name}"
            assert parameter.show_envvar


def test_the_variable_is_named_after_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HEADRACE_IMPORT_MAP;" in " ".join(said("import").split()).replace("]", ";")
    monkeypatch.setenv("HEADRACE_IMPORT_MAP", "nothing=at-all")
    refused = CliRunner().invoke(main, ["import", __file__, "--dry-run"])
    assert refused.exit_code == 2
    assert "nothing" in refused.stderr


def test_the_lines_of_an_example_stay_as_they_are_written() -> None:
    assert "\n  Example:\n    headrace import --items items.jsonl\n    headrace import clicks.parquet --map" in said(
        "import"
    )


def test_a_table_of_verbs_shows_whole_sentences() -> None:
    assert "..." not in said("dlq").partition("Commands:")[2]
