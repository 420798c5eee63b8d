"""What happens to the sites while a round is open: records for metrics.jsonl, live.json, lines for people."""

import time
from collections.abc import Callable, Sequence

from fedcmp.runs.live import LiveFile, State
from fedcmp.runs.records import AnyRecord, Happening, SiteEvent
from fedcmp.terminal import shortened, shown

_STATES: dict[Happening, State] = {
    "joined": "waiting",
    "asked": "training",
    "late": "late",
    "missing": "late",
    "lost": "out",
    "refused": "out",
    "rejoined": "waiting",
}


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
        self._live: LiveFile | None = None

    def follow(self, live: LiveFile | None) -> None:
        """Keep this file up to date from here on; None: none."""
        self._live = live

    def open(self, method: str, round_number: int, *, seconds: float | None) -> None:
        """Begin a round of a method, which closes after so many seconds at the latest."""
        if self._live is not None:
            self._live.open(round_number, seconds=seconds)
        self._round, self._opened, self._place = round_number, time.monotonic(), f"{method}, round {round_number}"

    def note(self, client: int, event: Happening, detail: str) -> None:
        """Note what happened to one site; the detail may hold the site's own words."""
        detail = shortened(shown(detail), 500)
        seconds = time.monotonic() - self._opened
        name = self._names[client]
        self._events.append(
            SiteEvent(round=self._round, client=client, client_name=name, event=event, detail=detail, seconds=seconds)
        )
        if self._live is not None and event in _STATES:
            self._live.site(name, _STATES[event], detail=detail)
        place = f"{self._place}: " if self._place else ""
        self._say(f"{place}{name} {event}{f': {detail}' if detail else ''}")

    def progress(self, client: int, steps: int, of: int) -> None:
        """Note how far a site is with its work."""
        if self._live is not None:
            self._live.site(self._names[client], "training", step=steps, steps=of)

    def asked(self, client: int) -> None:
        """Note that a site has been asked."""
        if self._live is not None:
            self._live.site(self._names[client], "training")

    def done(self, client: int) -> None:
        """Note that a site's reply is there."""
        if self._live is not None:
            self._live.site(self._names[client], "done")

    def drain(self) -> Sequence[AnyRecord]:
        """Return the records since the last call."""
        events, self._events = self._events, []
        return events
