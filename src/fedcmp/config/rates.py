"""The learning rate of a method for which a recipe names none.

    eta = 1e-3 * sqrt(2180 / T), at least 1e-3 and at most 8e-3, times the factors of the method's rule and step
T: optimiser steps that one learner takes in the whole run. The anchor is LLaVA's own pretraining of a projector (AdamW,
1e-3, 558,128 pairs in batches of 256, hence 2,180 steps); fewer steps need longer ones. A rule for which the best rate
is another than FedAvg's states its factor (aggregation/registry.py), a step for which it is another than AdamW's too
(client/steps/registry.py). docs/methods.md has what it was checked on.
"""

import math

from fedcmp import aggregation
from fedcmp.client.steps import describe_step
from fedcmp.config.methods import Chosen

ANCHOR_RATE, ANCHOR_STEPS = 1e-3, 2180
HIGHEST_RATE = 8e-3


def default_rate(steps: float, *, chosen: Chosen | None = None, factor: float = 1.0) -> float:
    """Return the peak rate for a learner without one.

    Args:
        steps: optimiser steps in the whole run, the mean over a method's learners; above 0.
        chosen: server rule, objective and step of a method; its aggregator is "" where it has no server.
        factor: of the recipe's own (training.rate_factor).

    Returns:
        The rate, rounded to two digits: it is shown, and typed again.
    """
    rate = min(ANCHOR_RATE * math.sqrt(max(1.0, ANCHOR_STEPS / steps)), HIGHEST_RATE)
    own = 1.0
    if chosen is not None:
        own *= aggregation.describe(chosen.aggregator).rate_factor if chosen.aggregator else 1.0
        own *= describe_step(chosen.step).rate_factor
    return float(f"{rate * own * factor:.2g}")
