"""What docs/sizing.md says is what is measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

from pytest import approx

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^\| (?:([\d,]+) )?(\D.*?|shoppers with .*?|\S+ of \d+ days?) \|(?: (none|lz4|zstd) \|)? ([\d,]+) \|$", re.M
)


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_page_says_what_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "sizing.json"
    command = [sys.executable, str(ROOT / "tests" / "bench" / "sizing.py"), "--scale", "0.05", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    page = (ROOT / "docs" / "sizing.md").read_text()
    single, example, log = {}, {}, {}
    for count, name, compression, megabytes in ROW.findall(page):
        if compression:
            log[compression, "feature" in name] = number(megabytes)
        elif count:
            example[name] = (number(count), number(megabytes))
        else:
            single[name] = number(megabytes)
    in_all = single.pop("in all")
    assert single == approx(found["redis_mb_per_million"], rel=0.2)
    assert log["none", True] == approx(found["kafka_features_mb_per_million"], rel=0.1)
    written = {name: megabytes for (name, feature), megabytes in log.items() if not feature}
    assert written == approx(found["kafka_events_mb_per_million"], rel=0.2)
    for name, (count, megabytes) in example.items():
        assert megabytes == approx(single[name] * count / 1e6, abs=1)
    assert example.keys() == found["example_mb"].keys()
    assert in_all == approx(sum(megabytes for _, megabytes in example.values()), abs=5)
