"""Score requests: answers POST /v1/rank with the champion of a repository and the state in Redis."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from headrace.commands.options import bootstrap_servers, namespace, redis_url, repository, show_configuration
from headrace.online.batch import Batcher, BatchLimits
from headrace.online.catalogue import Catalogue
from headrace.online.http import Edge, EdgeConfig, check_address
from headrace.online.intake import Intake
from headrace.online.items_topic import ItemsTopic
from headrace.online.loading import Loader, LoadingConfig, Watcher
from headrace.online.lookup import RedisLookup
from headrace.online.meters import Meters, new_meters
from headrace.online.outbox import EventSink, FeatureLog, KafkaFeatureLog, NoFeatureLog
from headrace.online.pairs import open_student
from headrace.online.query_texts import RESULTS, QueryTexts
from headrace.online.redis_pipe import RedisPipe
from headrace.online.registry import Registry
from headrace.online.score_writer import NoScoreWriter, RedisScoreWriter, ScoreWriter
from headrace.online.server import Server, ServerConfig, listen
from headrace.online.worker import Model, Worker
from headrace.streams.partitioners import Partitioner
from headrace.streams.redis_scores import CacheBounds, ScoreCache

SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while another wants it: Python's 5 ms would be most of a request."""
MIB = 1 << 20
DAY_MS = 86_400_000
PAIRS = 16
"""A cross-encoder's request waits for many pairs: so many places of the queue for each place of the worker."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The flags of ``headrace serve``, by their names."""

    host: str
    port: int
    token: str
    redis_url: str
    namespace: str
    repository: Path
    bootstrap_servers: str
    kafka: bool
    events_topic: str
    items_topic: str
    features_topic: str
    partitioner: Partitioner
    trust_now: bool
    deadline_ms: int
    places: int
    body_bytes: int
    encoder_threads: int
    batch_tokens: int
    catalogue_mib: int
    vectors_mib: int
    score_cache: bool
    score_cache_days: float
    window_days: int
    log_buffer: int
    poll_ms: int
    drain_ms: int


