"""A labelling worker as its own process, for tests, with a teacher that knows nothing and can be told when to die.

Runs as a script. It kills itself with SIGKILL at the n-th call of a stage: `ask` (the teacher has answered), `half`
(half of a batch's labels are safe), `safe` (all are, nothing is committed).
"""

import argparse
import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.commands.consumption import Stopped, quieten_kafka
from headrace.models.prompts import Pair
from headrace.streams.identity import hash64
from headrace.streams.label_log import LabelLog
from headrace.streams.labelling import LabellingSettings, LabelWorker
from headrace.streams.log_extent import log_extent
from headrace.streams.rejections import Rejections
from headrace.streams.topics import source_of

STAGES = ("ask", "half", "safe")


@dataclass
class HashTeacher:
    """A teacher whose logits are a function of the text alone; of a title with NaN in it, no number."""

    id: str = "hash"
    prompt: str = "p1"
    pause_s: float = 0.0

    def logits(self, pairs: Sequence[Pair], /) -> NDArray[np.float64]:
        time.sleep(self.pause_s)
        texts = [f"{pair.query}\n{pair.title}\n{pair.details}" for pair in pairs]
        found = np.array([hash64(text) % 2001 / 250 - 4 for text in texts], np.float64)
        found[["NaN" in text for text in texts]] = np.nan
        return found


class Dying:
    """Counts the calls of one stage and ends the process, as a kill -9 does, at the n-th."""

    def __init__(self, told: str) -> None:
        self.stage, _, at = told.partition(":")
        self.left = int(at or 0)

    def due(self, stage: str) -> bool:
        self.left -= stage == self.stage
        return stage == self.stage and self.left == 0


def die_at(dying: Dying, teacher: Any) -> None:
    """Patches teacher and log of labels so that the process dies where it was told to."""
    logits, send, is_safe = teacher.logits, LabelLog.send, LabelLog.is_safe

    def dying_logits(pairs: Sequence[Pair], /) -> NDArray[np.float64]:
        found: NDArray[np.float64] = logits(pairs)
        if dying.due("ask"):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def dying_send(self: LabelLog, labels: Sequence[Any]) -> None:
        if labels and dying.due("half"):
            send(self, labels[: len(labels) // 2])
            while not is_safe(self):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        send(self, labels)

    def dying_is_safe(self: LabelLog) -> bool:
        found = is_safe(self)
        if found and dying.due("safe"):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    teacher.logits, LabelLog.send, LabelLog.is_safe = dying_logits, dying_send, dying_is_safe  # type: ignore[method-assign]


def main() -> None:
    logging.basicConfig(level="INFO")
    quieten_kafka()
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "pairs", "labels"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.0, help="how long the teacher takes for a batch, s")
    parser.add_argument("--session", type=int, default=6_000)
    parser.add_argument("--die", default="", help="STAGE:N")
    parser.add_argument("--until-end", action="store_true", help="stop once all of its partitions are labelled")
    told, stopped = parser.parse_args(), Stopped()
    pairs, labels = source_of(told.bootstrap, told.pairs), source_of(told.bootstrap, told.labels)
    teacher = HashTeacher(pause_s=told.pause)
    die_at(Dying(told.die), teacher)
    settings = LabellingSettings(told.bootstrap, pairs, labels, told.batch, session_ms=told.session, idle_ms=50)
    reject = Rejections(told.bootstrap, told.pairs)
    ends = log_extent(told.bootstrap, told.pairs, pairs.partitions)

    def stop() -> bool:
        return stopped() or (
            told.until_end and all(worker.committed.get(part, -1) >= end for part, (_, end) in ends.items())
        )

    worker = LabelWorker(settings, teacher, reject, stop)
    worker.run()
    reject.close()
    logging.info("ended in order: %s", worker.counts)


if __name__ == "__main__":
    main()
