"""The topics of a folder: their names, ids, settings and logs, and the ids that the broker has given away.

One JSON file names them all and is replaced at once. A topic's logs lie in a folder named by its id, so one that was
deleted and made again never meets the old one's files.
"""

import base64
import json
import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.files import replace_text
from headrace.local.broker.partition_log import PartitionLog
from headrace.local.broker.topics import Topic

log = logging.getLogger(__name__)

_PRODUCER_IDS_AT_ONCE = 1_000


class Catalogue:
    """The topics of one folder.

    Attributes:
        cluster_id: in Kafka's form; the folder keeps it.
    """

    def __init__(self, folder: Path, most_partitions: int) -> None:
        """Opens all logs of the folder; torn ends are cut, which the log of the broker says.

        Args:
            folder: where all lies.
            most_partitions: of all topics together; each is an open file.

        Raises:
            ValueError: the folder's list of topics cannot be read, or is gone while their logs are there.
            OSError: a file cannot be opened or written.
        """
        self._folder = folder
        self._most_partitions = most_partitions
        self._path = folder / "topics.json"
        self._topics: dict[str, Topic] = {}
        self._logs: dict[uuid.UUID, list[PartitionLog]] = {}
        self.cluster_id = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        self._next_producer_id = self._producer_ids_end = 0
        if self._path.exists():
            self._read()
        elif any((folder / "topics").glob("*/*")):  # what it does not name would be removed as left over
            raise ValueError(f"{self._path} is gone, but the topics' logs are there: put it back, or take a new folder")
        else:
            self._write(self._topics)
        self._drop_leftovers()
        for topic in self._topics.values():
            self._open(topic)

    def __iter__(self) -> Iterator[Topic]:
        return iter(list(self._topics.values()))

    def topic(self, name: str) -> Topic:
        """The topic with that name.

        Raises:
            Refusal: there is none.
        """
        if name not in self._topics:
            raise Refusal(Code.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
        return self._topics[name]

    def topic_with_id(self, topic_id: uuid.UUID | None) -> Topic:
        """The topic with that id.

        Raises:
            Refusal: there is none.
        """
        for topic in self._topics.values():
            if topic.id == topic_id:
                return topic
        raise Refusal(Code.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")

    def log(self, topic: Topic, partition: int) -> PartitionLog:
        """The log of a topic's partition.

        Raises:
            Refusal: the topic has no such partition.
        """
        if not 0 <= partition < topic.partitions or topic.id not in self._logs:
            raise Refusal(Code.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
        return self._logs[topic.id][partition]

    def put(self, topic: Topic) -> None:
        """Adds a topic, or sets another number of partitions or other settings for one.

        Raises:
            Refusal: there would be too many partitions, or the disk cannot take it; nothing has changed then.
        """
        others = sum(each.partitions for each in self._topics.values() if each.name != topic.name)
        if others + topic.partitions > self._most_partitions:
            raise Refusal(
                Code.INVALID_PARTITIONS, f"this broker has at most {self._most_partitions} partitions in all topics"
            )
        try:
            self._open(topic)  # first: whatever stops between the two leaves empty files that nobody names
            self._write(self._topics | {topic.name: topic})
        except OSError as error:
            if topic.name not in self._topics:
                self._drop(topic)
            raise Refusal(Code.KAFKA_STORAGE_ERROR, f"{topic.name} cannot be written: {error}") from error
        self._topics[topic.name] = topic

    def delete(self, topic: Topic) -> None:
        """Deletes a topic with all its records.

        Raises:
            Refusal: the disk cannot take it; the topic is there.
        """
        try:
            self._write({name: other for name, other in self._topics.items() if name != topic.name})
        except OSError as error:
            raise Refusal(Code.KAFKA_STORAGE_ERROR, f"{topic.name} cannot be deleted: {error}") from error
        del self._topics[topic.name]
        self._drop(topic)

    def producer_id(self) -> int:
        """A number that no idempotent producer has had in this folder.

        Raises:
            Refusal: the disk cannot take that it is given away.
        """
        if self._next_producer_id == self._producer_ids_end:
            try:
                self._write(self._topics, self._producer_ids_end + _PRODUCER_IDS_AT_ONCE)
            except OSError as error:
                raise Refusal(Code.KAFKA_STORAGE_ERROR, f"{self._path} cannot be written: {error}") from error
            self._producer_ids_end += _PRODUCER_IDS_AT_ONCE
        self._next_producer_id += 1
        return self._next_producer_id - 1

    def close(self) -> None:
        """Closes all logs."""
        for partitions in self._logs.values():
            for partition in partitions:
                partition.close()
        self._logs.clear()

    def _place(self, topic: Topic) -> Path:
        return self._folder / "topics" / topic.id.hex

    def _open(self, topic: Topic) -> None:
        self._place(topic).mkdir(parents=True, exist_ok=True)
        opened = self._logs.setdefault(topic.id, [])
        for number in range(len(opened), topic.partitions):
            opened.append(PartitionLog(self._place(topic) / f"{number}.log"))
            _tell_cut(topic.name, number, opened[-1])

    def _drop(self, topic: Topic) -> None:
        for partition in self._logs.pop(topic.id, ()):
            partition.close()
        shutil.rmtree(self._place(topic), ignore_errors=True)

    def _drop_leftovers(self) -> None:
        """Removes the folders of topics that were being deleted when the broker was killed."""
        kept = {topic.id.hex for topic in self._topics.values()}
        for place in (self._folder / "topics").glob("*"):
            if place.name not in kept:
                shutil.rmtree(place, ignore_errors=True)

    def _read(self) -> None:
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
            self.cluster_id = str(said["cluster_id"])
            self._next_producer_id = self._producer_ids_end = int(said["next_producer_id"])
            for name, facts in said["topics"].items():
                settings = {str(key): str(value) for key, value in facts["settings"].items()}
                self._topics[name] = Topic(name, uuid.UUID(facts["id"]), int(facts["partitions"]), settings)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self._path} is not a list of topics that this broker wrote ({repr(error)[:200]}): put a copy of it "
                "back, or take a new folder; the logs beside it are left alone"
            ) from error

    def _write(self, wanted: Mapping[str, Topic], producer_ids_end: int | None = None) -> None:
        topics = {
            topic.name: {"id": str(topic.id), "partitions": topic.partitions, "settings": dict(topic.settings)}
            for topic in wanted.values()
        }
        ids_end = self._producer_ids_end if producer_ids_end is None else producer_ids_end
        said = {"cluster_id": self.cluster_id, "next_producer_id": ids_end, "topics": topics}
        replace_text(self._path, json.dumps(said, indent=1))


def _tell_cut(name: str, number: int, opened: PartitionLog) -> None:
    if opened.cut_bytes:
        log.warning(
            "%s-%d: ends at offset %d now. What comes behind it in the file cannot be read (%s): these %d bytes were "
            "moved to %s, sound records among them too, if there were any.",
            name,
            number,
            opened.next_offset,
            opened.cut_reason,
            opened.cut_bytes,
            opened.cut_path,
        )
