"""Following a run's metrics.jsonl: what is new there becomes points, and goes to the trackers.

Only complete lines are read, so a tracker never knows more than the run's own folder. What trackers have for certain
is remembered in RUN/tracking.json: {"id": ..., "sent": {tracker: last step}}.
"""

import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedcmp.checksums import sealed, unsealed
from fedcmp.config import Recipe, read_dumped
from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.runs.folder import RunFolder, check_folder
from fedcmp.runs.record_files import read_records
from fedcmp.tracking.points import points
from fedcmp.tracking.trackers import Identity, Tracker, in_one_line, open_tracker

logger = logging.getLogger("fedcmp.tracking")
STATE = "tracking.json"
_SHOWN = ("model", "scenario", "federation", "training")  # sections of the recipe that a tracker may show
Opener = Callable[[str, Identity], Tracker]


class Follower:
    """Sends one method's run to its trackers.

    Args:
        folder: the method's run.
        trackers: names of the trackers.
        opener: opens one.
        forgiving: whether a tracker that fails is only told of, and left out from then on.

    Raises:
        UserError: a tracker cannot start.
    """

    def __init__(
        self, folder: RunFolder, trackers: list[str], *, opener: Opener = open_tracker, forgiving: bool = True
    ) -> None:
        self._folder, self._forgiving = folder, forgiving
        self._state: dict[str, Any] = _read_state(folder.path / STATE)
        identity = _identity(folder.path, self._state["id"])
        self._trackers: dict[str, Tracker] = {}
        self._seen = 0  # records of metrics.jsonl
        self._on_the_way: dict[str, int] = {}  # last step that a tracker was given and may not have yet
        try:
            for name in dict.fromkeys(trackers):
                self._trackers[name] = opener(name, identity)
        except BaseException:
            self.close()
            raise
        self._write_state()

    def update(self) -> None:
        """Send what metrics.jsonl has gained.

        Raises:
            UserError: a tracker failed, and the follower is not forgiving.
        """
        records = read_records(self._folder.metrics)
        by_step: dict[int, dict[str, float]] = {}
        for record in records[self._seen :]:
            for tag, step, value in points(record):
                by_step.setdefault(step, {})[tag] = value
        self._seen = len(records)
        if not by_step:
            return
        for name in list(self._trackers):
            try:
                self._send(name, self._trackers[name], by_step)
            except Exception as error:  # a network that is down must not end a run of days
                self._give_up(name, error)

    def close(self) -> None:
        """End all trackers; raises as `update` does."""
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.close()
                self._arrived(name)
            except Exception as error:
                self._give_up(name, error)
        self._trackers = {}

    def _send(self, name: str, tracker: Tracker, by_step: dict[int, dict[str, float]]) -> None:
        sent = -1 if tracker.starts_over else int(self._state["sent"].get(name, -1))
        steps = sorted(step for step in by_step if step > sent)
        for step in steps:
            tracker.write(step, by_step[step])
        if steps and not tracker.starts_over:
            self._on_the_way[name] = steps[-1]
        if tracker.flush():
            self._arrived(name)

    def _arrived(self, name: str) -> None:
        if name in self._on_the_way:
            self._state["sent"][name] = self._on_the_way.pop(name)
            self._write_state()

    def _give_up(self, name: str, error: Exception) -> None:
        self._trackers.pop(name, None)
        where, reason = self._folder.path, in_one_line(error)
        if not self._forgiving:
            raise UserError(f"{where}: {name} did not take all points ({reason}): give the command again") from error
        told = "%s: no more points to %s (%s); later: fedcmp track %s --to %s"
        logger.warning(told, where, name, reason, where, name)

    def _write_state(self) -> None:
        write_whole(self._folder.path / STATE, json.dumps(sealed(self._state)).encode())


def track_run(folder: Path, trackers: list[str]) -> list[Path]:
    """Send the curves of a run that is there, finished or not.

    Args:
        folder: a run: one method's, or that of several.
        trackers: names of the trackers; wandb and trackio are sent what they were not sent before.

    Returns:
        The methods' folders whose curves were sent.

    Raises:
        UserError: no run, or a tracker that is not installed, cannot start or fails.
    """
    check_folder(folder)
    own = [folder] if (folder / "metrics.jsonl").exists() else []
    found = own or sorted(path.parent for path in folder.glob("*/metrics.jsonl"))
    if not found:
        raise UserError(f"{folder}: is not a run's folder (no metrics.jsonl)")
    for one in found:
        follower = Follower(RunFolder(one), trackers, forgiving=False)
        try:
            follower.update()
        finally:
            follower.close()
    return found


def _identity(folder: Path, name: str) -> Identity:
    recipe = read_dumped(folder / "recipe.toml")
    method = recipe.run.methods[0]
    return Identity(folder, recipe.run.name, method, name, _settings(recipe, method))


def _settings(recipe: Recipe, method: str) -> dict[str, Any]:
    """Settings without the places of files."""
    content = recipe.model_dump(mode="json", include=set(_SHOWN), exclude={"scenario": {"manifest"}})
    own = recipe.method_settings(method).model_dump(mode="json", exclude_none=True)
    return content | {"method": method, "settings": own, "seed": recipe.run.seed}


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = unsealed(json.loads(path.read_text(encoding="utf-8")))
        return {"id": str(state["id"]), "sent": dict(state["sent"])}
    except FileNotFoundError:
        return {"id": secrets.token_hex(4), "sent": {}}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); remove it to begin new curves") from error
