"""The learning rate over the steps of a run: linear warm-up, then a cosine to zero (as LLaVA's pretraining)."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Rates of every step.

    Attributes:
        peak: the highest rate.
        warmup_ratio: share of the steps in which the rate rises.
        span: "run": one cosine over all parts; "round": a new one in each part.
    """

    peak: float
    warmup_ratio: float
    span: Literal["run", "round"]

    def rates(self, steps_of_parts: list[int], part: int) -> list[float]:
        """The rates of one part's steps.

        Args:
            steps_of_parts: optimiser steps that the learner takes in each of its R parts.
            part: which one, from 0.

        Returns:
            One rate a step.
        """
        if self.span == "round":
            before, total = 0, steps_of_parts[part]
        else:
            before, total = sum(steps_of_parts[:part]), sum(steps_of_parts)
        return [self._rate(before + step, total) for step in range(steps_of_parts[part])]

    def _rate(self, step: int, total: int) -> float:
        warmup = math.ceil(self.warmup_ratio * total)
        if step < warmup:
            return self.peak * ((step + 1) / warmup)  # the first step already learns
        progress = (step - warmup) / max(1, total - warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * progress))
