"""The best round of a run: the evaluated one with the lowest held-out caption loss, the first of equals.

The loss of a round is the mean over the models that were evaluated: one global model, or all clients' own of a
local-only run, which therefore have one best round together. Rounds whose loss is not finite do not count. Needs no
torch.
"""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from fedcmp.runs.fields import number, table, whole
from fedcmp.runs.records import Evaluation

KEY = "best"  # in state.json


@dataclass(frozen=True)
class Best:
    """The best round so far.

    Attributes:
        round: its number.
        loss: mean held-out caption loss, nats per token.
        before: the round that was best until then, None where there was none: a run that falls back by one round may
            need it again.
    """

    round: int
    loss: float
    before: int | None = None

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> "Best | None":
        """Return what a checkpoint's state says; None where it says nothing, as those of version 0.2 and before."""
        noted = table(state.get(KEY))
        round_, loss = whole(noted.get("round")), number(noted.get("loss"))
        return None if round_ is None or loss is None else cls(round_, loss, whole(noted.get("before")))

    @classmethod
    def after(cls, best: Self | None, round_: int, evaluations: Iterable[Evaluation]) -> "Best | None":
        """Return the best round once one more was evaluated.

        Args:
            best: before that.
            round_: the number of the round.
            evaluations: its records.
        """
        losses = [line.caption_loss for line in evaluations]
        known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
        if not known or len(known) < len(losses):
            return best
        loss = statistics.fmean(known)
        if best is not None and best.loss <= loss:
            return best
        return cls(round_, loss, best.round if best else None)

    @property
    def rounds(self) -> set[int]:
        """Return the rounds whose checkpoints are kept for it."""
        return {self.round} | ({self.before} if self.before is not None else set())

    def state(self) -> dict[str, Any]:
        """Return its entry in a checkpoint's state."""
        return {KEY: {"round": self.round, "loss": self.loss, "before": self.before}}