@click.command
@click.option("--host", default="127.0.0.1", help="Where to listen. Any but a loopback address needs a token.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, help="0 takes a free one and prints it.")
@click.option(
    "--token",
    default="",
    help="Callers must show it as `Authorization: Bearer ...`: to send events, and on every door if not on loopback. "
    "Better as the environment variable: flags can be read by other users of the machine.",
)
@redis_url
@namespace
@repository
@bootstrap_servers
@click.option(
    "--kafka/--no-kafka",
    default=True,
    help="Without Kafka there are no item texts, no feature log (so nothing is learned) and no events door.",
)
@click.option("--events-topic", default="search.events.v1", help="Where POST /v1/events puts events.")
@click.option("--items-topic", default="search.items.v1", help="Where item texts come from.")
@click.option("--features-topic", default="search.features.v1", help="Where served features go.")
@click.option(
    "--partitioner",
    type=click.Choice(["murmur2", "crc32"]),
    default="murmur2",
    help="That of the events topic's other producers; with another one what comes in here is dead-lettered.",
)
@click.option("--trust-now/--no-trust-now", default=False, help="Take now_ms from requests: for replays only.")
@click.option(
    "--deadline-ms",
    type=click.IntRange(1, 60_000),
    default=1_000,
    help="For requests that name none; what cannot be done in time is left out, and the answer says so.",
)
@click.option(
    "--places",
    type=click.IntRange(1, 65_536),
    default=256,
    help="Requests inside at a time; more are refused with 429. Too many make every one of them late.",
)
@click.option("--body-bytes", type=click.IntRange(1_024), default=MIB, help="Larger bodies are refused unread.")
@click.option(
    "--encoder-threads",
    type=click.IntRange(1, 256),
    default=1,
    help="Encoder batches at a time, one core each. More than there are cores makes all of them slower.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(16, 1 << 20),
    default=512,
    help="Tokens of one encoder batch, padding included. Large ones make a short query wait for long neighbours.",
)
@click.option("--catalogue-mib", type=click.IntRange(1), default=256, help="MiB for item texts; more are forgotten.")
@click.option(
    "--vectors-mib",
    type=click.IntRange(1),
    default=256,
    help="MiB for item vectors, or scores of a cross-encoder, of each open student.",
)
@click.option(
    "--score-cache/--no-score-cache",
    default=True,
    help="Write what a cross-encoder computes to the score cache in Redis, for the other workers; it is read anyway.",
)
@click.option(
    "--score-cache-days",
    type=click.FloatRange(0.01, 365),
    default=7,
    help="Older cached scores are not used, and leave Redis so long after the last one of their query was written.",
)
@click.option(
    "--window-days",
    type=click.IntRange(1, 3_650),
    default=30,
    help="Days of counts that a score may see; more than the state keeps changes nothing.",
)
@click.option("--log-buffer", type=click.IntRange(1), default=1_000, help="Feature records that may wait for Kafka.")
@click.option("--poll-ms", type=click.IntRange(10, 60_000), default=200, help="How often to look for a new champion.")
@click.option(
    "--drain-ms",
    type=click.IntRange(0, 600_000),
    default=500,
    help="After SIGTERM /readyz says no, and for so long requests are still taken; give the balancer time to see it.",
)
def command(**flags: object) -> None:
    r"""Score requests with the champion of a repository and the state in Redis, until SIGTERM.

    Example:
      headrace serve --port 8080 --deadline-ms 200
      curl http://127.0.0.1:8080/v1/rank -H 'content-type: application/json' \
        -d '{"query": "red shoe", "client_id": "c1", "query_id": "q1", "items": ["a", "b"]}'
    """
    settings = Settings(**flags)  # type: ignore[arg-type]
    if refused := check_address(settings.host, settings.token):
        raise click.UsageError(refused)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)
    show_configuration()
    try:
        listening = listen(settings.host, settings.port)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    sys.setswitchinterval(SWITCH_S)
    service = Service(settings, new_meters())
    edge = service.edge()
    server = Server(edge.app(), ServerConfig(settings.drain_ms), edge.drain, edge.worker.prefill)
    click.echo(f"listening on http://{settings.host}:{listening.getsockname()[1]}")
    service.start()
    try:
        server.run(sockets=[listening])
    finally:
        service.close()


