"""The moments at which a process may be killed: of a round at the server, of a part at a site.

A moment is a call of one of the package's own functions, just before or just after it. The process kills itself there,
by SIGKILL: nothing of it runs any more, no handler, no finally.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedcmp.deployment import server_run, trainer
from fedcmp.deployment.exchange import Exchange
from fedcmp.deployment.register import Register
from fedcmp.deployment.sent_log import SentLog
from fedcmp.deployment.site_engine import SiteEngine
from fedcmp.deployment.site_evaluator import SitesEvaluator
from fedcmp.deployment.site_run import SiteRun
from fedcmp.federation.client_folder import ClientFolder, PartFile
from fedcmp.federation.kept_replies import KeptReplies
from fedcmp.federation.server import ServerSide
from fedcmp.runs.folder import RunFolder


class Moment(NamedTuple):
    """Before or after a call of a function; `most` is how many calls a short run makes of it, about."""

    owner: Any
    name: str
    before: bool
    most: int = 1


SERVER = {
    "the run's folder is begun": Moment(RunFolder, "begin", before=True),
    "a file is half written": Moment(Path, "replace", before=True, most=20),
    "a site is admitted": Moment(Register, "admit", before=False, most=3),
    "a site is placed": Moment(Register, "hold", before=False, most=3),
    "a round is open": Moment(ServerSide, "open", before=False, most=3),
    "a round's messages are sent": Moment(Exchange, "_send", before=False, most=40),
    "a reply arrives": Moment(KeptReplies, "keep", before=True, most=9),
    "a reply is kept": Moment(KeptReplies, "keep", before=False, most=9),
    "a reply is folded in": Moment(ServerSide, "receive", before=False, most=9),
    "a round is closing": Moment(ServerSide, "close", before=True, most=3),
    "a round is closed": Moment(ServerSide, "close", before=False, most=3),
    "sites judge": Moment(SitesEvaluator, "_record", before=True, most=4),
    "the records are written": Moment(RunFolder, "log", before=False, most=4),
    "a checkpoint is half written": Moment(RunFolder, "_write_state", before=True, most=3),
    "a checkpoint is written": Moment(RunFolder, "save", before=False, most=3),
    "a round is settled": Moment(ServerSide, "settled", before=False, most=3),
    "the run is finishing": Moment(RunFolder, "finish", before=True),
    "the run is finished": Moment(RunFolder, "finish", before=False),
    "what was trained is handed over": Moment(server_run, "hand_over", before=False),
}
SITE = {
    "pairs are prepared": Moment(trainer, "prepare_site", before=True, most=2),
    "a file is half written": Moment(Path, "replace", before=True, most=20),
    "the recipe is kept": Moment(SiteRun, "accept", before=False),
    "its place is kept": Moment(SiteRun, "place", before=False),
    "the model is loaded": Moment(trainer, "load_language", before=False),
    "a step is taken": Moment(trainer.Trainer, "_step", before=False, most=12),
    "the middle of a part is half saved": Moment(PartFile, "save", before=True, most=9),
    "the middle of a part is saved": Moment(PartFile, "save", before=False, most=9),
    "a part is at its end": Moment(ClientFolder, "save", before=True, most=3),
    "its state is saved": Moment(ClientFolder, "save", before=False, most=3),
    "the reply is ready": Moment(SiteRun, "keep_reply", before=True, most=3),
    "the reply is kept": Moment(SiteRun, "keep_reply", before=False, most=3),
    "it judges": Moment(SiteEngine, "judge", before=True, most=4),
    "what was trained is half kept": Moment(RunFolder, "save", before=True),
    "what was trained is kept": Moment(trainer, "keep_model", before=False),
    "an answer is noted": Moment(SentLog, "add", before=False, most=9),
}


def strike(moment: Moment, count: int, number: int, fired: Path) -> None:
    """Let this process kill itself at a moment.

    Args:
        moment: which.
        count: how many times it comes before this one, this one included.
        number: of the fault, written to `fired` before.
        fired: a file.
    """
    original, left = getattr(moment.owner, moment.name), [count]

    def reached() -> None:
        left[0] -= 1
        if left[0] == 0:
            note(fired, number)
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(*arguments: Any, **named: Any) -> Any:
        if moment.before:
            reached()
        given = original(*arguments, **named)
        if not moment.before:
            reached()
        return given

    setattr(moment.owner, moment.name, watched)


def note(path: Path, number: int) -> None:
    """Add a line with a number to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{number}\n")


def noted(path: Path) -> Sequence[int]:
    """Return the numbers that were noted."""
    return [int(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
