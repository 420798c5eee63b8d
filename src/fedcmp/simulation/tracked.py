"""A run's events passed on, and its curves kept up to date after every round, as run.track asks."""

from types import TracebackType
from typing import Self

from fedcmp.config import Recipe
from fedcmp.federation.rounds import Events
from fedcmp.runs.folder import RunFolder
from fedcmp.runs.records import Evaluation
from fedcmp.tracking.following import Follower


class Tracked(Events):
    """Events that also feed the trackers; use as a context manager. Without run.track it only passes events on.

    Args:
        recipe: names the trackers.
        folders: where each method's run is kept; a method that is finished is sent nothing.
        events: receives everything.
    """

    def __init__(self, recipe: Recipe, folders: dict[str, RunFolder], events: Events) -> None:
        self._recipe, self._folders, self._events = recipe, folders, events
        self._followers: dict[str, Follower] = {}

    def __enter__(self) -> Self:
        if self._recipe.run.track:
            try:
                for method, folder in self._folders.items():
                    if not folder.finished:
                        self._followers[method] = Follower(folder, list(self._recipe.run.track))
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all trackers."""
        for follower in self._followers.values():
            follower.close()

    def planned(self, lines: list[str], misfits: list[str]) -> None:
        """Pass it on."""
        self._events.planned(lines, misfits)

    def client_done(self, method: str, round_number: int, client: int, clients: int, loss: float) -> None:
        """Pass it on."""
        self._events.client_done(method, round_number, client, clients, loss)

    def part_done(self, method: str, done: int, parts: int, client: int, loss: float) -> None:
        """Pass it on."""
        self._events.part_done(method, done, parts, client, loss)

    def round_done(self, method: str, round_number: int, rounds: int, evaluation: Evaluation | None) -> None:
        """Send the round's points, then pass it on."""
        if method in self._followers:
            self._followers[method].update()
        self._events.round_done(method, round_number, rounds, evaluation)
