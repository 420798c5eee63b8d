"""The arithmetic of a chart, apart from any drawing: ranges that are cut where they must be, places for labels."""

import math
from collections.abc import Sequence


def padded_range(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Return the range of the values, widened by a share on both sides, never empty."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    pad = (high - low) * share or max(abs(high) * 0.05, 1e-6)
    return low - pad, high + pad


def cut_range(values: Sequence[float], anchors: Sequence[float], reach: float = 2.2) -> tuple[float, float]:
    """Return the range of the values, cut where a few high ones would flatten the rest.

    Args:
        values: everything that is drawn.
        anchors: what must be seen well (final values, reference levels).
        reach: how far above the lowest value the chart goes at most, in ranges of the anchors.

    Returns:
        (low, high); values above `high` run out of the chart.
    """
    finite = [value for value in values if math.isfinite(value)]
    firm = [value for value in anchors if math.isfinite(value)]
    low, high = padded_range(finite + firm)
    if not finite or not firm:
        return low, high
    bottom = min(finite + firm)
    span = max(firm) - bottom
    limit = bottom + reach * span
    return (bottom - 0.06 * reach * span, limit) if span > 0 and max(finite) > limit * (1 + 1e-9) else (low, high)


def lower_part(values: Sequence[float], share: float = 0.8) -> list[float]:
    """Return the lowest values, a share of all, at least two: what a cut range must not lose of a falling curve."""
    return sorted(values)[: max(2, math.ceil(share * len(values)))]


def place_labels(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels along one axis as little as possible so that neighbours keep a gap.

    The least-squares solution: with z_i = y_i - i * gap (y sorted) the z must not fall, which pooling adjacent
    violators solves; clipping it to the box keeps it the best one inside the box.

    Args:
        wanted: where each label would like to be, in any order.
        gap: least distance between two labels.
        low: lowest place allowed.
        high: highest place allowed; where the labels do not all fit, they overrun it by what is missing.

    Returns:
        A place for each label, in the order given.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[tuple[float, int]] = []  # (sum of z, labels) of runs of labels that share one z
    for place, index in enumerate(order):
        total, count = wanted[index] - place * gap, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            total, count = total + blocks[-1][0], count + blocks[-1][1]
            blocks.pop()
        blocks.append((total, count))
    shared = [total / count for total, count in blocks for _ in range(count)]
    top = max(low, high - (len(wanted) - 1) * gap)
    places = [0.0] * len(wanted)
    for place, index in enumerate(order):
        places[index] = min(max(shared[place], low), top) + place * gap
    return places
