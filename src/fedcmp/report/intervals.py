"""How sure it is that one method's caption loss is lower than another's: the difference and its 95 % interval.

    several seeds   t interval of the mean difference over the seeds that both ran
    one seed        paired bootstrap over the held-out captions (runs/held_out.py): both methods' losses of a caption
                    are drawn together, the difference is  sum(rival - best) / sum(tokens)  of the captions drawn

The best method was chosen by the same figures and is compared with every rival, so the level is that of all comparisons
together (Bonferroni). A bootstrap says what other captions would change, not what another seed would.
Shapes: N captions, D draws.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.stats  # type: ignore[import-untyped]  # SciPy ships no types
from numpy.typing import NDArray

from fedcmp.report.methods import CAPTION_LOSS, MethodEntry
from fedcmp.runs.reading import Run

LEVEL = 0.95
_DRAWS, _PARTS = 4000, 20


@dataclass(frozen=True)
class Difference:
    """How much lower one method's caption loss is than a rival's; without an interval where nothing tells its noise.

    `over` says what the interval is taken over and `count` how many of it there are.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    over: Literal["", "seeds", "captions"] = ""
    count: int = 1

    @property
    def known(self) -> bool:
        """Tell whether there is an interval."""
        return self.low is not None

    @property
    def clear(self) -> bool:
        """Tell whether the whole interval is above zero."""
        return self.low is not None and self.low > 0

    @property
    def interval(self) -> str:
        """Return the interval in words, "" without one."""
        return "" if self.low is None else f"{CAPTION_LOSS.write(self.low)} to {CAPTION_LOSS.write(self.high)}"

    @property
    def basis(self) -> str:
        """Return what the interval is taken over, in words."""
        if self.over == "seeds":
            return f"t interval over {self.count} seeds"
        return f"paired bootstrap over {self.count} held-out captions, one seed" if self.over else ""


def differences(best: MethodEntry, rivals: Sequence[MethodEntry]) -> dict[str, Difference]:
    """Compare one method with every rival: seed by seed, or caption by caption where both ran one common seed.

    Args:
        best: the method of the lowest loss.
        rivals: with a finite loss each.

    Returns:
        A rival's label -> its loss minus the best one's.
    """
    ours = runs_by_seed(best)
    alpha = (1 - LEVEL) / max(len(rivals), 1)
    found: dict[str, Difference] = {}
    for rival in rivals:
        theirs = runs_by_seed(rival)
        seeds = [seed for seed in ours if seed in theirs]
        gaps = [theirs[seed][1] - ours[seed][1] for seed in seeds]
        if len(gaps) > 1:
            found[rival.label] = _over_seeds(gaps, alpha)
        elif len(gaps) == 1:
            found[rival.label] = over_captions(gaps[0], ours[seeds[0]][0], theirs[seeds[0]][0], alpha)
        else:
            means = [statistics.fmean(loss for _, loss in known.values()) for known in (theirs, ours)]
            found[rival.label] = Difference(means[0] - means[1])
    return found


def runs_by_seed(method: MethodEntry) -> dict[int | None, tuple[Run, float]]:
    """Return seed -> run and its final caption loss, where it is finite."""
    found = {}
    for run in method.counted:
        figure = MethodEntry(method.label, method.name, (run,)).value(CAPTION_LOSS)
        if figure is not None and math.isfinite(figure.mean):
            found[run.seed] = run, figure.mean
    return found


def _over_seeds(gaps: Sequence[float], alpha: float) -> Difference:
    mean, count = statistics.fmean(gaps), len(gaps)
    half = float(scipy.stats.t.ppf(1 - alpha / 2, count - 1)) * statistics.stdev(gaps) / math.sqrt(count)
    return Difference(mean, mean - half, mean + half, "seeds", count)


def over_captions(gap: float, best: Run, rival: Run, alpha: float, *, against: str = "global") -> Difference:
    """Compare two models caption by caption; without an interval where their captions' losses are not known.

    Args:
        gap: the difference of the two losses as they were measured.
        best: the run whose global model is compared.
        rival: the other run.
        alpha: what the interval leaves out, on both sides together.
        against: which of the rival's models, "global" or "blind".
    """
    ours, theirs = best.held_out, rival.held_out
    if ours is None or theirs is None or ours.tokens != theirs.tokens or ours.split != theirs.split:
        return Difference(gap)
    stale = ours.round != best.round_measured or (against == "global" and theirs.round != rival.round_measured)
    if stale or "global" not in ours.losses or against not in theirs.losses:
        return Difference(gap)
    gaps_N = np.array(theirs.losses[against]) - np.array(ours.losses["global"])
    low, high = np.quantile(bootstrap(gaps_N, np.array(ours.tokens)), (alpha / 2, 1 - alpha / 2))
    return Difference(gap, float(low), float(high), "captions", len(gaps_N))


def bootstrap(gaps_N: NDArray[np.float64], tokens_N: NDArray[np.int64], *, draws: int = _DRAWS) -> NDArray[np.float64]:
    """Draw captions with replacement, and return the (D,) differences per token; the same for the same input."""
    both_N2 = np.stack([gaps_N, tokens_N.astype(np.float64)], axis=1)
    times_DN = _times_drawn(len(gaps_N), draws)
    sums_D2 = np.concatenate([part.astype(np.float64) @ both_N2 for part in np.array_split(times_DN, _PARTS)])
    return np.asarray(sums_D2[:, 0] / sums_D2[:, 1])


@lru_cache(maxsize=1)
def _times_drawn(captions: int, draws: int) -> NDArray[np.uint8]:
    """Return how often each caption is drawn, (D, N): the same draws for every rival."""
    generator = np.random.default_rng(0)
    drawn = (generator.integers(captions, size=captions) for _ in range(draws))
    return np.stack([np.bincount(one, minlength=captions).astype(np.uint8) for one in drawn])
