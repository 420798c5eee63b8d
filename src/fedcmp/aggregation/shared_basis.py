"""One basis that clients and server share, and reliability per direction of it. This project's own rule.

Implements docs/methods.md, `shared-basis`. Per weight matrix with its bias as one more column, X (O, I):
    C_t = sum_k a_k C_k / trace(C_k),  C_k = client k's mean of x x^T over its visual tokens
                                                                 x: what the layer is fed, and a one
    V   = eigenvectors of  E_t = b E_{t-1} + (1 - b) C_t / trace(C_t)      V stays orthogonal whatever b is
    D   = [ sum_k a_k F_k (Delta_k V) / sum_k a_k F_k ] V^T      F_k = u_k + damping * mean(sum_j a_j u_j)
    u_k = v_k^p / mean(v_k^p)                                    of mean 1 over the matrix, whatever a client reports
    M_t = m M_{t-1} + D,   X <- X_g + s (m M_t + D)              Nesterov's momentum (m = 0: X_g + s D)
    rho = sum_i sqrt(E_ii) / sum_j sqrt(lambda_j),  lambda = E_t's eigenvalues: AdamW's step at rate eta moves a layer's
          outputs by about eta ||x||_1 as it is, and by eta ||V^T x||_1 in the basis; rho >= 1 is the ratio of the two
V and rho are broadcast with the next tensors; clients step in V, rho times as far (client/steps/canonical.py), and
know v_k, the second moment of their gradients in its coordinates, and C_k. a_k = n_k / n.
A client adds to the sums:  n_k Delta_k V,  n_k u_k,  n_k u_k Delta_k V,  n_k C_k / trace(C_k); they add up in any tree.
The last is summed without rounding, in two parts: where a space holds little, its eigenvectors turn with a sum's last
digit, and two trees would train in two bases.
An opening round, in which clients only measure C_k of their first part, gives the first V. How far the space turned is
reported as
    d_t = 1 - <C_t, E_{t-1}> / (||C_t|| ||E_{t-1}||)                               Frobenius; 0 <= d_t <= 1
Shapes: K clients, O outputs, I inputs (with the bias column).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.input_space import (
    InputSpace,
    combine_grams,
    grams_of,
    inputs_of,
    matrices_of,
    sent_of,
)
from fedcmp.aggregation.labels import BASIS, GRAM, SECOND_MOMENT, STRETCH
from fedcmp.aggregation.options import require_choice, require_flag, require_number, require_whole
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.sums import MeanUpdate, of_label
from fedcmp.aggregation.update import ClientUpdate, Public
from fedcmp.wire.payload import PAYLOADS, Payload

_MEND = "the client's training must measure it (docs/methods.md, steps), or use the method fisher"


@register(
    "shared-basis",
    summary="ours: clients step in one shared basis, reliability per canonical direction",
    paper="this project",
)
class SharedBasis(SumRule):
    """Weighted mean in the shared basis, with momentum of the space and of the update.

    Args:
        exponent: p in [0, 2]: a client's weight on a canonical coordinate is its second moment there to the p; 0 gives
            every client the same weight on all of them.
        damping: share of the mean of that power that every coordinate's weight gets.
        normalise: whether that power is divided by its mean over each client's matrix, and C_k by its trace, so that
            no client weighs more than its examples by reporting large numbers. The study of version 0.1 ran without.
        space_momentum: b in [0, 1): how much of the last rounds' space is kept.
        momentum: m in [0, 1): of the merged update.
        server_rate: s above 0: how far the server goes along it.
        opening: whether a round that only measures comes first, so that round 1 has a basis already.
        every: n at least 1: C_k is measured in the rounds after every n finished ones only, the opening one counted in;
            in between V stays.
        payload: form in which V travels: "float32", or rounded, "bfloat16" or "int8"; rounded, clients send v_k and C_k
            in bfloat16. With an exponent of 0 they send no v_k.
    """

    def __init__(
        self,
        *,
        exponent: float = 1.0,
        damping: float = 0.01,
        normalise: bool = True,
        space_momentum: float = 0.0,
        momentum: float = 0.5,
        server_rate: float = 0.7,
        opening: bool = True,
        every: int = 1,
        payload: Payload = "float32",
    ) -> None:
        require_number("exponent", exponent, 0, 2)
        require_number("damping", damping, 0, 1e6)
        require_number("space_momentum", space_momentum, 0, 0.999)
        require_number("momentum", momentum, 0, 0.999)
        require_number("server_rate", server_rate, 0, 100, above=True)
        require_flag("normalise", normalise)
        require_flag("opening", opening)
        require_whole("every", every)
        require_choice("payload", payload, PAYLOADS)
        super().__init__()
        self.needs = frozenset({"extra"})
        self._weighs = exponent > 0
        self.extras = frozenset({GRAM, SECOND_MOMENT} if self._weighs else {GRAM})
        self.sends = frozenset({BASIS, STRETCH})
        if payload != "float32":
            self.public_payloads, self.extra_payload = {BASIS: payload}, "bfloat16"
        self.opening = opening
        self._mean = MeanUpdate(exponent=exponent, damping=damping, normalise=normalise)
        self._space = InputSpace(momentum=space_momentum, normalise=normalise, every=every, payload=payload)
        self._momentum, self._rate = momentum, server_rate
        self._velocity: dict[str, Tensor] = {}  # M_t by tensor's name
        self._next: dict[str, Tensor] = {}

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return V and rho of each matrix in its dtype; nothing in the first round. See Aggregator.broadcast."""
        return self._space.broadcast(global_state)

    def asked(self) -> frozenset[str]:
        """Return v_k where they weigh, and C_k where the round measures it; see Aggregator.asked."""
        return self.extras if self._space.measures(self.round) else self.extras - {GRAM}

    def _public_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {BASIS: self._space.bases}

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        self._space.require_fit(global_state)
        super()._begin(global_state)

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        coordinates = dict(state)
        for matrix in matrices_of(state):
            weight = state[matrix.weight]
            if matrix.bias is not None:
                del coordinates[matrix.bias]
            coordinates[matrix.weight] = weight.new_empty(len(weight), inputs_of(matrix, state))
        return self._mean.zeros(coordinates) | self._space.zeros(state)

    def _fold(self, place: str, update: ClientUpdate, public: Public, sums: Mapping[str, Tensor]) -> dict[str, float]:
        state, measures = public.state, self._space.measures(public.round)
        moments = sent_of(place, update, SECOND_MOMENT, state, mend=_MEND) if self._weighs else {}
        grams = grams_of(place, update, state, mend=_MEND) if measures else {}
        bases = public.tensors.get(BASIS, {})
        deltas = _coordinates(self._change(update, public).whole(), bases)
        for name, moment in moments.items():
            if moment.shape != deltas[name].shape:
                needed = tuple(deltas[name].shape)
                raise ValueError(f"{place}: {SECOND_MOMENT} of {name} is {tuple(moment.shape)}; needs {needed}")
            if bool((moment < 0).any()):
                raise ValueError(f"{place}: {SECOND_MOMENT} of {name} holds negative values")
        weight = float(int(update.num_examples))
        weighed = {name: moments[name] if name in moments else torch.ones_like(t) for name, t in deltas.items()}
        self._mean.add(sums, deltas, weight=weight, moments=weighed)
        self._space.add(sums, grams, weight=weight)
        return {"weight": weight}

    def combine(self, sums: Mapping[str, Tensor], contribution: Mapping[str, Tensor]) -> None:
        """See SumRule.combine; second moments of inputs without rounding."""
        super().combine(combine_grams(sums, contribution), contribution)

    def _merge(self) -> dict[str, Tensor]:
        mean = self._mean.finish(self._sums, total=self._total_weight())
        merged_update = _uncoordinated(mean, self._space.bases, self._global)
        velocity, merged = {}, {}
        for name, tensor in self._global.items():
            step = merged_update[name]
            velocity[name] = step + self._momentum * self._velocity.get(name, torch.zeros_like(step))
            merged[name] = tensor.to(torch.float64) + self._rate * (step + self._momentum * velocity[name])
        self.last_weights = self._shares()
        self.last_diagnostics = self._space.merge(self._sums, finished=self.round)
        self._next = velocity
        return merged

    def _remember(self) -> None:
        self._space.remember()
        self._velocity, self._next = (self._next if self._momentum else {}), {}

    def _memory(self) -> dict[str, Tensor]:
        return self._space.memory() | {f"velocity.{name}": tensor for name, tensor in self._velocity.items()}

    def _recall(self, memory: dict[str, Tensor]) -> None:
        velocity = of_label("velocity", memory)
        self._space.recall({entry: tensor for entry, tensor in memory.items() if not entry.startswith("velocity.")})
        self._velocity = velocity


def _coordinates(tensors: Mapping[str, Tensor], bases: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return matrices in coordinates of their basis (O, I), by weight's name, and other tensors as they are."""
    out = dict(tensors)
    for matrix in matrices_of(tensors):
        joined_OI = matrix.join(tensors)
        if matrix.bias is not None:
            del out[matrix.bias]
        basis_II = bases.get(matrix.weight)
        out[matrix.weight] = joined_OI if basis_II is None else joined_OI @ basis_II.to(joined_OI)
    return out


def _uncoordinated(
    coordinates: Mapping[str, Tensor], bases: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors by name, the reverse of `_coordinates`; the state says which of them form matrices."""
    out = dict(coordinates)
    for matrix in matrices_of(state):
        joined_OI = coordinates[matrix.weight]
        basis_II = bases.get(matrix.weight)
        out |= matrix.split(joined_OI if basis_II is None else joined_OI @ basis_II.T)
    return out
