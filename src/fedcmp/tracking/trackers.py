"""Where points go: TensorBoard's event files, Weights & Biases, trackio. Their packages are imported when asked for.

TensorBoard's files are ours, so they are written anew when a run is resumed. The other two keep what they were sent:
a resumed run goes on under the same id, from the first round that is not theirs for certain. Both send in the
background, and a run that is killed takes with it what was on its way. Weights & Biases has its points for certain
when it was closed, and leaves out a step that it is sent again. trackio would keep such a step twice, so it is closed
after every round.
"""

import contextlib
import contextvars
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from fedcmp.errors import UserError

MODULES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
PROJECT = "fedcmp"


@dataclass(frozen=True)
class Identity:
    """Whose curves they are.

    Attributes:
        folder: of the method's run.
        run: the run's name; `method` is the method's.
        id: told apart from every other run, also from an earlier one of the same name.
        settings: what a tracker may show beside the curves.
    """

    folder: Path
    run: str
    method: str
    id: str
    settings: dict[str, Any] = field(default_factory=dict)


class Tracker(Protocol):
    """One run's curves.

    Attributes:
        starts_over: whether it wants all points again when a run is resumed.
    """

    starts_over: ClassVar[bool]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """All points of one step: tag -> value."""

    def flush(self) -> bool:
        """Let readers see what was written; whether it is the tracker's for certain, though the run be killed now."""

    def close(self) -> None:
        """No more points; what was written is the tracker's for certain."""


def require_trackers(names: list[str]) -> None:
    """Whether the trackers' packages are there; cheap, so it can be asked before anything is prepared.

    Raises:
        UserError: an unknown name, or one is not installed.
    """
    for name in names:
        if name not in MODULES:
            raise UserError(f"--to {name}: no such tracker; there are {', '.join(MODULES)}")
        if MODULES[name] not in sys.modules and importlib.util.find_spec(MODULES[name]) is None:
            raise UserError(f"run.track: {name} is not installed: pip install {MODULES[name]}, or leave it out")


def open_tracker(name: str, identity: Identity) -> Tracker:
    """Open one tracker for one run.

    Args:
        name: "tensorboard", "wandb" or "trackio".
        identity: whose curves they are.

    Raises:
        UserError: its package is missing, or it cannot start.
    """
    require_trackers([name])
    try:
        if name == "tensorboard":
            return TensorBoard(identity)
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            return WandB(identity) if name == "wandb" else Trackio(identity)
    except Exception as error:
        raise UserError(f"run.track: {name} cannot start ({in_one_line(error)}){_MENDS[name]}") from error


def in_one_line(error: Exception) -> str:
    """What an exception says, its first line; its name if it says nothing."""
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__


class TensorBoard:
    """Event files in RUN/tensorboard."""

    starts_over: ClassVar[bool] = True

    def __init__(self, identity: Identity) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = identity.folder / "tensorboard"
        if folder.is_dir():
            for earlier in folder.glob("events.out.tfevents.*"):
                earlier.unlink()
        # purge_step: a TensorBoard that is open on these files forgets the points that it has read
        self._writer: Any = SummaryWriter(str(folder), purge_step=0)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def flush(self) -> bool:
        """See Tracker."""
        self._writer.flush()
        return True

    def close(self) -> None:
        """See Tracker."""
        self._writer.close()


class WandB:
    """Weights & Biases; WANDB_MODE, WANDB_PROJECT and its other variables are the user's."""

    starts_over: ClassVar[bool] = False

    def __init__(self, identity: Identity) -> None:
        wandb: Any = importlib.import_module("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=identity.id,
            name=f"{identity.run}-{identity.method}",
            group=identity.run,
            dir=str(identity.folder),
            config=identity.settings,
            resume="allow",
            reinit="create_new",  # several methods of one recipe run side by side
            settings={"console": "off", "disable_code": True, "disable_git": True},  # curves and settings only
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        self._run.log(dict(values), step=step, commit=True)  # else a step is shown when the next one comes

    def flush(self) -> bool:
        """It sends in the background."""
        return False

    def close(self) -> None:
        """See Tracker."""
        self._run.finish()


class Trackio:
    """trackio: a local database, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say."""

    starts_over: ClassVar[bool] = False

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._run: Any = self._open()  # at once: what is wrong with it is told before the run begins

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        if self._run is None:
            with contextlib.redirect_stdout(io.StringIO()):  # it has introduced itself already
                self._run = self._open()
        self._run.log(dict(values), step=step)

    def flush(self) -> bool:
        """Close it until the next round."""
        self.close()
        return True

    def close(self) -> None:
        """See Tracker."""
        if self._run is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                self._run.finish()
            self._run = None

    def _open(self) -> Any:
        trackio: Any = importlib.import_module("trackio")
        one = self._identity
        return contextvars.Context().run(  # it ends the context's last run: methods run side by side
            trackio.init,
            project=PROJECT,
            name=f"{one.run}-{one.method}-{one.id}",
            group=one.run,
            config=one.settings,
            resume="allow",
        )


_MENDS = {
    "tensorboard": "",
    "wandb": ": `wandb login`, or WANDB_MODE=offline to keep everything here",
    "trackio": ": check TRACKIO_SPACE_ID and TRACKIO_SERVER_URL, or unset them to keep everything here",
}
