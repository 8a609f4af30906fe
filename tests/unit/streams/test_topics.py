import pytest

from headrace import SourceChanged
from headrace.streams.topics import FoundTopic, Source, Topic, all_topics, check_source, differences

ASKED = Topic("t", 4, 3, {"retention.ms": "-1"})


def test_all_topics_have_their_letters_beside_them() -> None:
    names = [topic.name for topic in all_topics(suffix=".x")]
    assert {"search.events.v1.x", "search.events.v1.x.dlq", "search.events.v1.x.late"} <= set(names)
    assert {"search.pairs.unlabelled.v1.x", "search.pairs.unlabelled.v1.x.dlq"} <= set(names)
    assert len(names) == len(set(names))


def test_events_are_kept_for_ever_whatever_is_said_of_features() -> None:
    settings = {topic.name: topic.settings for topic in all_topics(retention_days=3)}
    assert settings["search.events.v1"]["retention.ms"] == "-1"
    assert settings["search.features.v1"]["retention.ms"] == str(3 * 86_400_000)
    assert settings["search.items.v1"]["cleanup.policy"] == "compact"
    for name in ("search.pairs.unlabelled.v1", "search.pairs.labelled.v1"):  # a teacher's time is dear
        assert (settings[name]["retention.ms"], settings[name]["cleanup.policy"]) == ("-1", "delete")
    assert all(one["message.timestamp.type"] == "CreateTime" for one in settings.values())


def test_with_three_replicas_two_must_have_a_record() -> None:
    assert all("min.insync.replicas" not in topic.settings for topic in all_topics())
    assert all(topic.settings["min.insync.replicas"] == "2" for topic in all_topics(replicas=3))


def test_a_topic_as_asked_for_has_no_differences() -> None:
    assert differences(ASKED, FoundTopic("t", "id", 4, 3, {"retention.ms": "-1", "other": "1"})) == ()


def test_every_difference_is_a_sentence_with_the_way_out() -> None:
    partitions, replicas, setting = differences(ASKED, FoundTopic("t", "id", 2, 1, {"retention.ms": "604800000"}))
    assert "2 partitions instead of 4" in partitions
    assert "rebuild" in partitions
    assert "1 replicas instead of 3" in replicas
    assert "--add-config retention.ms=-1" in setting


def test_as_many_replicas_as_the_brokers_make_is_never_a_difference() -> None:
    assert differences(Topic("t", 4), FoundTopic("t", "id", 4, 7, {})) == ()


def test_the_same_log_is_the_same_source() -> None:
    check_source(Source("t", "c", "i", 4), Source("t", "c", "i", 4))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Source("t", "c2", "i", 4), "cluster"),
        (Source("t", "c", "i2", 4), "deleted and made again"),
        (Source("t", "c", "i", 8), "had 4 partitions and has 8"),
    ],
)
def test_another_log_is_refused_with_the_way_out(found: Source, says: str) -> None:
    with pytest.raises(SourceChanged, match="headrace rebuild") as caught:
        check_source(Source("t", "c", "i", 4), found)
    assert says in str(caught.value)
