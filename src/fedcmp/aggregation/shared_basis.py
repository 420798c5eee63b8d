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
V and rho are broadcast with the next tensors; clients step in V, rho times as far (client/objectives/canonical.py), and
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

from fedcmp.aggregation.change import exact
from fedcmp.aggregation.checks import check_values
from fedcmp.aggregation.matrices import Matrix, find_matrices
from fedcmp.aggregation.options import require_flag, require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.spectrum import symmetric_eigen
from fedcmp.aggregation.sum_rule import SumRule
from fedcmp.aggregation.sums import MeanUpdate, add_exactly, labelled, of_label
from fedcmp.aggregation.update import ClientUpdate, Public

BASIS, STRETCH = "canonical_basis", "canonical_stretch"
GRAM, SECOND_MOMENT = "input_gram", "canonical_second_moment"
_REST = "gram_rest"  # what the additions to the sum of Gram matrices have rounded away
_MEND = "train with the local objective 'canonical', or use the method fisher"


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
    ) -> None:
        require_number("exponent", exponent, 0, 2)
        require_number("damping", damping, 0, 1e6)
        require_number("space_momentum", space_momentum, 0, 0.999)
        require_number("momentum", momentum, 0, 0.999)
        require_number("server_rate", server_rate, 0, 100, above=True)
        require_flag("normalise", normalise)
        require_flag("opening", opening)
        super().__init__()
        self.needs = frozenset({"extra"})
        self.opening = opening
        self._mean = MeanUpdate(exponent=exponent, damping=damping, normalise=normalise)
        self._normalise = normalise
        self._space_momentum, self._momentum, self._rate = space_momentum, momentum, server_rate
        self._bases: dict[str, Tensor] = {}  # V by weight's name, float64; empty in the first round
        self._stretches: dict[str, Tensor] = {}  # rho likewise
        self._spaces: dict[str, Tensor] = {}  # E_t by weight's name
        self._velocity: dict[str, Tensor] = {}  # M_t by tensor's name
        self._next: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return V and rho of each matrix in its dtype; nothing in the first round. See Aggregator.broadcast."""
        if not self._bases:
            return {}
        named = {BASIS: self._bases, STRETCH: self._stretches}
        return {
            label: {name: tensor.to(global_state[name]) for name, tensor in tensors.items()}
            for label, tensors in named.items()
        }

    def _public_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {BASIS: self._bases}

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        matrices = {matrix.weight: matrix for matrix in _matrices(global_state)}
        for name, basis in self._bases.items():
            if name not in matrices or len(basis) != _inputs(matrices[name], global_state):
                raise ValueError(f"global state: {name} does not fit the remembered basis of {len(basis)} inputs")
        super()._begin(global_state)

    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        coordinates, grams = dict(state), {}
        for matrix in _matrices(state):
            weight, inputs = state[matrix.weight], _inputs(matrix, state)
            if matrix.bias is not None:
                del coordinates[matrix.bias]
            coordinates[matrix.weight] = weight.new_empty(len(weight), inputs)
            grams[matrix.weight] = weight.new_zeros(inputs, inputs, dtype=torch.float64)
        sums = self._mean.zeros(coordinates) | labelled("gram", grams)
        if self._normalise:
            sums |= labelled(_REST, {name: torch.zeros_like(gram) for name, gram in grams.items()})
        return sums

    def _fold(self, place: str, update: ClientUpdate, public: Public, sums: Mapping[str, Tensor]) -> dict[str, float]:
        moments = _sent(place, update, SECOND_MOMENT, public.state)
        grams = _sent(place, update, GRAM, public.state)
        bases = public.tensors.get(BASIS, {})
        deltas = _coordinates(self._change(update, public).whole(), bases)
        for name, moment in moments.items():
            if moment.shape != deltas[name].shape:
                needed = tuple(deltas[name].shape)
                raise ValueError(f"{place}: {SECOND_MOMENT} of {name} is {tuple(moment.shape)}; needs {needed}")
            if grams[name].shape != sums[f"gram.{name}"].shape:
                needed = tuple(sums[f"gram.{name}"].shape)
                raise ValueError(f"{place}: {GRAM} of {name} is {tuple(grams[name].shape)}; needs {needed}")
            if bool((moment < 0).any()):
                raise ValueError(f"{place}: {SECOND_MOMENT} of {name} holds negative values")
            if bool((grams[name].diagonal() < 0).any()):
                raise ValueError(f"{place}: {GRAM} of {name} has a negative diagonal; it is a mean of squares")
        weight = float(int(update.num_examples))
        weighed = {name: moments[name] if name in moments else torch.ones_like(t) for name, t in deltas.items()}
        self._mean.add(sums, deltas, weight=weight, moments=weighed)
        for name, gram in grams.items():
            if not self._normalise:  # version 0.1's, to the bit
                sums[f"gram.{name}"].add_(gram, alpha=weight)
            elif (trace := float(gram.trace())) > 0:
                add_exactly(sums[f"gram.{name}"], sums[f"{_REST}.{name}"], gram * (weight / trace))
        return {"weight": weight}

    def combine(self, sums: Mapping[str, Tensor], contribution: Mapping[str, Tensor]) -> None:
        """See SumRule.combine; second moments of inputs without rounding."""
        rests = of_label(_REST, sums)
        grams = {f"gram.{name}" for name in rests}
        super().combine({name: total for name, total in sums.items() if name not in grams}, contribution)
        for name, rest in rests.items():
            add_exactly(sums[f"gram.{name}"], rest, contribution[f"gram.{name}"].detach().to(rest))

    def _merge(self) -> dict[str, Tensor]:
        mean = self._mean.finish(self._sums, total=self._total_weight())
        merged_update = _uncoordinated(mean, self._bases, self._global)
        velocity, merged = {}, {}
        for name, tensor in self._global.items():
            step = merged_update[name]
            velocity[name] = step + self._momentum * self._velocity.get(name, torch.zeros_like(step))
            merged[name] = tensor.to(torch.float64) + self._rate * (step + self._momentum * velocity[name])
        self.last_weights = self._shares()
        self.last_diagnostics = {}
        spaces, rests = {}, of_label(_REST, self._sums)
        for name, total in of_label("gram", self._sums).items():
            gram = total + rests[name] if name in rests else total
            trace = float(gram.trace())
            fresh = (
                gram / trace if trace > 0 else torch.eye(len(gram), dtype=gram.dtype, device=gram.device) / len(gram)
            )
            before = self._spaces.get(name, fresh)
            if name in self._spaces:
                cosine = float((fresh * before).sum() / (fresh.norm() * before.norm()))
                self.last_diagnostics[f"divergence.{name}"] = max(0.0, 1 - cosine)
                self.last_diagnostics[f"beta.{name}"] = self._space_momentum
            spaces[name] = self._space_momentum * before + (1 - self._space_momentum) * fresh
            energy = torch.linalg.eigvalsh(spaces[name]).clamp(min=0)
            self.last_diagnostics[f"effective_rank.{name}"] = float(energy.sum() ** 2 / energy.square().sum())
        self._next = spaces, velocity
        return merged

    def _remember(self) -> None:
        self._spaces, velocity = self._next
        self._velocity = velocity if self._momentum else {}
        # contiguous, as a checkpoint keeps them: products with another layout round otherwise
        self._bases, self._stretches = {}, {}
        for name, space in self._spaces.items():
            energies, basis = symmetric_eigen(space)
            self._bases[name] = basis.contiguous()
            self._stretches[name] = stretch(space, energies)

    def _memory(self) -> dict[str, Tensor]:
        named = {
            "basis": self._bases,
            "stretch": self._stretches,
            "space": self._spaces,
            "velocity": self._velocity,
        }
        return {f"{label}.{name}": tensor for label, tensors in named.items() for name, tensor in tensors.items()}

    def _recall(self, memory: dict[str, Tensor]) -> None:
        known: dict[str, dict[str, Tensor]] = {"basis": {}, "stretch": {}, "space": {}, "velocity": {}}
        for entry, tensor in memory.items():
            label, _, name = entry.partition(".")
            if label not in known:
                raise ValueError(f"aggregator state: entry {entry!r} is not this method's")
            known[label][name] = tensor
        if not known["basis"].keys() == known["stretch"].keys() == known["space"].keys():
            raise ValueError("aggregator state: every matrix needs its basis, its stretch and its space")
        self._bases, self._stretches = known["basis"], known["stretch"]
        self._spaces, self._velocity = known["space"], known["velocity"]


def stretch(space_II: Tensor, energies_I: Tensor) -> Tensor:
    """Return rho of a space E: sum_i sqrt(E_ii) / sum_j sqrt(lambda_j), at least 1.

    Args:
        space_II: E, symmetric, positive semidefinite up to rounding.
        energies_I: its eigenvalues lambda.

    Returns:
        () in the space's dtype, at most sqrt(I), which no second moment surpasses; 1 for a space of zeros.
    """
    along = energies_I.clamp(min=0).sqrt().sum()
    across = space_II.diagonal().clamp(min=0).sqrt().sum()
    return (across / along).clamp(min=1, max=len(space_II) ** 0.5) if along > 0 else torch.ones_like(along)


def _matrices(state: Mapping[str, Tensor]) -> list[Matrix]:
    return find_matrices(state, bias="column")


def _inputs(matrix: Matrix, state: Mapping[str, Tensor]) -> int:
    """Return I of a matrix, its bias column counted in."""
    return state[matrix.weight].shape[1] + (matrix.bias is not None)


def _sent(place: str, update: ClientUpdate, label: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return one of a client's extras, checked and in float64, for each matrix by its weight's name."""
    sent = (update.extra or {}).get(label, {})
    out = {}
    for matrix in _matrices(state):
        name = matrix.weight
        if name not in sent:
            raise ValueError(f"{place}: extra {label} of {name} is missing; {_MEND}")
        check_values(f"{place}: {label}", name, sent[name])
        out[name] = exact(sent[name], state[name])
    return out


def _coordinates(tensors: Mapping[str, Tensor], bases: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return matrices in coordinates of their basis (O, I), by weight's name, and other tensors as they are."""
    out = dict(tensors)
    for matrix in _matrices(tensors):
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
    for matrix in _matrices(state):
        joined_OI = coordinates[matrix.weight]
        basis_II = bases.get(matrix.weight)
        out |= matrix.split(joined_OI if basis_II is None else joined_OI @ basis_II.T)
    return out
