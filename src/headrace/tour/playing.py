"""What the acts of the tour share: the running line, the shop in motion, and whoever shows it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from headrace.local.doors import Refused
from headrace.local.line import LocalLine
from headrace.local.replay import EventLog
from headrace.tour.acts import Ranked
from headrace.tour.doors import Asked, TourDoors
from headrace.tour.flow import Flow, listed
from headrace.tour.shop import Shop
from headrace.tour.shoppers import Shoppers

WAIT_S: Final = 60.0
"""So long a wait for one thing may take before the tour gives up."""


class Stage(Protocol):
    """Who shows the tour to somebody."""

    def doing(self, what: str) -> None:
        """This goes on now; called often."""

    def show(self, lines: Sequence[str]) -> None:
        """These lines stay."""


@dataclass(frozen=True, slots=True)
class Playing:
    """Everything an act needs.

    Attributes:
        line: runs.
        shop: its products.
        shoppers: who search.
        log: where events go.
        doors: of the worker and the learner.
        flow: the shop in motion.
        stage: who shows it.
        text: the query whose list is shown.
    """

    line: LocalLine
    shop: Shop
    shoppers: Shoppers
    log: EventLog
    doors: TourDoors
    flow: Flow
    stage: Stage
    text: str

    @property
    def now_ms(self) -> int:
        """Event time."""
        model = self.shoppers.model
        return model.start_ms + self.flow.done * model.gap_ms

    def ask(self, client_id: str | None = None) -> Ranked:
        """The list of the query that is shown, as a shopper would get it now; nothing of this is logged."""
        return self.doors.explained(Asked(self.text, listed(self.shop, self.text), self.now_ms, client_id))

    def flow_until(self, searches: int, why: str) -> None:
        """Searches go on, up to this number of them."""
        while self.flow.done < searches:
            self.flow.step()
            self.stage.doing(f"{why}: {self.flow.done:,} of {self.shoppers.model.searches:,} simulated searches")

    def seen(self) -> bool:
        """Whether the state holds everything that was sent."""
        self.log.collect()
        return not self.log.unseen()

    def until(self, reached: Callable[[], bool], what: str, log: str) -> None:
        """Returns when something has come true.

        Args:
            reached: asked again and again.
            what: is waited for.
            log: the file that may say why it does not come.

        Raises:
            Refused: it has not, after a minute.
        """
        until_s = time.monotonic() + WAIT_S
        while not reached():
            self.stage.doing(what)
            if time.monotonic() > until_s:
                raise Refused(f"gave up after {WAIT_S:.0f} s of waiting: {what}; see {self.line.folder / log}")
            time.sleep(0.05)
