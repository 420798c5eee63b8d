"""How much one client counts: by how far it moved, and by how well its visual tokens match the captions.

    m_k = ||theta_k - theta_g||^2     over all trained tensors, at most  limit = cap * (median of last round's m_k)
    s_k = m_k exp(-gamma E_k)         "both";   m_k: "magnitude";   exp(-gamma E_k): "quality";   n_k: "none"
Implements docs/methods.md, Fed-CMP, reliability.  The limit is known before the round, and broadcast; so s_k needs
nothing of the other clients, and the rule stays a sum.
"""

import math
import statistics
from collections.abc import Sequence

ARMS = ("both", "magnitude", "quality", "none")
LARGEST_GAMMA = 300.0  # exp(-2 gamma) must stay above float64's smallest number


class Reliability:
    """Scores clients, and remembers the median magnitude of the last round.

    Args:
        arm: one of ARMS.
        gamma: how sharply the alignment error counts.
        magnitude_cap: the most that m_k counts, in medians of the previous round; infinity for no cap.

    Attributes:
        median: the previous round's median of m_k (their mean, where only sums were known), or None before there is
            one.
    """

    def __init__(self, arm: str, *, gamma: float, magnitude_cap: float) -> None:
        self.uses_magnitude = arm in ("both", "magnitude")
        self.uses_quality = arm in ("both", "quality")
        self.median: float | None = None
        self._gamma = gamma
        self._cap = magnitude_cap

    @property
    def limit(self) -> float:
        """The most that a client's m_k counts in this round; infinity in the first."""
        return math.inf if self.median is None or math.isinf(self._cap) else self._cap * self.median

    def score(self, *, magnitude: float, alignment_error: float, count: int, limit: float) -> float:
        """Return s_k >= 0; 0 only for a client that did not move.

        Args:
            magnitude: m_k >= 0.
            alignment_error: E_k in [0, 2].
            count: n_k.
            limit: the round's limit on m_k. Where it is 0, nobody would have a score, and everybody has n_k.
        """
        if not (self.uses_magnitude or self.uses_quality) or (self.uses_magnitude and limit == 0):
            return float(count)
        score = min(magnitude, limit) if self.uses_magnitude else 1.0
        return score * math.exp(-self._gamma * alignment_error) if self.uses_quality else score

    def remember(self, magnitudes: Sequence[float], *, mean: float) -> None:
        """Make this round's median the one that caps the next round.

        Args:
            magnitudes: m_k of each client; empty where only their sum is known.
            mean: their mean, which takes the median's place there.
        """
        self.median = statistics.median(magnitudes) if magnitudes else mean
