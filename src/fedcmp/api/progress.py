"""Print what `fedcmp.train` is doing: plain lines on stderr, which a notebook shows as they are."""

import sys
import threading
import time

from fedcmp.federation.rounds import Events
from fedcmp.runs.records import Evaluation

_EVERY = 5.0  # seconds between lines about one preparation


class Lines(Events):
    """Print a line per evaluated round, and one now and then while pairs are prepared."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._printed: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Print one line, unless it is to be quiet."""
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)

    def preparing(self, what: str, done: int, total: int) -> None:
        """Print how far a preparation is."""
        with self._lock:
            now = time.monotonic()
            if done >= total or now - self._printed.get(what, -_EVERY) >= _EVERY:
                self._printed[what] = now
                self.say(f"{what}: {done:,} of {total:,}")

    def planned(self, lines: list[str], misfits: list[str]) -> None:
        """Print what the run will need."""
        for line in [*lines, *(f"may not fit: {misfit}" for misfit in misfits)]:
            self.say(line)

    def round_done(self, method: str, round_number: int, rounds: int, evaluation: Evaluation | None) -> None:
        """Print the held-out loss after a round."""
        loss = "" if evaluation is None else f", held-out loss {evaluation.caption_loss:.3f}"
        self.say(f"{method}: round {round_number} of {rounds}{loss}")
