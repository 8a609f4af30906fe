"""`headrace import` in a process that ends by SIGKILL at the Nth call of a method: import_killed.py METHOD N VERB..."""

import os
import signal
import sys
from typing import Any

from headrace.commands import import_topics
from headrace.commands.main import main
from headrace.streams.other_topics import OtherTopics, Target
from headrace.streams.topic_writer import TopicWriter

OWNERS = {"send": TopicWriter, "sources": OtherTopics, "target": Target}


def kill_at(name: str, calls: int) -> None:
    """Kills this process when a method is called for the Nth time, before it does anything."""
    owner, method = OWNERS[name], "send" if name == "send" else "commit"
    before, left = getattr(owner, method), [calls]

    def counted(self: Any, *args: Any, **values: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(self, *args, **values)

    setattr(owner, method, counted)


if __name__ == "__main__":
    import_topics._SILENT_S = 1.5
    kill_at(sys.argv[1], int(sys.argv[2]))
    main(sys.argv[3:])
