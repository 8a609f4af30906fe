"""What a run of the tests says on a machine where Apache Kafka cannot run."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_without_jars(folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/servers/test_local_kafka.py"],
        cwd=ROOT,
        env=os.environ | {"HEADRACE_KAFKA_JARS": str(folder), "HEADRACE_REQUIRE_KAFKA": "0"} | env,
        capture_output=True,
        text=True,
    )


def test_its_tests_are_left_out_and_the_last_lines_say_so(tmp_path: Path) -> None:
    done = run_without_jars(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "5 passed, 3 deselected" in done.stdout  # those that need no server, and those on the embedded broker, stay
    *_, embedded, last = done.stdout.splitlines()
    assert embedded.startswith("Embedded broker ")
    assert embedded.endswith(": tested, 3 tests")
    assert last.startswith("Apache Kafka was NOT tested (3 tests left out)")
    assert "HEADRACE_KAFKA_JARS" in last


def test_the_run_fails_where_kafka_is_required(tmp_path: Path) -> None:
    done = run_without_jars(tmp_path, HEADRACE_REQUIRE_KAFKA="1")
    assert done.returncode != 0
    assert "HEADRACE_REQUIRE_KAFKA=1, but Kafka cannot run here" in done.stderr
    assert "passed" not in done.stdout
