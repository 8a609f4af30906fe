"""Check Kafka, Redis, clocks, models and packages, and say what to do."""

import importlib.metadata
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import click
import msgspec
from kafka.admin import KafkaAdminClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import headrace
from headrace import BundleError, HeadraceError, SourceChanged, StoreUnavailable
from headrace.commands.brokers import speaking_to
from headrace.commands.options import bootstrap_servers, json_file, namespace, redis_url, repository
from headrace.commands.recipes import redis_settings
from headrace.commands.topics import suffix
from headrace.models.bundle import champion, read_bundle
from headrace.streams import findings as of
from headrace.streams.findings import Finding, PackageFacts
from headrace.streams.generations import NORMALISER, Generation, check_positions
from headrace.streams.log_extent import log_extent
from headrace.streams.probes import broker_settings, group_facts, nodes_of, sample_of, store_of, topics_of
from headrace.streams.redis_generations import Generations
from headrace.streams.searches import FOLD_VERSION
from headrace.streams.store_findings import of_store
from headrace.streams.topics import EVENTS, FoundTopic, Source, admin_of, check_source

Report = Callable[[Finding], None]

_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}
_FREE_WARN_BYTES: Final = 2 << 30
_FREE_FAIL_BYTES: Final = 200 << 20


@click.command
@bootstrap_servers
@redis_url
@namespace
@repository
@suffix
@json_file
def command(
    bootstrap_servers: str, redis_url: str, namespace: str, repository: Path, suffix: str, json_file: Path | None
) -> None:
    """Check Kafka, Redis, clocks, models and packages, and say what to do.

    Nothing is changed. A line is ok, warn (what will or may go wrong) or fail (what stops or loses something). Ends
    with 1 when a line is fail.

    Example:
      headrace doctor --json findings.json
    """
    found: list[Finding] = []

    def report(finding: Finding) -> None:
        found.append(finding)
        click.echo(f"{click.style(f'{finding.level:<5}', _COLOURS[finding.level])} {finding.check}: {finding.says}")
        if finding.do:
            click.echo(f"      -> {finding.do}")

    for finding in of.of_packages(list(packages()), sys.version_info[:2]):
        report(finding)
    for finding in repository_findings(repository):
        report(finding)
    generation, clock_ms = _state(report, redis_url, namespace)
    ahead = _log(report, bootstrap_servers, namespace, suffix, generation)
    for finding in of.of_clocks(clock_ms, ahead):
        report(finding)
    counts = Counter(finding.level for finding in found)
    click.echo(f"{counts['fail']} fail, {counts['warn']} warn, {counts['ok']} ok")
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if counts["fail"]:
        sys.exit(1)


def _state(report: Report, url: str, namespace: str) -> tuple[Generation | None, int | None]:
    """Redis and the generation that is read; gives that, and how far Redis' clock is ahead."""
    try:
        facts = store_of(url)
    except StoreUnavailable as error:
        report(Finding("redis", "fail", str(error), "is it running, and is --redis-url right?"))
        return None, None
    for finding in of_store(facts):
        report(finding)
    with Generations(redis_settings(url, "memory", 1, "doctor"), namespace) as generations:
        try:
            name = generations.current()
            generation = None if name is None else generations.find(name)
        except HeadraceError as error:
            report(Finding("state", "fail", str(error), "`headrace rebuild`, or the version that built it"))
            return None, facts.clock_ms
    report(generation_finding(namespace, name, generation))
    return generation, facts.clock_ms


def generation_finding(namespace: str, name: str | None, generation: Generation | None) -> Finding:
    """What the generation that is read is like."""
    if name is None:
        do = "`headrace consume` makes the first one, from the beginning of the log"
        return Finding("state", "warn", f"nothing was built yet in namespace {namespace}", do)
    if generation is None:
        do = "`headrace rebuild` fills a new one; see whether something else deletes keys of this Redis"
        return Finding("state", "fail", f"generation {name} is to be read and is not there", do)
    recipe = generation.recipe
    if (recipe.fold_version, recipe.normaliser) != (FOLD_VERSION, NORMALISER):
        says = f"generation {name} was built by another version (fold {recipe.fold_version}, {recipe.normaliser})"
        return Finding(
            "state", "fail", says, "fill a new one with `headrace rebuild`, or run the version that built it"
        )
    if generation.partial:
        do = "nothing, if that was wanted; a whole one needs a log that still holds its beginning"
        return Finding("state", "warn", f"generation {name} began in the middle of the log", do)
    return Finding("state", "ok", f"generation {name} of {generation.source.topic}")


