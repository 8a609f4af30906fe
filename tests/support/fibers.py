"""Threads of which exactly one runs at a time, by hand: a scheduler resumes one, it runs until it pauses.

So a synchronous worker can be stopped between any two of its calls while others go on, and the same seed gives the same
interleaving.
"""

from collections.abc import Callable
from threading import Lock, Thread


class Killed(BaseException):
    """Raised inside a fiber that ends where it stands, like a process that is killed."""


class Fiber:
    """One thread that runs only while somebody waits in ``resume``.

    Args:
        body: what runs; takes the fiber, so that it can pause.
    """

    def __init__(self, body: "Callable[[Fiber], None]") -> None:
        self._go, self._back = Lock(), Lock()
        self._go.acquire()
        self._back.acquire()
        self._body = body
        self._killed = False
        self.done = False
        self.failure: Exception | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Lets it run until it pauses or ends; raises what it raised."""
        self._turn()
        if self.failure is not None:
            raise self.failure

    def pause(self) -> None:
        """Called inside: gives the turn back."""
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def kill(self) -> None:
        """Ends it where it pauses, at once."""
        self._killed = True
        self._turn()
        self._thread.join()

    def _turn(self) -> None:
        if not self.done:
            self._go.release()
            self._back.acquire()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._killed:
                self._body(self)
        except Killed:
            pass
        except Exception as failure:  # a bug of what is tested: told to the scheduler
            self.failure = failure
        self.done = True
        self._back.release()
