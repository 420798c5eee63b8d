"""The statistics of a study: error bars over seeds, paired differences, Holm's correction, ranks, shares of a distance.

For values x_1..x_n of one method at n seeds, and a rival's y_1..y_n at the same seeds:

    standard error       e(x) = sqrt( sum (x_i - mean)^2 / (n - 1) ) / sqrt(n)
    paired difference    d_i = y_i - x_i,  mean(d) ± e(d),  p of the two-sided paired t-test (n - 1 degrees of freedom)
    Holm (1979)          sorted p_(1) <= .. <= p_(m):  adjusted p_(i) = min(1, max_{j<=i} (m - j + 1) p_(j))
    rank                 1 = best; equal scores share the mean of their places
    informative          centralized - blind > 2 sqrt( 2 noise^2 + e(centralized)^2 )
    distance closed      R = mean(a) / mean(b),  a_i = start_i - x_i,  b_i = start_i - end_i,
                         e(R) = e(a - R b) / |mean(b)|                   (the linearised error of a ratio estimator)
    oscillation          sum over rounds of max(0, what the metric lost since the round before)

One seed gives a mean without an error, and nothing is claimed from it. A value that is not finite (a run that diverged)
makes the mean not finite: a method does not gain from losing its bad seeds.
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import scipy.stats  # type: ignore[import-untyped]  # SciPy ships no types

_EQUAL = 1e-12  # differences whose spread is below this share of the values are one and the same number


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its standard error (None for a single seed), and the number of seeds."""

    mean: float
    error: float | None = None
    count: int = 1

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Summarise one value or more.

        Args:
            values: one a seed, at least one; a value that is not finite makes the mean NaN.

        Raises:
            ValueError: no value.
        """
        if not values:
            raise ValueError("no value to take the mean of; leave the estimate out instead")
        if not all(map(math.isfinite, values)):
            return cls(math.nan, None, len(values))
        return cls(statistics.fmean(values), standard_error(values), len(values))

    @property
    def finite(self) -> bool:
        """Tell whether every seed gave a number."""
        return math.isfinite(self.mean)


def standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of the mean, None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)


@dataclass(frozen=True)
class PairedDifference:
    """Rival minus ours over the seeds that both ran; positive where ours is lower.

    `error` is None for one seed; `p` is None where the t-test is not defined: one seed, or differences that are all the
    same number but not zero (their spread is then zero, which no sample of seeds proves).
    """

    mean: float
    error: float | None
    count: int
    p: float | None

    @classmethod
    def between(cls, ours: Mapping[int, float], rival: Mapping[int, float]) -> "PairedDifference | None":
        """Compare seed by seed.

        Args:
            ours: seed -> value.
            rival: seed -> value, in the same unit.

        Returns:
            The difference, or None without a seed that both ran. NaN where a run of either diverged.
        """
        seeds = sorted(ours.keys() & rival.keys())
        if not seeds:
            return None
        mine, theirs = [ours[seed] for seed in seeds], [rival[seed] for seed in seeds]
        if not all(map(math.isfinite, (*mine, *theirs))):
            return cls(math.nan, None, len(seeds), None)
        gaps = [y - x for x, y in zip(mine, theirs, strict=True)]
        mean, error = statistics.fmean(gaps), standard_error(gaps)
        if error is None:
            return cls(mean, None, 1, None)
        size = max(abs(value) for value in (*mine, *theirs))
        if error <= _EQUAL * size:
            same = abs(mean) <= _EQUAL * size
            return cls(0.0 if same else mean, 0.0, len(seeds), 1.0 if same else None)
        return cls(mean, error, len(seeds), float(scipy.stats.ttest_rel(theirs, mine).pvalue))

    @property
    def beyond_two_errors(self) -> bool:
        """Tell whether ours is lower by more than two standard errors; never with one seed, never by nothing."""
        return self.error is not None and self.mean > 0 and self.mean > 2 * self.error

    @property
    def margin(self) -> float:
        """Return the difference less two standard errors: what is left of the lead; the mean alone for one seed."""
        return self.mean - 2 * (self.error or 0.0)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values of one family of comparisons by Holm's step-down rule.

    Args:
        p_values: one a comparison; None where no test could be made, which then does not count in the family.

    Returns:
        The adjusted p-values in the order given, None where None was given.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, index) in enumerate(known):
        highest = max(highest, (len(known) - place) * p)
        adjusted[index] = min(1.0, highest)
    return adjusted


def ranks(scores: Sequence[float], *, higher_is_better: bool = True) -> list[float]:
    """Rank scores, 1 the best; equal ones share the mean of their places, what is not finite comes last."""
    worst = -math.inf
    keys = [(s if higher_is_better else -s) if math.isfinite(s) else worst for s in scores]
    return [float(rank) for rank in scipy.stats.rankdata([-key for key in keys], method="average")]


def mean_ranks(scores: Mapping[str, Mapping[str, Mapping[int, float]]]) -> dict[str, dict[int, float]]:
    """Rank methods on each suite at each seed, and average over the suites.

    Args:
        scores: method -> suite -> seed -> score, higher better. A method takes part at the seeds at which it has every
            suite that any method has.

    Returns:
        Method -> seed -> mean rank among the methods that take part at that seed: at the seeds that all methods with
        any ran, so that each is ranked in the same field; where there is no such seed, at all at which two took part.
    """
    suites = sorted({suite for by_suite in scores.values() for suite in by_suite})
    found: dict[str, dict[int, float]] = {method: {} for method in scores}
    if not suites:
        return found
    whole = {
        method: frozenset.intersection(*(frozenset(by_suite.get(suite, ())) for suite in suites))
        for method, by_suite in scores.items()
    }
    ran = [seeds for seeds in whole.values() if seeds]
    shared = frozenset.intersection(*ran) if ran else frozenset()
    for seed in sorted(shared or frozenset().union(*ran)):
        present = [method for method, seeds in whole.items() if seed in seeds]
        by_suite = [ranks([scores[method][suite][seed] for method in present]) for suite in suites]
        for place, method in enumerate(present if len(present) > 1 else ()):
            found[method][seed] = statistics.fmean(column[place] for column in by_suite)
    return found


def informative(centralized: Estimate, blind: float, noise: float) -> bool:
    """Tell whether a suite measures anything: the centralized model must beat the blind one beyond the noise.

    Args:
        centralized: score over seeds.
        blind: score of the same LLM without images.
        noise: standard error of one score over the suite's items. It counts twice, once for each of the two scores,
            as seeds do not average it out: all seeds are asked the same items.
    """
    return centralized.mean - blind > 2 * noise_of_difference(centralized, noise)


def noise_of_difference(centralized: Estimate, noise: float) -> float:
    """Return the standard error of centralized minus blind: both scores' items, and the centralized model's seeds."""
    return math.sqrt(2 * noise**2 + (centralized.error or 0.0) ** 2)


def distance_closed(
    values: Mapping[int, float], start: Mapping[int, float], end: Mapping[int, float]
) -> Estimate | None:
    """Estimate the share of the distance from `start` to `end` that `values` close, over the seeds common to all.

    Args:
        values: seed -> value of the method.
        start: seed -> value of what closes nothing (FedAvg).
        end: seed -> value of what closes all (centralized).

    Returns:
        The share (1 = all) with its error, or None without a common seed, with a value that is not finite, or where the
        distance itself is not positive by more than two standard errors (a positive one is enough at one seed).
    """
    seeds = sorted(values.keys() & start.keys() & end.keys())
    if not seeds:
        return None
    gained = [start[seed] - values[seed] for seed in seeds]
    whole = [start[seed] - end[seed] for seed in seeds]
    if not all(map(math.isfinite, (*gained, *whole))):
        return None
    distance = statistics.fmean(whole)
    if distance <= 0 or distance <= 2 * (standard_error(whole) or 0.0):
        return None
    share = statistics.fmean(gained) / distance
    error = standard_error([g - share * w for g, w in zip(gained, whole, strict=True)])
    return Estimate(share, None if error is None else error / distance, len(seeds))


def oscillation(values: Sequence[float], *, higher_is_better: bool) -> float:
    """Sum what a metric lost from one evaluated round to the next; 0 for a curve that only improves.

    Args:
        values: in the order of the rounds.
        higher_is_better: drops count if so, rises if not.
    """
    turn = 1 if higher_is_better else -1
    return sum(max(0.0, turn * (a - b)) for a, b in itertools.pairwise(values))
