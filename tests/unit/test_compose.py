"""What docker-compose.yml promises, read as text: there need be no Docker here."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8")


def test_everything_listens_on_loopback_only() -> None:
    published = re.findall(r'^\s+- "([^"]*:\d+)"$', TEXT, re.MULTILINE)
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_broker_is_apache_kafka_and_makes_no_topic_by_itself() -> None:
    assert "image: apache/kafka:4.1.1" in TEXT
    assert 'KAFKA_AUTO_CREATE_TOPICS_ENABLE: "false"' in TEXT


def test_the_store_is_durable_and_never_evicts() -> None:
    assert '"--appendonly", "yes"' in TEXT
    assert '"--maxmemory-policy", "noeviction"' in TEXT


def test_an_image_has_a_version() -> None:
    assert all(":" in image and not image.endswith(":latest") for image in re.findall(r"image: (\S+)", TEXT))
