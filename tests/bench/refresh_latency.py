"""How long the barrier takes: one event sent to an idle learner, until its status says that it was seen.

    python tests/bench/refresh_latency.py [EVENTS]

Starts Kafka and ``headrace refresh`` in a temporary folder; prints milliseconds as JSON.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from kafka import KafkaProducer

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from headrace.local.kafka import LocalKafka  # noqa: E402
from headrace.streams.topics import Topic, admin_of, create_topics  # noqa: E402
from served_logs import searches, wire  # noqa: E402

JARS = Path(os.environ.get("HEADRACE_KAFKA_JARS") or ROOT.parent / "shared" / "kafka" / "lib")
PARTITIONS = 8


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kafka = LocalKafka(Path(folder) / "kafka", JARS)
        kafka.start()
        try:
            measure(kafka.bootstrap, Path(folder), count)
        finally:
            kafka.kill()


def measure(bootstrap: str, folder: Path, count: int) -> None:
    with admin_of(bootstrap) as admin:
        create_topics(admin, [Topic(name, PARTITIONS, 1, {"retention.ms": "-1"}) for name in ("events", "features")])
    told = folder / "told"
    flags = ["--bootstrap-servers", bootstrap, "--repository", str(folder / "models"), "--state", str(folder / "state")]
    flags += ["--events-topic", "events", "--features-topic", "features", "--port", "0", "--every-examples", "250"]
    with told.open("wb") as file:
        learner = subprocess.Popen([sys.executable, "-m", "headrace.commands.main", "refresh", *flags], stderr=file)
    try:
        while "status: " not in told.read_text():
            time.sleep(0.05)
        host = told.read_text().split("status: http://")[1].split("/status")[0]
        print(json.dumps(barriers(bootstrap, host, count)))
    finally:
        learner.terminate()
        learner.wait(30)


def barriers(bootstrap: str, host: str, count: int) -> dict[str, float]:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
    door = http.client.HTTPConnection(host)
    waits_ms, rounds_ms, published = [], [], 0
    for record in searches(0, count // 3 + 1)[:count]:
        sent = wire(record)
        topic = "features" if sent.features else "events"
        future = producer.send(topic, key=sent.key, value=sent.value, timestamp_ms=sent.timestamp_ms)
        where = future.get(timeout=10)
        began_s = time.perf_counter()
        door.request("GET", f"/status?until={topic}/{where.partition}:{where.offset + 1}")
        status = json.loads(door.getresponse().read())
        waits_ms.append(1000 * (time.perf_counter() - began_s))
        rounds_ms.append(status["round_ms"])
        published = status["published"]
    producer.close()
    p50, p99 = np.quantile(waits_ms, [0.5, 0.99])
    return {
        "events": count,
        "published": published,
        "barrier_p50_ms": round(float(p50), 2),
        "barrier_p99_ms": round(float(p99), 2),
        "round_p50_ms": round(float(np.median(rounds_ms)), 2),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
