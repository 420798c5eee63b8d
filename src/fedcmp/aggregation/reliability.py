"""How much one client counts: by how far it moved, and by how well its visual tokens match the captions.

    m_k = ||theta_k - theta_g||^2     over the whole projector, at most  cap * (median of the previous round's m_k)
    s_k = m_k exp(-gamma E_k)         "both";   m_k: "magnitude";   exp(-gamma E_k): "quality";   n_k: "none"
Implements docs/methods.md, Fed-CMP, reliability.  s_k needs nothing of the other clients, so the rule stays a sum.
"""

import math
import statistics

ARMS = ("both", "magnitude", "quality", "none")
LARGEST_GAMMA = 300.0  # exp(-2 gamma) must stay above float64's smallest number


class Reliability:
    """Scores clients, and remembers the median magnitude of the last round.

    Args:
        arm: one of ARMS.
        gamma: how sharply the alignment error counts.
        magnitude_cap: the most that m_k counts, in medians of the previous round; infinity for no cap.

    Attributes:
        median: the previous round's median of m_k, or None before there is one.
    """

    def __init__(self, arm: str, *, gamma: float, magnitude_cap: float) -> None:
        self.uses_magnitude = arm in ("both", "magnitude")
        self.uses_quality = arm in ("both", "quality")
        self.median: float | None = None
        self._arm = arm
        self._gamma = gamma
        self._cap = magnitude_cap
        self._magnitudes: list[float] = []

    @property
    def limit(self) -> float:
        """The most that a client's m_k counts in this round; infinity in the first."""
        return math.inf if self.median is None or math.isinf(self._cap) else self._cap * self.median

    def begin(self) -> None:
        """Forget the magnitudes of an unfinished round."""
        self._magnitudes = []

    def score(self, *, magnitude: float, alignment_error: float, count: int) -> float:
        """Return s_k and note m_k for the next round's cap.

        Args:
            magnitude: m_k >= 0.
            alignment_error: E_k in [0, 2].
            count: n_k.

        Returns:
            s_k >= 0.
        """
        self._magnitudes.append(magnitude)
        if self._arm == "none":
            return float(count)
        score = min(magnitude, self.limit) if self.uses_magnitude else 1.0
        return score * math.exp(-self._gamma * alignment_error) if self.uses_quality else score

    def remember(self) -> None:
        """Make this round's median the one that caps the next round."""
        self.median = statistics.median(self._magnitudes)