class Service:
    """Everything behind the doors of one worker process, put together from its settings."""

    def __init__(self, settings: Settings, meters: Meters) -> None:
        self.settings = settings
        self.meters = meters
        self.registry: Registry[Model] = Registry()
        self.catalogue = Catalogue(settings.catalogue_mib * MIB)
        self.encoders = self._batcher(
            "query", BatchLimits(settings.batch_tokens, PAIRS * settings.places, threads=settings.encoder_threads)
        )
        self.fillers = self._batcher("items", BatchLimits(settings.batch_tokens, 4 * settings.places, nice=10))
        self.score_writer = self._score_writer()
        age_ms = int(settings.score_cache_days * DAY_MS)
        loading = LoadingConfig(settings.repository, vector_bytes=settings.vectors_mib * MIB, cache_age_ms=age_ms)
        loader = Loader(loading, open_student, self.catalogue, self.score_writer)
        self.watcher = Watcher(self.registry, loader, meters, settings.poll_ms / 1000)
        self.features_log = self._features_log()
        self.items = self._items()
        self.sink = self._sink()
        self.lookup = RedisLookup(RedisPipe(settings.redis_url), settings.namespace, settings.window_days)
        # shown from the start: 0, where no student reads neighbours
        counts = {result: meters.query_texts.labels(result) for result in RESULTS}
        self.query_texts = QueryTexts(self.lookup.texts, lambda result, names: counts[result].inc(names))

    def edge(self) -> Edge:
        """The doors."""
        settings = self.settings
        worker = Worker(
            registry=self.registry,
            lookup=self.lookup,
            catalogue=self.catalogue,
            encoders=self.encoders,
            fillers=self.fillers,
            features_log=self.features_log,
            meters=self.meters,
            deadline_s=settings.deadline_ms / 1000,
            query_texts=self.query_texts,
        )
        config = EdgeConfig(
            places=settings.places,
            body_bytes=settings.body_bytes,
            trust_now=settings.trust_now,
            token=settings.token,
            token_everywhere=bool(check_address(settings.host, "")),
        )
        accept = Intake(self.sink).accept if self.sink else None
        return Edge(worker, self.meters, config, self.ready, accept)

    def ready(self) -> tuple[bool, Mapping[str, object]]:
        """Whether a model serves, and what there is to know beside it."""
        model, refusal = self.registry.current(), self.watcher.refusal
        self._measure(model)
        # A worker that still reads the catalogue is slow and knows few texts: others should answer meanwhile.
        settled = self.items is None or self.items.settled.is_set()
        return model is not None and settled, {
            "model": model.version if model else None,
            "student": model is not None and model.student is not None,
            "refused": {"version": refusal.version, "reason": refusal.reason} if refusal else None,
            "items": len(self.catalogue),
            "items_caught_up": self.items is not None and self.items.caught_up.is_set(),
        }

    def start(self) -> None:
        """Starts the threads; the model comes when it has passed its checks."""
        self.encoders.start()
        self.fillers.start()
        if self.items is not None:
            self.items.start()
        self.watcher.start()

    def close(self) -> None:
        """Ends the threads and sends what is left."""
        self.encoders.close()
        self.fillers.close()
        self.watcher.close()
        self.score_writer.close()
        if self.items is not None:
            self.items.close()
        self.features_log.close()
        if self.sink is not None:
            self.sink.close()

    def _measure(self, model: Model | None) -> None:
        self.meters.model_state.labels("available").set(model is not None)
        self.meters.model_state.labels("unloading").set(self.registry.waiting())
        self.meters.catalogue_items.labels("texts").set(len(self.catalogue))
        self.meters.catalogue_bytes.labels("texts").set(self.catalogue.size_bytes)
        self.meters.catalogue_items.labels("queries").set(len(self.query_texts))
        self.meters.catalogue_bytes.labels("queries").set(self.query_texts.size_bytes)
        held, size_bytes = model.student.held() if model is not None and model.student is not None else (0, 0)
        self.meters.catalogue_items.labels("vectors").set(held)
        self.meters.catalogue_bytes.labels("vectors").set(size_bytes)

    def _batcher(self, name: str, limits: BatchLimits) -> Batcher:
        rows, tokens = self.meters.batch_rows.labels(name), self.meters.batch_tokens.labels(name)
        depth = self.meters.queue_depth.labels(name)

        def seen(batch_rows: int, batch_tokens: int, waiting: int) -> None:
            rows.observe(batch_rows)
            tokens.observe(batch_tokens)
            depth.set(waiting)

        return Batcher(limits, seen)

    def _features_log(self) -> FeatureLog:
        settings = self.settings
        if not settings.kafka:
            return NoFeatureLog()
        count = self.meters.logged
        return KafkaFeatureLog(
            settings.bootstrap_servers,
            settings.features_topic,
            lambda result: count.labels(result).inc(),
            settings.log_buffer,
            settings.partitioner,
        )

    def _score_writer(self) -> ScoreWriter:
        settings, count = self.settings, self.meters.score_writes
        if not settings.score_cache:
            return NoScoreWriter()
        bounds = CacheBounds(int(settings.score_cache_days * DAY_MS))
        cache = ScoreCache(settings.redis_url, settings.namespace, bounds)
        return RedisScoreWriter(cache, lambda result, scores: count.labels(result).inc(scores))

    def _sink(self) -> EventSink | None:
        settings = self.settings
        if not settings.kafka:
            return None
        return EventSink(settings.bootstrap_servers, settings.events_topic, partitioner=settings.partitioner)

    def _items(self) -> ItemsTopic | None:
        settings, count = self.settings, self.meters.catalogue_records
        if not settings.kafka:
            return None
        return ItemsTopic(
            settings.bootstrap_servers, settings.items_topic, self.catalogue, lambda result: count.labels(result).inc()
        )
