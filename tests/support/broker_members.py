"""Members of consumer groups as processes of their own, which can be killed."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from broker_clients import Client, Sent

MEMBER = Path(__file__).parent / "broker_member.py"
PARTITIONS = 4


class Member:
    """A member's process and what it has said so far."""

    def __init__(self, log: Path, *told: str) -> None:
        self._log = log
        with log.open("wb") as said, log.with_suffix(".err").open("wb") as errors:
            self.process = subprocess.Popen([sys.executable, str(MEMBER), *told], stdout=said, stderr=errors)

    def said(self, what: str) -> list[Any]:
        whole = self._log.read_text().rpartition("\n")[0]
        return [told[what] for told in map(json.loads, whole.splitlines()) if what in told]

    @property
    def assigned(self) -> list[int]:
        """What it owns."""
        last: list[int] = (self.said("assigned") or [[]])[-1]
        return last

    @property
    def read(self) -> list[str]:
        """The values it has read."""
        return [value for _, _, value in self.said("read")]

    def ends(self, how: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(20)


def send(client: Client, topic: str, first: int, count: int = 40) -> list[str]:
    """Sends numbers as values, round the partitions."""
    names = [str(number) for number in range(first, first + count)]
    client.send(topic, [Sent(name.encode(), partition=int(name) % PARTITIONS) for name in names])
    return names
