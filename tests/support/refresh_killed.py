"""``headrace refresh`` that SIGKILLs itself at the n-th such moment: ``python refresh_killed.py MOMENT N FLAGS...``."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from headrace.commands.main import main
from headrace.online import publisher as publishing
from headrace.online.checkpoint import Checkpoint
from headrace.online.course import Course
from headrace.online.rounds import Rounds

MOMENTS = ("planned", "reading", "learning", "joined", "bundle written", "published", "committing", "committed")
left = 0


def count_down() -> None:
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str) -> None:
    call: Callable[..., Any] = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        count_down()
        return call(*args, **kwargs)

    setattr(owner, name, killed)


def after(owner: Any, name: str) -> None:
    call: Callable[..., Any] = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        found = call(*args, **kwargs)
        count_down()
        return found

    setattr(owner, name, killed)


def arm(moment: str) -> None:
    match moment:
        case "planned":
            after(Checkpoint, "begin_round")
        case "reading":
            before(Rounds, "_read")
        case "learning":
            after(Course, "_learn")
        case "joined":
            after(Rounds, "step")
        case "bundle written":
            after(publishing, "write_bundle")
        case "published":
            after(publishing.Publisher, "publish")
        case "committing":
            in_commit()
        case "committed":
            after(Checkpoint, "commit")
        case _:
            raise SystemExit(f"no such moment: {moment}")


def in_commit() -> None:
    """The last moment of the transaction: everything is written, nothing is committed."""
    writing, commit = Checkpoint._writing, Checkpoint.commit
    inside = False

    @contextmanager
    def killed(self: Checkpoint, check: bool = True) -> Iterator[None]:
        with writing(self, check):
            yield
            if inside:
                count_down()

    def committing(self: Checkpoint, *args: Any) -> None:
        nonlocal inside
        inside = True
        commit(self, *args)
        inside = False

    Checkpoint._writing = killed  # type: ignore[method-assign]
    Checkpoint.commit = committing  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    left = int(sys.argv[2])
    arm(sys.argv[1])
    main(sys.argv[3:])
