from kafka import KafkaProducer

from headrace.local.line import Broker
from headrace.online import tail as module
from headrace.online.tail import Tail
from headrace.streams.topics import Topic, admin_of, create_topics


def test_a_source_that_waited_half_read_goes_on(kafka: Broker, topic_suffix: str) -> None:
    """kafka-python 3.0 never gives out again what it holds of a partition that was paused amid what was fetched."""
    count = module.WAITING_RECORDS + 1_500
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(topic_suffix, 2)])
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=50)
    for number in range(2 * count):
        producer.send(topic_suffix, value=b"%d" % number, partition=number % 2)
    producer.close()
    slow, fast = (topic_suffix, 0), (topic_suffix, 1)
    tail = Tail(kafka.bootstrap, [slow, fast])
    try:
        tail.seek({slow: 0, fast: 0})
        # Rounds that need one source only, while the other one fills up behind their ends and has to wait.
        assert len(list(tail.read({slow: 1, fast: count}))) == count + 1
        assert tail.fetched()[slow] >= 1
        while tail.fetched()[slow] < module.WAITING_RECORDS and tail._fetch(1_000):
            pass
        assert len(list(tail.read({slow: count}))) == count - 1
    finally:
        tail.close()
