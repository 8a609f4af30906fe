import time

import pytest
from click.testing import CliRunner, Result

from broker_clients import Broker
from headrace import SourceChanged
from headrace.commands.main import main
from headrace.streams.topics import (
    Topic,
    admin_of,
    all_topics,
    check_source,
    create_topics,
    differences,
    find_topics,
    source_of,
)


def headrace(kafka: Broker, *args: str) -> Result:
    return CliRunner().invoke(main, ["topics", *args, "--bootstrap-servers", kafka.bootstrap])


def test_create_is_idempotent_and_makes_what_was_asked_for(kafka: Broker, topic_suffix: str) -> None:
    suffix = f".{topic_suffix}"
    first = headrace(kafka, "create", "--suffix", suffix, "--partitions", "2")
    assert first.exit_code == 0, first.output
    assert first.output.count(": made, 2 partitions") == 11
    again = headrace(kafka, "create", "--suffix", suffix, "--partitions", "2")
    assert again.exit_code == 0, again.output
    assert again.output.count(": was there\n") == 11
    asked = all_topics(2, suffix=suffix)
    with admin_of(kafka.bootstrap) as admin:
        found = find_topics(admin, [topic.name for topic in asked])
    assert [differences(topic, found[topic.name]) for topic in asked] == [()] * len(asked)


def test_create_says_what_differs_and_changes_nothing(kafka: Broker, topic_suffix: str) -> None:
    name = f"search.events.v1.{topic_suffix}"
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(name, 3, settings={"retention.ms": "1000000"})])
        result = headrace(kafka, "create", "--suffix", f".{topic_suffix}", "--partitions", "2")
        found = find_topics(admin, [name])[name]
    assert result.exit_code == 1
    assert f"{name}: was there, and differs:" in result.output
    assert "3 partitions instead of 2" in result.output
    assert "retention.ms=1000000 instead of -1" in result.output
    assert "1 of 11 topics differ" in result.output
    assert (found.partitions, found.settings["retention.ms"]) == (3, "1000000")


def test_list_names_what_is_there_and_what_is_not(kafka: Broker, topic_suffix: str) -> None:
    name = f"search.items.v1.{topic_suffix}"
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(name, 1, settings={"cleanup.policy": "compact"})])
    result = headrace(kafka, "list", "--suffix", f".{topic_suffix}")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert "compact" in lines[name]
    assert source_of(kafka.bootstrap, name).topic_id in lines[name]
    assert "not there" in lines[f"search.events.v1.{topic_suffix}"]


def test_brokers_that_refuse_end_in_a_sentence(kafka: Broker, topic_suffix: str) -> None:
    result = headrace(kafka, "create", "--suffix", f".{topic_suffix}", "--replication-factor", "3")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: Kafka at {kafka.bootstrap} refused:")
    assert "replication factor" in result.output.lower()


def test_a_topic_made_again_and_one_with_more_partitions_are_other_sources(kafka: Broker, topic_suffix: str) -> None:
    name = f"source.{topic_suffix}"
    with pytest.raises(SourceChanged, match="topics create"):
        source_of(kafka.bootstrap, name)
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(name, 2)])
        built_from = source_of(kafka.bootstrap, name)
        check_source(built_from, source_of(kafka.bootstrap, name))
        admin.create_partitions({name: 4})
        admin.wait_for_topics([name])
        with pytest.raises(SourceChanged, match="had 2 partitions and has 4"):
            check_source(built_from, source_of(kafka.bootstrap, name))
        admin.delete_topics([name])
        deadline = time.monotonic() + 10
        while find_topics(admin, [name]) and time.monotonic() < deadline:
            time.sleep(0.05)
        create_topics(admin, [Topic(name, 2)])
        with pytest.raises(SourceChanged, match="deleted and made again"):
            check_source(built_from, source_of(kafka.bootstrap, name))
