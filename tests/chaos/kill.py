"""kill -9 of consumers at every stage, and of Redis with its file cut back to what was synced: the state stays exact.

    python tests/chaos/kill.py --json FILE

starts Kafka and Valkey itself and takes some minutes; ends with 1 when anything is not exact. CI runs a small one,
``test_kill.py``; what is done and what must hold is in ``tests/support/kills.py``.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

from consumer_worker import STAGES  # noqa: E402
from headrace.local.kafka import LocalKafka  # noqa: E402
from headrace.local.valkey import LocalValkey  # noqa: E402
from kills import kill_consumers, kill_valkey, new_stage  # noqa: E402

JARS = Path(os.environ.get("HEADRACE_KAFKA_JARS") or Path(__file__).parents[3] / "shared" / "kafka" / "lib")


def main() -> None:
    """The full run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jars", type=Path, default=JARS, help="folder of Kafka's jars")
    parser.add_argument("--json", type=Path, help="write the reports here")
    parser.add_argument("--kills", type=int, default=4, help="of each driver at each stage")
    parser.add_argument("--valkey-kills", type=int, default=5, help="of Valkey under each driver")
    parser.add_argument("--events", type=int, default=6_000)
    parser.add_argument("--drivers", default="bulk,live")
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    chance, reports = random.Random(told.seed), []
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        folder = Path(name)
        kafka = LocalKafka(folder / "k", told.jars)
        kafka.start()
        for driver in told.drivers.split(","):
            plan = [(stage, chance.randrange(1, 6)) for stage in STAGES for _ in range(told.kills)]
            plan = [(stage, 1 + call % 2 if stage == "acknowledge" else call) for stage, call in plan]
            chance.shuffle(plan)
            for what, run in (("consumer", plan), ("valkey", told.valkey_kills)):
                valkey = LocalValkey(folder / f"{driver}-{what}", config={"auto-aof-rewrite-percentage": "0"})
                valkey.start()
                logs = folder / f"logs-{driver}-{what}"
                logs.mkdir()
                stage = new_stage(kafka, valkey)
                if isinstance(run, list):
                    report = kill_consumers(stage, driver, run, told.events, logs)
                else:
                    report = kill_valkey(stage, driver, run, told.events, logs)
                valkey.kill()
                reports.append(report)
                sys.stdout.write(f"{driver}, {what}: {'exact' if report.exact else 'NOT EXACT'}, {asdict(report)}\n")
                sys.stdout.flush()
        kafka.kill()
    if told.json:
        found = [asdict(report) | {"exact": report.exact} for report in reports]
        told.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if all(report.exact for report in reports) else 1)


if __name__ == "__main__":
    main()
