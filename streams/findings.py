"""What `headrace doctor` concludes: facts in, findings out, each with what to do about it. Pure.

A fact that a server does not tell (a managed Redis without CONFIG) is None: then the finding says that it was not seen.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

Level = Literal["ok", "warn", "fail"]

CLOCK_WARN_MS: Final = 1_000
CLOCK_FAIL_MS: Final = 300_000
"""As far as an event may lie in the future before it is dead-lettered."""
LAG_WARN: Final = 10_000
FITS: Final = 0.99
PAUSE_DAYS: Final = 30
SAMPLE: Final = 20
"""Fewer keys say nothing about a partitioner."""


class Finding(Struct, frozen=True):
    """One line of a check-up.

    Attributes:
        check: what was looked at, e.g. ``redis memory``.
        level: ``fail`` for what stops or loses something, ``warn`` for what will or may.
        says: what was found.
        do: the way out; "" when all is well.
    """

    check: str
    level: Level
    says: str
    do: str = ""


class TopicFacts(Struct, frozen=True):
    """A topic.

    Attributes:
        partitions: how many; None: it is not there.
        replicas: of the partition that has fewest.
        broken: what must be otherwise, a sentence each: what it is, a colon, the way out.
        odd: the same for what should be.
    """

    name: str
    partitions: int | None
    replicas: int = 0
    broken: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()


class SampleFacts(Struct, frozen=True):
    """Keys of the events topic: how many were looked at, how many lie where each partitioner would put them."""

    keys: int
    fits: Mapping[str, int]
    wanted: str


class GroupFacts(Struct, frozen=True):
    """A consumer group: its members, and for each partition how many records it has not acknowledged."""

    name: str
    members: int
    lag: Mapping[int, int]


class PackageFacts(Struct, frozen=True):
    """A package: the version that is there (None: none), what is asked for, whether it fits, what was tested."""

    name: str
    installed: str | None
    wanted: str
    fits: bool
    tested: str | None = None


def of_topics(found: Sequence[TopicFacts], nodes: int) -> list[Finding]:
    """What the topics are like; the first is that of the events."""
    missing = [topic.name for topic in found if topic.partitions is None]
    findings: list[Finding] = []
    if missing:
        says = f"{'is' if len(missing) == 1 else 'are'} not there: {', '.join(missing)}"
        findings.append(Finding("kafka topics", "fail", says, "`headrace topics create` makes them"))
    else:
        says = f"{len(found)} are there, {found[0].partitions} partitions of events"
        findings.append(Finding("kafka topics", "ok", says))
    for topic in found:
        findings += [_otherwise(topic, "fail", sentence) for sentence in topic.broken]
        findings += [_otherwise(topic, "warn", sentence) for sentence in topic.odd]
    copies = min((topic.replicas for topic in found if topic.partitions is not None), default=0)
    if copies and copies < 3:
        says = f"{copies} of each record, on {nodes} broker{'s' if nodes != 1 else ''}"
        do = "run three brokers, and `headrace topics create --replication-factor 3` for new topics"
        findings.append(Finding("kafka copies", "warn", says, do))
    elif copies:
        findings.append(Finding("kafka copies", "ok", f"{copies} of each record, on {nodes} brokers"))
    return findings


def _otherwise(topic: TopicFacts, level: Level, sentence: str) -> Finding:
    says, _, do = sentence.partition(": ")
    return Finding(f"topic {topic.name}", level, says, do)


def of_brokers(settings: Mapping[str, str]) -> list[Finding]:
    """What a broker's own settings lead to; none where they were not seen."""
    findings = []
    if settings.get("auto.create.topics.enable") == "true":
        do = "set auto.create.topics.enable=false: a mistyped name becomes a topic with other settings"
        findings.append(Finding("kafka new topics", "warn", "made by themselves", do))
    minutes = settings.get("offsets.retention.minutes", "")
    if minutes.isdecimal():
        days = int(minutes) / 1440
        says = f"remembered for {days:,.0f} days without a member"
        do = (
            "set offsets.retention.minutes far above the longest pause of consumers: a group that is forgotten reads"
            " everything again from where its generation began"
        )
        short = days < PAUSE_DAYS
        findings.append(Finding("kafka groups", "warn" if short else "ok", says, do if short else ""))
    return findings


