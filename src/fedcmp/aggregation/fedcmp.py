"""Fed-CMP, the paper's rule: reliability-weighted fusion in a canonical space, orthogonality-preserved momentum.

Implements docs/methods.md, Fed-CMP, by sums over clients, per weight matrix:
    Wbar = sum_k a_k W_k                                   a_k: reliability.py;   per parameter: fisher.py
    G    = sum_k W_k W_k^T = U S^2 U^T                     spectrum.py
    W    = U_t (S_t / S) U^T Wbar  [+ (I - U U^T) Wbar]    momentum.py;   coefficients re-expressed: U_t U_t^T Wbar
or the same on the updates W_k - W_g, added to W_g.  Tensors that are no matrix: their a_k-weighted mean.
A client adds to the sums:  s_k Delta_k and W_k W_k^T, with s_k, m_k and n_k; they add up in any tree.
Shapes: K clients, O outputs, I inputs (with the bias column), R kept directions.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from fedcmp.aggregation.change import exact
from fedcmp.aggregation.checks import check_alignment_error, check_tensors
from fedcmp.aggregation.fusion import CanonicalFusion, MeanFusion, RawMomentum
from fedcmp.aggregation.matrices import Matrix, find_matrices
from fedcmp.aggregation.momentum import Momentum
from fedcmp.aggregation.options import require_choice, require_flag, require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.reliability import ARMS, LARGEST_GAMMA, Reliability
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.sums import MeanUpdate
from fedcmp.aggregation.update import ClientUpdate, Public

PAPER = "A Step Toward Federated Pretraining of Multimodal Large Language Models, arXiv 2603.26786"

# The rule as the paper describes it; these are also the defaults of the class.
PUBLISHED: dict[str, object] = {
    "gamma": 1.0,
    "magnitude_cap": math.inf,
    "reliability": "both",
    "space": "weights",
    "rank": "full",
    "matching": "sign",
    "bias": "column",
    "momentum": True,
    "coefficients": "round",
    "scale_momentum": True,
    "basis": "canonical",
}


@register(
    "fedcmp",
    summary="Fed-CMP as published, as far as its text tells",
    paper=PAPER,
    defaults=PUBLISHED,
    rate_factor=0.25,  # tuned .001, where FedAvg has .003 to .005 (docs/results.md)
)
class FedCMP(SumRule):
    """Fed-CMP with all its options; the defaults are the published rule.

    Args:
        gamma: how sharply the alignment error counts, in [0, 300].
        magnitude_cap: the most that a client's squared movement counts, in medians of the previous round; inf: no cap.
        reliability: what a client's weight is made of: "both", "magnitude", "quality", or "none" (sample counts).
        space: "weights" fuses the matrices themselves, "updates" what the clients changed in them.
        rank: directions of the canonical basis: "full", a number, or the share of the energy in (0, 1) that they hold.
        matching: how a new basis meets the last one: "sign", or "procrustes" (rotation inside the subspace).
        tail: what lies outside a truncated basis: "drop", or "average" (kept, untouched by the momentum).
        bias: "column" makes a bias one more input column of its matrix, "average" leaves it to the weighted mean.
        momentum: mix bases (and scales) over rounds.
        coefficients: what acts with the mixed basis: "round", this round's in the new one, or "mixed", the weighted
            mean's re-expressed in the mixed one, which at full rank leaves the reliability weights alone.
        scale_momentum: whether scales are mixed too; idle with "procrustes" and with coefficients "mixed".
        beta_min: momentum where nothing has turned.
        beta_max: momentum approached as everything turns.
        kappa: how fast it grows with the divergence.
        basis: "canonical", or "none": reliability and momentum on the raw matrices.
        parameter_exponent: None, or p in [0, 2]: a client's weight on a parameter is also its second moment to the p.
        parameter_normalise: whether that power is divided by its mean over each tensor of a client, so that no client
            weighs more than its share over all parameters together.
        parameter_damping: share of the mean of that power that every parameter's weight gets.
        gram_dtype: precision of the products in the Gram sums, "float64", or "float32": faster, good to about 1e-5.

    Raises:
        ValueError: an option out of range, or options that contradict each other.
    """

    scalars: ClassVar[tuple[str, ...]] = (*SumRule.scalars, "magnitude")

    def __init__(
        self,
        *,
        gamma: float = 1.0,
        magnitude_cap: float = math.inf,
        reliability: str = "both",
        space: str = "weights",
        rank: str | int | float = "full",
        matching: str = "sign",
        tail: str = "drop",
        bias: str = "column",
        momentum: bool = True,
        coefficients: str = "round",
        scale_momentum: bool = True,
        beta_min: float = 0.5,
        beta_max: float = 0.9,
        kappa: float = 1.0,
        basis: str = "canonical",
        parameter_exponent: float | None = None,
        parameter_normalise: bool = False,
        parameter_damping: float = 0.01,
        gram_dtype: str = "float64",
    ) -> None:
        require_number("gamma", gamma, 0, LARGEST_GAMMA)
        require_number("magnitude_cap", magnitude_cap, 0, above=True)
        require_choice("reliability", reliability, ARMS)
        require_choice("space", space, ("weights", "updates"))
        _require_rank(rank)
        require_choice("matching", matching, ("sign", "procrustes"))
        require_choice("tail", tail, ("drop", "average"))
        require_choice("bias", bias, ("column", "average"))
        require_flag("momentum", momentum)
        require_choice("coefficients", coefficients, ("round", "mixed"))
        require_flag("scale_momentum", scale_momentum)
        require_number("beta_min", beta_min, 0, 1)
        require_number("beta_max", beta_max, 0, 1)
        require_number("kappa", kappa, 0, 1e6)
        require_choice("basis", basis, ("canonical", "none"))
        if parameter_exponent is not None:
            require_number("parameter_exponent", parameter_exponent, 0, 2)
        require_flag("parameter_normalise", parameter_normalise)
        require_number("parameter_damping", parameter_damping, 0, 1e6)
        require_choice("gram_dtype", gram_dtype, ("float64", "float32"))
        if beta_min > beta_max:
            raise ValueError(f"beta_min = {beta_min} is above beta_max = {beta_max}: lower beta_min or raise beta_max")
        if basis == "none" and rank != "full":
            raise ValueError(
                f"rank = {rank!r} with basis = 'none': no basis to truncate; set rank = 'full' or basis = 'canonical'"
            )
        super().__init__()
        self._reliability = Reliability(reliability, gamma=gamma, magnitude_cap=magnitude_cap)
        self._on_updates = space == "updates"
        self._bias = bias
        self._per_parameter = parameter_exponent is not None
        self._mean = MeanUpdate(exponent=parameter_exponent, damping=parameter_damping, normalise=parameter_normalise)
        strength = Momentum(beta_min, beta_max, kappa) if momentum else None
        self._fusion: MeanFusion = MeanFusion()  # for full rank without momentum too: it is the mean (fact 1)
        if basis == "none" and strength:
            self._fusion = RawMomentum(strength)
        elif basis == "canonical" and (strength or rank != "full"):
            self._fusion = CanonicalFusion(
                rank=rank,
                procrustes=matching == "procrustes",
                keep_rest=rank == "full" or tail == "average",  # "full" drops nothing, not even by rounding
                momentum=strength,
                re_express=coefficients == "mixed",
                scale_momentum=scale_momentum,
                products=torch.float64 if gram_dtype == "float64" else torch.float32,
            )
        needed = {
            "alignment_error": self._reliability.uses_quality and gamma > 0,
            "second_moment": parameter_exponent is not None,
        }
        self.needs = frozenset(name for name, is_needed in needed.items() if is_needed)

    @property
    def magnitude_limit(self) -> float:
        """The most that a client's squared movement counts in the coming round; infinity where there is no cap."""
        return self._reliability.limit

    def _public_scalars(self) -> Mapping[str, float]:
        limit = self._reliability.limit
        return {} if math.isinf(limit) else {"magnitude_limit": limit}

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        self._fusion.begin({matrix.weight: matrix.join(global_state) for matrix in self._matrices(global_state)})
        super()._begin(global_state)

    def _matrices(self, state: Mapping[str, Tensor]) -> list[Matrix]:
        return find_matrices(state, bias=self._bias)

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._mean.zeros(state) | self._fusion.zeros(self._matrices(state), state)

    def _fold(self, place: str, update: ClientUpdate, public: Public, sums: Mapping[str, Tensor]) -> dict[str, float]:
        if "alignment_error" in self.needs:
            check_alignment_error(place, update.alignment_error, low=0, high=2)
        moments = self._checked_moments(place, update, public.state)
        deltas = self._change(update, public).whole()
        squares = [float(delta.flatten().dot(delta.flatten())) for delta in deltas.values()]
        magnitude = math.fsum(squares)  # exact: a state that was read back may be in another order
        score = self._reliability.score(
            magnitude=magnitude,
            alignment_error=float(update.alignment_error),
            count=int(update.num_examples),
            limit=public.scalars.get("magnitude_limit", math.inf),
        )
        self._mean.add(sums, deltas, weight=score, moments=moments)
        for matrix in self._matrices(public.state):
            self._fusion.add(sums, matrix, deltas if self._on_updates else update.state)
        return {"weight": score, "magnitude": magnitude}

    def _checked_moments(
        self, place: str, update: ClientUpdate, state: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | None:
        """Return v_k in float64, or None when the options do not ask for it."""
        if not self._per_parameter:
            return None
        if update.second_moment is None:
            mend = "send AdamW's, or set parameter_exponent = none"
            raise ValueError(f"{place}: second_moment of {next(iter(state))} is missing; {mend}")
        check_tensors(f"{place}: second_moment", update.second_moment, state)
        moments = {name: exact(tensor, state[name]) for name, tensor in update.second_moment.items()}
        for name, moment in moments.items():
            if bool((moment < 0).any()):
                raise ValueError(f"{place}: second_moment: {name} holds negative values")
        return moments

    def _merge(self) -> dict[str, Tensor]:
        origin = {name: tensor.to(torch.float64) for name, tensor in self._global.items()}
        mean = self._mean.finish(self._sums, total=self._total_weight())
        merged = {name: origin[name] + delta for name, delta in mean.items()}
        for matrix in self._matrices(self._global):
            base_OI = matrix.join(origin)
            step_OI = matrix.join(mean)
            mean_OI = step_OI if self._on_updates else base_OI + step_OI
            fused_OI = self._fusion.fuse(matrix.weight, mean_OI, sums=self._sums, clients=self._accepted)
            if self._on_updates:
                fused_OI = base_OI + fused_OI
            merged |= matrix.split(fused_OI)
            length = float(step_OI.norm())
            if length > 0:  # how much further than the clients' own mean update the matrix moves
                self._fusion.diagnostics[f"step_ratio.{matrix.weight}"] = float((fused_OI - base_OI).norm()) / length
        self.last_weights = self._shares()
        self.last_diagnostics = dict(self._fusion.diagnostics)
        return merged

    def _remember(self) -> None:
        self._fusion.remember()
        self._reliability.remember(self._each("magnitude"), mean=self._total("magnitude") / self._accepted)

    def _memory(self) -> dict[str, Tensor]:
        memory = self._fusion.memory()
        if self._reliability.median is not None:
            memory["median_magnitude"] = torch.tensor(self._reliability.median, dtype=torch.float64)
        return memory

    def _recall(self, memory: dict[str, Tensor]) -> None:
        median = memory.pop("median_magnitude", None)
        self._fusion.recall(memory)
        self._reliability.median = None if median is None else float(median)


def _require_rank(rank: object) -> None:
    """Refuse a rank that is not "full", a positive whole number, or a share in (0, 1)."""
    is_count = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1
    is_share = isinstance(rank, float) and 0 < rank < 1
    if rank != "full" and not is_count and not is_share:
        allowed = "'full', a whole number of directions, or a share of the energy in (0, 1)"
        raise ValueError(f"rank = {rank!r}: must be {allowed}")
