"""What a student learns of a shop before it learns from labels: the shop's words, and which words of a title count."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from headrace.commands.label_sources import FileOrHomeDepot, read_shelf
from headrace.commands.training import progress, run, tell
from headrace.models import core_lists, masking, student, vocabulary
from headrace.models.core_terms import CoreTerms

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

MASKING: Final = "masking"
"""The folder in the student's that keeps the checkpoint of reading titles."""


def domain_flags(function: Decorated) -> Decorated:
    """Adds the flags of what a student takes from a catalogue."""
    for option in (
        click.option(
            "--reading-steps",
            type=click.IntRange(0),
            default=400,
            help="With --more-words: steps of 32 titles whose words it guesses, so that new words mean something.",
        ),
        click.option(
            "--more-words",
            type=click.IntRange(0, 50_000),
            default=0,
            help="At most so many words of the catalogue that were cut into pieces become words of their own.",
        ),
        click.option(
            "--core-terms/--no-core-terms",
            default=False,
            help="It is told which words are product type, brand, attribute, number: lists learned from the catalogue.",
        ),
        click.option(
            "--catalogue",
            type=FileOrHomeDepot(),
            default=None,
            metavar="FILE",
            help="Items, JSON lines with item_id and title, for --core-terms and --more-words; or `homedepot`.",
        ),
    ):
        function = option(function)
    return function


def learned(one: student.Student, words: bytes, given: dict[str, Any]) -> tuple[bytes, CoreTerms | None]:
    """The student's vocabulary and its core terms, as the flags ask for; the student has read the catalogue then.

    Args:
        one: begins to learn.
        words: its vocabulary so far.
        given: the flags.

    Raises:
        click.ClickException: a flag needs a catalogue, or the catalogue cannot be used.
    """
    if not (given["core_terms"] or given["more_words"]):
        return words, None
    if given["catalogue"] is None:
        raise click.UsageError("--core-terms and --more-words need --catalogue, a file of items.")
    titles = read_shelf(given["catalogue"], given["data"]).titles
    if given["more_words"]:
        new = vocabulary.domain_words(titles, words, most=given["more_words"])
        tell(f"{len(new):,} words of the catalogue become words of the vocabulary")
        words = masking.extend(one.bert, words, new)
        course = masking.MaskingCourse(given["reading_steps"], seed=given["seed"])
        if course.steps:
            with progress("reading titles") as say:
                run(lambda: masking.adapt(one.bert, words, titles, course, given["out"] / MASKING, say))
    if not given["core_terms"]:
        return words, None
    terms = core_lists.learned(titles)
    lists = (terms.brands, terms.subjects, terms.attributes)
    tell("core terms: {:,} brands, {:,} product types, {:,} attributes".format(*map(len, lists)))
    return words, terms
