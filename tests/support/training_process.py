"""Trainings in a process of their own: `training_process.py FOLDER WHAT... [--kill-at STEP] [--end-at STEP] [--exact]`.

Trains what `tiny_transformers.teach` can, a checkpoint after each step, in FOLDER/WHAT. `--kill-at`: it kills itself
with SIGKILL when that many steps are done and the last one's checkpoint is not written yet. `--end-at`: it is told to
end then, as by Ctrl-C, and exits with 3; no checkpoint is written but for that. `--exact`: in float32,
without dropout. With RANK in the environment it is one of several processes that divide each batch.
"""

import argparse
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import distributed

from headrace.models import fitting
from tiny_transformers import teach


def main() -> None:
    """Trains, ends, or dies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", nargs="+")
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--end-at", type=int, default=0)
    parser.add_argument("--exact", action="store_true")
    given = parser.parse_args()
    fitting.SAVE_S = 1e9 if given.end_at else 0.0
    if given.exact:
        fitting.low_precision = lambda device: nullcontext()

    def say(done: int, total: int, loss: float) -> None:
        if done == given.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if done == given.end_at:
            raise KeyboardInterrupt

    if "RANK" in os.environ:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo")
    try:
        for what in given.what:
            teach(what, given.folder, say, 0.0 if given.exact else 0.1)
    except KeyboardInterrupt:
        sys.exit(3)
    finally:
        if "RANK" in os.environ:
            distributed.destroy_process_group()


if __name__ == "__main__":
    main()
