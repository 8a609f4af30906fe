"""The demo plays a log through the whole line: broker, consumer, worker, learner, all as processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from broker_clients import Broker
from headrace.models.trivago import COLUMNS

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("HEADRACE_DATA") or ROOT.parent / "shared" / "data")
JARS = Path(os.environ.get("HEADRACE_KAFKA_JARS") or ROOT.parent / "shared" / "kafka" / "lib")

START_S = 1_541_548_800
ON_APACHE_KAFKA = pytest.mark.parametrize("broker", ["apache"], indirect=True)  # which the demo starts by itself


def run(data: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    """The numbers that the demo writes."""
    numbers = folder / "numbers.json"
    command = [sys.executable, "-m", "headrace.commands.main", "demo", "--data", "trivago", "--data-folder", str(data)]
    line = ["--kafka-jars", str(JARS), "--folder", str(folder / "line"), "--json", str(numbers)]
    done = subprocess.run([*command, *line, *arguments], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MRR, all" in done.stdout
    found: dict[str, Any] = json.loads(numbers.read_text())
    return found


def small_log(folder: Path, sessions: int) -> Path:
    """A log in the data set's columns: in each session a search, a look at the second item, then a click on it."""
    rows = []
    for number in range(sessions):
        at_s, name = START_S + 60 * number, f"s{number}"
        items = "|".join(str(100 + (number + place) % 7) for place in range(5))
        looked = items.split("|")[1]
        rows += [
            (f"u{number % 5}", name, at_s, 1, "search for destination", "Bath", "Bath, UK", None, None, None),
            (f"u{number % 5}", name, at_s + 5, 2, "interaction item image", looked, "Bath, UK", None, None, None),
            (f"u{number % 5}", name, at_s + 9, 3, "clickout item", looked, "Bath, UK", None, items, "9|8|7|6|5"),
        ]
    path = folder / "trivago" / "events.parquet"
    path.parent.mkdir(parents=True)
    columns = {name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)}
    pyarrow.parquet.write_table(pa.table(columns), path)
    return folder


@ON_APACHE_KAFKA
@pytest.mark.timeout(300)
def test_every_list_is_scored_before_its_click_and_after_what_came_before(kafka: Broker, tmp_path: Path) -> None:
    found = run(small_log(tmp_path / "data", 40), tmp_path, "--broker", "kafka")
    assert found["mode"] == "barrier"
    assert found["lists"] == found["counted"] == 40
    assert found["student"] == ["absent"]
    # the shopper looked at the second item just before: with the barrier the worker knows, and puts it first
    assert found["quality"]["all"]["mrr"]["last touched"]["mean"] == 1.0
    assert found["quality"]["all"]["mrr"]["served"]["mean"] > 0.95
    assert found["quality"]["all"]["mrr"]["shown order"]["mean"] == 0.5
    assert found["freshness_ms"]["count"] > 0
    assert found["examples"] > 0


@pytest.mark.timeout(300)
def test_a_prefix_of_the_real_log_is_served_about_as_well_as_its_best_baseline(tmp_path: Path) -> None:
    if not (DATA / "trivago" / "events.parquet").is_file():
        pytest.skip(
            "the trivago log is not here: HEADRACE_DATA names the folder of the data sets, docs/data.md their sources"
        )
    found = run(DATA, tmp_path, "--events", "2000")
    mrr = found["quality"]["all"]["mrr"]
    assert found["lists"] > 150
    assert mrr["served"]["mean"] > mrr["shown order"]["mean"] + 0.1
    assert mrr["served"]["mean"] > mrr["last touched"]["mean"] - 0.03


def test_without_the_data_it_says_where_to_get_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headrace.commands.main", "demo", "--data", "trivago", "--kafka-jars", str(JARS)]
    done = subprocess.run(
        [*command, "--data-folder", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "https://" in done.stderr or "Kafka" in done.stderr
