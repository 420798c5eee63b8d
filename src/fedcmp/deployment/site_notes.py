"""What happens to the sites' messages while a round is open: records for metrics.jsonl, lines for people."""

import time
from collections.abc import Callable, Sequence

from fedcmp.runs.records import AnyRecord, Happening, SiteEvent


class SiteNotes:
    """Notes of one run; `drain` hands out the records of the round that was closed.

    Args:
        names: of the sites.
        say: called with a line for people.
    """

    def __init__(self, names: Sequence[str], say: Callable[[str], None]) -> None:
        self._names, self._say = names, say
        self._round, self._opened, self._place = 0, time.monotonic(), ""
        self._events: list[SiteEvent] = []

    def open(self, method: str, round_number: int) -> None:
        """Begin a round of a method."""
        self._round, self._opened, self._place = round_number, time.monotonic(), f"{method}, round {round_number}"

    def note(self, client: int, event: Happening, detail: str) -> None:
        """Note what happened to one site."""
        seconds = time.monotonic() - self._opened
        name = self._names[client]
        self._events.append(
            SiteEvent(round=self._round, client=client, client_name=name, event=event, detail=detail, seconds=seconds)
        )
        place = f"{self._place}: " if self._place else ""
        self._say(f"{place}{name} {event}{f': {detail}' if detail else ''}")

    def drain(self) -> Sequence[AnyRecord]:
        """Return the records since the last call."""
        events, self._events = self._events, []
        return events
