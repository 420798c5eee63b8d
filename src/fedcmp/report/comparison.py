"""The comparison that a report shows: its methods, their colours, shares of a distance, and which method wins.

    distance closed = (from - loss) / (from - centralized),   from = FedAvg's loss, or the one without seeing

without seeing = the lower of the blind LLM's loss and the method's own on shuffled images: what it reaches by the
captions' style alone, its projector being fed another image than the caption describes. 1 is as good as pooled data, 0
no better than where the distance starts, below 0 worse.

A method wins when it has at least FEWEST held-out pairs behind it, has learned something (its loss is clearly below the
blind LLM's), and is lower than every other federated method by more than their difference's interval (intervals.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from fedcmp.report.intervals import LEVEL, Difference, differences, over_captions, runs_by_seed
from fedcmp.report.methods import (
    CAPTION_LOSS,
    SEED_NOISE,
    SHUFFLED,
    MethodEntry,
    gather,
    reference_value,
)
from fedcmp.report.palette import Palette
from fedcmp.report.toy import toy_line
from fedcmp.runs.reading import Run

BLIND, INITIAL = "blind", "initial"
FEWEST = 100  # held-out pairs: with fewer, a handful of captions decides
LEARNED = 0.02  # of the blind LLM's loss: a model must be this much below it


@dataclass(frozen=True)
class Comparison:
    """Methods and references, and what is said about them as a whole."""

    methods: tuple[MethodEntry, ...]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Comparison":
        """Gather the runs of one folder."""
        return cls(tuple(gather(runs)))

    @property
    def federated(self) -> tuple[MethodEntry, ...]:
        """Return the methods that compete with each other, best caption loss first."""
        return tuple(method for method in self.methods if method.federated)

    @property
    def best(self) -> MethodEntry | None:
        """Return the federated method of the lowest caption loss; among finished ones, as soon as there is one."""
        measured = [method for method in self.federated if self.loss(method) is not None]
        finished = [method for method in measured if any(run.finished for run in method.runs)]
        return next(iter(finished or measured), None)

    @cached_property
    def decision(self) -> "Decision":
        """Which method wins, or why none does."""
        return decide(self)

    @property
    def winner(self) -> MethodEntry | None:
        """Return the federated method that wins beyond the noise, None where none does."""
        return self.decision.best if self.decision.kind == "winner" else None

    @property
    def toy(self) -> str:
        """Return what of the runs is the embedded toy world, "" where nothing is."""
        return toy_line(run.recipe for method in self.methods for run in method.runs)

    @property
    def seeds(self) -> list[int]:
        """Return all seeds, ascending."""
        return sorted({run.seed for method in self.methods for run in method.runs if run.seed is not None})

    @property
    def palette(self) -> Palette:
        """Return the colours of the methods, the same for every figure."""
        return Palette.of([method.label for method in self.methods])

    def named(self, name: str) -> MethodEntry | None:
        """Return the method of that name (its best setting where there are several), None where it was not run."""
        return next((method for method in self.methods if method.name == name), None)

    def loss(self, method: MethodEntry | None) -> float | None:
        """Return a method's final caption loss, None where it was not measured or is not finite."""
        figure = method.value(CAPTION_LOSS) if method else None
        return figure.mean if figure is not None and math.isfinite(figure.mean) else None

    def reference_loss(self, model: str) -> float | None:
        """Return the caption loss of a model that does not learn."""
        figure = reference_value(self.methods, model, CAPTION_LOSS)
        return figure.mean if figure is not None and math.isfinite(figure.mean) else None

    def closed(self, loss: float | None, start: float | None) -> float | None:
        """Return the share of the distance from `start` to the centralized loss that a loss closes, None for none."""
        end = self.loss(self.named("centralized"))
        if loss is None or start is None or end is None or start - end < SEED_NOISE:
            return None
        return (start - loss) / (start - end)

    def closed_from_fedavg(self, method: MethodEntry) -> float | None:
        """Return the share of FedAvg's distance to centralized training that a federated method closes."""
        if not method.federated or method.name == "fedavg":
            return None
        return self.closed(self.loss(method), self.loss(self.named("fedavg")))

    def unseeing_loss(self, method: MethodEntry) -> float | None:
        """Return the lower of the blind LLM's loss and the method's own on shuffled images, as far as they are known.

        It is None without the blind LLM's.
        """
        blind, shuffled = self.reference_loss(BLIND), method.value(SHUFFLED)
        if blind is None or shuffled is None or not math.isfinite(shuffled.mean):
            return blind
        return min(blind, shuffled.mean)

    def closed_from_unseeing(self, method: MethodEntry) -> float | None:
        """Return the share of the distance from not seeing the image to centralized training that a method closes."""
        return None if method.name == "centralized" else self.closed(self.loss(method), self.unseeing_loss(method))

    @property
    def shuffled(self) -> bool:
        """Tell whether any method was measured on shuffled images; runs of version 0.2 and before were not."""
        return any(method.value(SHUFFLED) is not None for method in self.methods)


@dataclass(frozen=True)
class Decision:
    """Which federated method is best, and whether that can be said.

    `kind`: "winner"; "tied" with others; "unknown" (nothing tells the noise of the differences); "nothing learned";
    "too few" held-out pairs; "none" without a federated figure. `gaps`: every rival's loss minus the best one's.
    """

    kind: Literal["winner", "tied", "unknown", "nothing learned", "too few", "none"]
    best: MethodEntry | None = None
    tied: tuple[MethodEntry, ...] = ()
    behind: tuple[MethodEntry, ...] = ()
    gaps: dict[str, Difference] = field(default_factory=dict)
    pairs: int | None = None


def decide(comparison: Comparison) -> Decision:
    """Judge the federated methods of a comparison."""
    best = comparison.best
    if best is None:
        return Decision("none")
    rivals = [method for method in comparison.federated if method is not best and comparison.loss(method) is not None]
    gaps = differences(best, rivals)
    world = all(run.data_format == "world" for method in (best, *rivals) for run in method.runs)

    def clear(rival: MethodEntry) -> bool:
        gap = gaps[rival.label]
        # one seed of the embedded world: what other seeds do is known, and captions do not show it
        return gap.clear and not (world and gap.over == "captions" and gap.mean <= SEED_NOISE)

    behind = tuple(method for method in rivals if clear(method))
    tied = tuple(method for method in rivals if method not in behind)
    pairs = min((count for method in (best, *rivals) if (count := method.held_out_pairs) is not None), default=None)
    kind: Literal["winner", "tied", "unknown", "nothing learned", "too few"] = "winner"
    if pairs is not None and pairs < FEWEST:
        kind = "too few"
    elif not _learned(comparison, best):
        kind = "nothing learned"
    elif tied:
        kind = "tied" if all(gaps[method.label].known for method in tied) else "unknown"
    return Decision(kind, best, tied, behind, gaps, pairs)


def _learned(comparison: Comparison, best: MethodEntry) -> bool:
    """Tell whether the best method's loss is clearly below the blind LLM's; yes where that was not measured."""
    loss, blind = comparison.loss(best), comparison.reference_loss(BLIND)
    if loss is None or blind is None:
        return True
    if blind - loss <= LEARNED * blind:
        return False
    known = list(runs_by_seed(best).values())
    if len(known) > 1:
        return True
    run = known[0][0]
    gap = over_captions(blind - loss, run, run, 1 - LEVEL, against=BLIND)
    return gap.clear or not gap.known