def _log(report: Report, bootstrap: str, namespace: str, suffix: str, generation: Generation | None) -> int | None:
    """Kafka, its topics, and how far the state is; gives how many events are stamped ahead of our clock."""
    try:
        with speaking_to(bootstrap), admin_of(bootstrap) as admin:
            return _topics(report, admin, bootstrap, namespace, suffix, generation)
    except click.ClickException as error:
        report(Finding("kafka", "fail", error.message, "see whether brokers run, and the flags --kafka-*"))
        return None


def _topics(
    report: Report, admin: KafkaAdminClient, bootstrap: str, namespace: str, suffix: str, generation: Generation | None
) -> int | None:
    cluster_id, nodes = nodes_of(admin)
    report(Finding("kafka", "ok", f"{nodes} broker{'s' if nodes != 1 else ''}, cluster {cluster_id}"))
    for finding in of.of_brokers(broker_settings(admin)):
        report(finding)
    topics, found = topics_of(admin, suffix)
    for finding in of.of_topics(topics, nodes):
        report(finding)
    events = found.get(EVENTS + suffix)
    if events is None:
        return None
    wanted = "murmur2" if generation is None else generation.recipe.partitioner
    sample, ahead = sample_of(bootstrap, events.name, events.partitions, wanted)
    report(of.of_sample(sample))
    if generation is not None:
        try:
            report(_progress(admin, bootstrap, namespace, generation, cluster_id, found))
        except SourceChanged as error:
            report(Finding("state and log", "fail", str(error), "`headrace rebuild`, or the brokers it was built from"))
    return ahead


def _progress(
    admin: KafkaAdminClient,
    bootstrap: str,
    namespace: str,
    generation: Generation,
    cluster_id: str,
    found: Mapping[str, FoundTopic],
) -> Finding:
    """How far the generation is behind its log.

    Raises:
        SourceChanged: the log is another one than it was built from, or lost what was not read.
    """
    name = generation.source.topic
    topic = found.get(name)
    if topic is None:
        raise SourceChanged(
            f"generation {generation.name} is built from {name}, which is not one of these topics: name its --suffix,"
            " or fill a generation from this log with `headrace rebuild`"
        )
    check_source(generation.source, Source(name, cluster_id, topic.topic_id, topic.partitions))
    extent = log_extent(bootstrap, name, topic.partitions)
    group, committed = group_facts(admin, bootstrap, namespace, generation, extent)
    check_positions(generation, committed, extent)
    return of.of_group(group)


def repository_findings(repository: Path) -> list[Finding]:
    """Whether the repository holds a champion whose every byte is what was published, and room for the next."""
    check = "models"
    if not repository.is_dir():
        do = "`headrace parts build --publish` makes it, or name it with --repository"
        return [Finding(check, "warn", f"there is no folder {repository}", do)]
    return [_champion(repository), room_finding(repository, shutil.disk_usage(repository).free)]


def _champion(repository: Path) -> Finding:
    check = "models"
    try:
        current = champion(repository)
        if current is None:
            do = "`headrace parts build --publish` makes a first one; until then `serve` is not ready"
            return Finding(check, "warn", f"{repository} has no champion", do)
        bundle = read_bundle(repository, current.version)
    except (BundleError, OSError) as error:
        do = "publish again: `headrace parts build --publish`, or a running `headrace refresh` does; `serve` refuses it"
        return Finding(check, "fail", str(error), do)
    parts = ", ".join(sorted(bundle.parts))
    if "student" not in bundle.parts:
        do = "`headrace parts build --publish` adds one"
        return Finding(check, "warn", f"champion {current.version[:12]} ({parts}) has no student", do)
    return Finding(check, "ok", f"champion {current.version[:12]} ({parts}), every hash right")


def room_finding(folder: Path, free_bytes: int) -> Finding:
    """Whether there is room on a folder's disk."""
    says = f"{free_bytes / (1 << 30):.1f} GiB free at {folder}"
    do = "make room: `headrace parts prune` removes old bundles"
    if free_bytes < _FREE_FAIL_BYTES:
        return Finding("disk", "fail", says, do)
    return Finding("disk", "warn", says, do) if free_bytes < _FREE_WARN_BYTES else Finding("disk", "ok", says)


def packages() -> Iterator[PackageFacts]:
    """The packages that Headrace needs, and those of its extras that are installed."""
    tested = _tested()
    seen: set[str] = set()
    for line in importlib.metadata.requires("headrace") or ():
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        installed = _installed(name)
        extra = requirement.marker is not None
        if name in seen or (extra and installed is None):
            continue
        seen.add(name)
        fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
        yield PackageFacts(name, installed, str(requirement.specifier), fits, tested.get(name))


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]  # +cpu says how it was built, not what it is
    except importlib.metadata.PackageNotFoundError:
        return None


def _tested() -> dict[str, str]:
    """The versions that were tested together, where this runs from a checkout."""
    file = Path(headrace.__file__).resolve().parents[2] / "constraints.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}
