"""The numbers a worker shows at ``/metrics``: names after Prometheus' rules, base units, bounded labels."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headrace.streams.consumer_meters import new_registry

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
STAGE_BUCKETS_S = (0.0001, 0.00025, 0.0005, *BUCKETS_S)
AGES_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class Meters:
    """Every metric of one worker, in a registry of its own so that two workers in one process do not mix."""

    registry: CollectorRegistry
    requests: Counter = field(init=False)
    request_s: Histogram = field(init=False)
    stage_s: Histogram = field(init=False)
    freshness_s: Histogram = field(init=False)
    rejected: Counter = field(init=False)
    degraded: Counter = field(init=False)
    running: Gauge = field(init=False)
    batch_rows: Histogram = field(init=False)
    batch_tokens: Histogram = field(init=False)
    queue_depth: Gauge = field(init=False)
    model_info: Gauge = field(init=False)
    model_state: Gauge = field(init=False)
    swaps: Counter = field(init=False)
    swap_s: Histogram = field(init=False)
    model_since_s: Gauge = field(init=False)
    logged: Counter = field(init=False)
    catalogue_items: Gauge = field(init=False)
    catalogue_bytes: Gauge = field(init=False)
    catalogue_records: Counter = field(init=False)
    student_scores: Counter = field(init=False)
    score_writes: Counter = field(init=False)
    query_texts: Counter = field(init=False)

    def __post_init__(self) -> None:
        """Registers every metric under the prefix ``headrace_``."""
        counters = {
            "requests": ("request", "Answers by door and status.", ("endpoint", "code")),
            "rejected": ("rejected", "Requests refused before any work, by reason.", ("reason",)),
            "degraded": ("degraded", "Answers by the rung of the ladder that gave them.", ("rung",)),
            "swaps": ("model_swap", "Attempts to change the model, by result.", ("result",)),
            "logged": ("feature_log", "Feature records by what became of them.", ("result",)),
            "student_scores": ("student_scores", "Scores of items' texts by where they come from.", ("source",)),
            "score_writes": ("score_cache_writes", "Scores for the cache in Redis, by result.", ("result",)),
            "query_texts": ("query_texts", "Texts of queries that were read behind requests, by result.", ("result",)),
            "catalogue_records": ("catalogue_records", "Records of the items topic, by result.", ("result",)),
        }
        gauges = {
            "running": ("requests_running", "Requests that hold a place in the worker.", ()),
            "queue_depth": ("queue_depth", "Texts that wait for the encoder.", ("queue",)),
            "model_info": ("model_info", "1 for the model that answers.", ("version", "alias")),
            "model_state": ("model_state", "Models by state: loading, available, unloading.", ("state",)),
            "model_since_s": ("model_since_last_update_seconds", "Time since the model changed.", ()),
            "catalogue_items": ("catalogue_items", "Entries held in memory.", ("kind",)),
            "catalogue_bytes": ("catalogue_bytes", "Bytes held in memory.", ("kind",)),
        }
        histograms = {
            "request_s": ("request_duration_seconds", "Time to answer.", ("endpoint",), BUCKETS_S),
            "stage_s": ("stage_duration_seconds", "Time in each stage of a rank.", ("stage",), STAGE_BUCKETS_S),
            "freshness_s": ("feature_freshness_seconds", "Age of the newest of a kind in a score.", ("kind",), AGES_S),
            "batch_rows": ("batch_size", "Texts in one encoder batch.", ("queue",), ROWS),
            "batch_tokens": ("batch_tokens", "Tokens in one encoder batch, padding included.", ("queue",), ROWS),
            "swap_s": ("model_swap_duration_seconds", "Time from a new pointer to the exchange.", (), BUCKETS_S),
        }
        made: dict[str, object] = {}
        for name, (metric, text, labels) in counters.items():
            made[name] = Counter(f"headrace_{metric}", text, labels, registry=self.registry)
        for name, (metric, text, labels) in gauges.items():
            made[name] = Gauge(f"headrace_{metric}", text, labels, registry=self.registry)
        for name, (metric, text, labels, buckets) in histograms.items():
            made[name] = Histogram(f"headrace_{metric}", text, labels, buckets=buckets, registry=self.registry)
        for name, metric_object in made.items():
            object.__setattr__(self, name, metric_object)


def new_meters() -> Meters:
    """Fresh metrics, with the process's own (memory, CPU, files) beside them."""
    return Meters(new_registry())
