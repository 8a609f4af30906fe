"""What the documents name is there: verbs, flags, variables, scripts, targets of make, pages. And pages that are made
from the program are as it would make them."""

import re
from pathlib import Path

import click
import pytest

from documented import ROOT, blocks, checked, commands, inline, pages, verbs
from headrace.streams.events import REASONS
from headrace.streams.topics import all_topics
from settings_page import PAGE, settings_page

PAGES = pages()
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
OTHER_PROGRAMS = {
    *(".", "awk", "cat", "cd", "chmod", "cp", "curl", "cut", "date", "docker", "done", "echo", "export", "for", "git"),
    *("grep", "head", "jobs", "kill", "ls", "mkdir", "mv", "mvn", "openssl", "pip", "printf", "rm", "sed", "set"),
    *("sleep", "tail", "tar", "test", "touch", "until", "wait", "while"),
}
VARIABLES_OF_TESTS = {
    "HEADRACE_REQUIRE_KAFKA",
    "HEADRACE_SCHEDULES",
    "HEADRACE_KAFKA_JARS",
    "HEADRACE_DATA",
}
SHELL = {"sh", "bash", "shell", "console", "indented"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def wrong_with(words: list[str]) -> str:
    """What is wrong with a command of a page; "" when it could be run."""
    program = words[0].rpartition("/")[2]
    if program == "headrace":
        return checked(words, complete=False)
    if program == "make":
        targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        return ", ".join(f"there is no target {target}" for target in targets if target not in TARGETS)
    if program == "docker" and "headrace" in words:
        return checked(words[words.index("headrace") :], complete=False)
    if re.fullmatch(r"python[\d.]*", program):
        return _wrong_script(words[1:])
    return "" if program in OTHER_PROGRAMS else f"no program that the pages use: {program}"


def _wrong_script(words: list[str]) -> str:
    if not words or not words[0].startswith(("tests/", "./tests/")):
        return ""
    script = ROOT / words[0]
    if not script.is_file():
        return f"there is no {words[0]}"
    flags = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    source = script.read_text()
    return ", ".join(f"{words[0]} has no {flag}" for flag in sorted(flags) if f'"{flag}' not in source)


def is_shown(words: list[str]) -> bool:
    """A usage such as `headrace dlq list [--late]` is no command."""
    return words[0].startswith("[") or words == ["..."]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    wrong = []
    for block in blocks(page):
        if block.language not in SHELL or (block.language == "indented" and not _is_shell(block.text)):
            continue
        for words in commands(re.sub(r"[\[\]]", "", block.text) if block.language == "indented" else block.text):
            if not is_shown(words) and (fault := wrong_with(words)):
                wrong.append((block.where, words, fault))
    for where, text in inline(page):
        for words in commands(re.sub(r"[\[\]]", "", text)):
            if fault := checked(words, complete=False):
                wrong.append((where, words, fault))
    assert wrong == []


def _is_shell(text: str) -> bool:
    first = text.split(maxsplit=1)[0].rpartition("/")[2]
    return first in OTHER_PROGRAMS | {"headrace", "make", "python"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_page_that_is_linked_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = page if not file else (page.parent / file).resolve()
        if not found.exists() or (anchor and anchor not in _anchors(found)):
            wrong.append(target)
    assert wrong == []


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def variables() -> set[str]:
    found = {"HEADRACE_LOG_LEVEL"}
    for path, command in verbs():
        for option in command.params:
            if isinstance(option, click.Option):
                found.add(str(option.envvar))
                found.update(
                    f"HEADRACE_{'_'.join(path)}_{flag.strip('-')}".replace("-", "_").upper() for flag in option.opts
                )
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_variable_of_a_page_is_one_of_the_program(page: Path) -> None:
    named = set(re.findall(r"\bHEADRACE_[A-Z_]*[A-Z]\b(?!_)", page.read_text()))
    assert named - variables() - VARIABLES_OF_TESTS == set()


def test_the_page_of_settings_is_that_of_the_program() -> None:
    assert PAGE.read_text() == settings_page(), "flags have changed: python tests/support/settings_page.py"


def test_the_page_of_topics_names_every_topic_and_its_settings() -> None:
    text = (ROOT / "docs" / "reference" / "topics.md").read_text()
    for topic in all_topics(replicas=3, retention_days=1):
        assert f"`{topic.name}`" in text
        for setting, value in topic.settings.items():
            assert f"`{setting}`" in text
            if value.isdigit() and int(value) > 2 and setting != "retention.ms":
                assert value in text, f"{setting}={value}"


def test_the_page_of_events_names_every_reason() -> None:
    text = (ROOT / "docs" / "events.md").read_text()
    assert [reason for reason in REASONS if f"`{reason}`" not in text] == []