def of_sample(sample: SampleFacts) -> Finding:
    """Whether producers put keys where the state looks for them."""
    check = "kafka partitioner"
    if sample.keys < SAMPLE:
        return Finding(check, "ok", f"{sample.keys} keys are too few to tell")
    best = max(sample.fits, key=lambda name: sample.fits[name])
    share, wanted = sample.fits[best] / sample.keys, sample.fits[sample.wanted] / sample.keys
    if wanted >= FITS:
        return Finding(check, "ok", f"{sample.wanted}: {sample.keys} keys lie where they belong")
    if share >= FITS:
        do = f"build the state with --partitioner {best} (`headrace rebuild`), or change the producers"
        return Finding(check, "fail", f"producers use {best}, the state is built with {sample.wanted}", do)
    return Finding(
        check,
        "warn",
        f"{wanted:.0%} of {sample.keys} keys lie where {sample.wanted} puts them, at best {share:.0%} ({best})",
        "keys must be the shopper's client_id, from one kind of producer: what lies elsewhere is dead-lettered as"
        " misrouted, and `headrace dlq redrive` puts it right",
    )


def of_clocks(redis_ms: int | None, ahead_records: int | None) -> list[Finding]:
    """How this machine's clock goes.

    Args:
        redis_ms: how far Redis' clock is ahead of ours; None: it did not say.
        ahead_records: events whose Kafka timestamp is more than a minute ahead of our clock; None: not seen.
    """
    findings = []
    if redis_ms is not None:
        far = abs(redis_ms)
        says = f"{far / 1000:.1f} s {'behind' if redis_ms > 0 else 'ahead of'} that of Redis"
        do = "run NTP (chrony, systemd-timesyncd) on both machines"
        level: Level = "fail" if far >= CLOCK_FAIL_MS else "warn" if far >= CLOCK_WARN_MS else "ok"
        findings.append(Finding("clock", level, says, do if level != "ok" else ""))
    if ahead_records:
        findings.append(
            Finding(
                "clock of the log",
                "warn",
                f"{ahead_records} events are stamped more than a minute ahead of this machine's clock",
                "look at the clocks of this machine and of the producers",
            )
        )
    elif ahead_records is not None:
        findings.append(Finding("clock of the log", "ok", "no event is stamped ahead of this machine's clock"))
    return findings


def of_group(facts: GroupFacts) -> Finding:
    """Whether somebody fills the generation that is read."""
    check = "consumer lag"
    total = sum(facts.lag.values())
    if total and not facts.members:
        says = f"{total:,} records wait and nobody consumes them"
        return Finding(check, "warn", says, "start `headrace consume`")
    if total >= LAG_WARN:
        partition = max(facts.lag, key=lambda one: facts.lag[one])
        says = f"{total:,} records wait, most in partition {partition} ({facts.lag[partition]:,})"
        return Finding(check, "warn", says, "add consumers, up to one a partition, if it does not shrink")
    return Finding(check, "ok", f"{total:,} records wait, {facts.members} consumer{'s' if facts.members != 1 else ''}")


def of_packages(found: Sequence[PackageFacts], python: tuple[int, int]) -> list[Finding]:
    """Whether what is installed is what Headrace was written for, and tested with."""
    findings = []
    version = f"{python[0]}.{python[1]}"
    if not (3, 11) <= python <= (3, 13):
        findings.append(Finding("python", "fail", version, "run Python 3.11, 3.12 or 3.13"))
    else:
        findings.append(Finding("python", "ok", version))
    wrong = [one for one in found if not one.fits]
    for one in wrong:
        says = f"{one.installed or 'not installed'}, wanted {one.wanted}"
        do = f"pip install '{one.name}{one.wanted}'"
        findings.append(Finding(f"package {one.name}", "fail", says, do))
    untested = [one for one in found if one.fits and one.tested and one.installed != one.tested]
    for one in untested:
        says = f"{one.installed}, tested with {one.tested}"
        do = "pip install with --constraint constraints.txt"
        findings.append(Finding(f"package {one.name}", "warn", says, do))
    if not wrong and not untested:
        findings.append(Finding("packages", "ok", f"{len(found)} as they should be"))
    return findings
