"""What happens to each matrix's weighted mean before it becomes the next global one: three ways, one interface.

    MeanFusion        W = Wbar
    RawMomentum       W = b W_{t-1} + (1 - b) Wbar
    CanonicalFusion   W = U_t (S_t / S) U^T Wbar  [+ (I - U U^T) Wbar],  or W = U_t U_t^T Wbar  [+ (I - U_t U_t^T) Wbar]
W stands for the matrices or for their updates, as the caller hands them over.  Implements docs/methods.md, Fed-CMP.
Shapes: O outputs, I inputs, R kept directions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fedcmp.aggregation.matrices import Matrix
from fedcmp.aggregation.momentum import Momentum, Turn, stand, turn_by_procrustes, turn_by_sign
from fedcmp.aggregation.spectrum import Basis, add_gram, leading_basis


class MeanFusion:
    """The weighted mean as it is, and the interface of the others.

    Attributes:
        diagnostics: scalars of the round, "what.matrix" -> value.
    """

    def __init__(self) -> None:
        self.diagnostics: dict[str, float] = {}

    def begin(self, matrices: Mapping[str, Tensor]) -> None:
        """Open a round, forgetting an unfinished one.

        Args:
            matrices: name -> the global matrix (O, I).

        Raises:
            ValueError: a matrix does not fit what is remembered of it.
        """
        self.diagnostics = {}
        for name, matrix_OI in matrices.items():
            remembered = self._remembered(name)
            if remembered is not None and matrix_OI.shape[: len(remembered)] != remembered:
                change = f"is {tuple(matrix_OI.shape)}, but the rounds before had {tuple(remembered)}"
                raise ValueError(f"global state: {name} {change}; another model needs a new aggregator")

    def zeros(self, matrices: Iterable[Matrix], state: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the empty sums that the fusion needs besides the weighted mean.

        Args:
            matrices: the matrices of the state.
            state: tensor name -> the global tensor.
        """
        return {}

    def add(self, sums: Mapping[str, Tensor], matrix: Matrix, tensors: Mapping[str, Tensor]) -> None:
        """Fold one client's matrix into the sums, in place, from its state or its update."""

    def fuse(
        self,
        name: str,  # noqa: ARG002  # for the others
        mean_OI: Tensor,
        *,
        sums: Mapping[str, Tensor],  # noqa: ARG002
        clients: int,  # noqa: ARG002
    ) -> Tensor:
        """Return the fused matrix; memory stays as it is until remember().

        Args:
            name: the matrix.
            mean_OI: the clients' weighted mean, float64.
            sums: as from zeros(), all clients folded in.
            clients: how many they are.

        Returns:
            (O, I) float64.
        """
        return mean_OI

    def _remembered(self, name: str) -> torch.Size | None:  # noqa: ARG002  # for the others
        """Return the leading sizes that the matrix must have to fit the memory, or None."""
        return None

    def remember(self) -> None:
        """Make this round's result the memory."""

    def memory(self) -> dict[str, Tensor]:
        """Return what is remembered, "what.matrix" -> tensor."""
        return {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Replace the memory.

        Args:
            memory: what memory() returned.

        Raises:
            ValueError: an entry is not of this fusion's kind, or its partner is missing.
        """
        _refuse_others(memory)


class RawMomentum(MeanFusion):
    """Momentum on the raw matrices: d = 1 - cos(Wbar, W_{t-1}), with b from d as in the canonical space.

    Args:
        momentum: the strength.
    """

    def __init__(self, momentum: Momentum) -> None:
        super().__init__()
        self._momentum = momentum
        self._previous: dict[str, Tensor] = {}
        self._next: dict[str, Tensor] = {}

    def fuse(
        self,
        name: str,
        mean_OI: Tensor,
        *,
        sums: Mapping[str, Tensor],  # noqa: ARG002  # see MeanFusion
        clients: int,  # noqa: ARG002
    ) -> Tensor:
        """Return b W_{t-1} + (1 - b) Wbar, in a first round Wbar; see MeanFusion."""
        fused_OI = mean_OI
        if name in self._previous:
            previous_OI = self._previous[name].to(mean_OI.device)
            norms = float(mean_OI.norm() * previous_OI.norm())
            cosine = float((mean_OI * previous_OI).sum()) / norms if norms > 0 else 0.0
            divergence = max(0.0, 1 - cosine)
            beta = self._momentum.beta(divergence)
            fused_OI = beta * previous_OI + (1 - beta) * mean_OI
            self.diagnostics |= {f"divergence.{name}": divergence, f"beta.{name}": beta}
        self._next[name] = fused_OI
        return fused_OI

    def _remembered(self, name: str) -> torch.Size | None:
        return self._previous[name].shape if name in self._previous else None

    def remember(self) -> None:
        """Make this round's matrices the memory."""
        self._previous, self._next = self._next, {}

    def memory(self) -> dict[str, Tensor]:
        """Return "raw.matrix" -> W_{t-1} (O, I)."""
        return {f"raw.{name}": matrix_OI for name, matrix_OI in self._previous.items()}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Replace the memory; see MeanFusion."""
        _refuse_others(memory, "raw.")
        self._previous = {entry.partition(".")[2]: tensor for entry, tensor in memory.items()}


class CanonicalFusion(MeanFusion):
    """Fusion in the clients' shared basis, with or without momentum.

    Args:
        rank: as in `leading_basis`.
        procrustes: match bases by rotation, else by sign.
        keep_rest: keep what lies outside the basis.
        momentum: the strength, or None.
        re_express: read the coefficients in the mixed basis, too, not in the new one.
        scale_momentum: mix scales as well as bases.
        products: precision of the products in the Gram sums, torch.float64 or torch.float32.
    """

    def __init__(
        self,
        *,
        rank: str | int | float,
        procrustes: bool,
        keep_rest: bool,
        momentum: Momentum | None,
        re_express: bool,
        scale_momentum: bool,
        products: torch.dtype,
    ) -> None:
        super().__init__()
        self._rank = rank
        self._turn = turn_by_procrustes if procrustes else turn_by_sign
        self._keep_rest = keep_rest
        self._momentum = momentum
        self._re_express, self._scale_momentum = re_express, scale_momentum
        self._products = products
        self._previous: dict[str, Basis] = {}
        self._next: dict[str, Basis] = {}

    def begin(self, matrices: Mapping[str, Tensor]) -> None:
        """Open a round; see MeanFusion."""
        super().begin(matrices)
        self._next = {}

    def zeros(self, matrices: Iterable[Matrix], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return "gram.matrix" -> zeros (O, O), float64; see MeanFusion."""
        sums = {}
        for matrix in matrices:
            weight_OI = state[matrix.weight]
            sums[f"gram.{matrix.weight}"] = torch.zeros(
                len(weight_OI), len(weight_OI), dtype=torch.float64, device=weight_OI.device
            )
        return sums

    def add(self, sums: Mapping[str, Tensor], matrix: Matrix, tensors: Mapping[str, Tensor]) -> None:
        """Add X X^T to the matrix's Gram sum, of which the lower triangle is kept up."""
        gram_OO = sums[f"gram.{matrix.weight}"]
        add_gram(gram_OO, matrix.join(tensors).to(gram_OO.device), products=self._products)

    def fuse(self, name: str, mean_OI: Tensor, *, sums: Mapping[str, Tensor], clients: int) -> Tensor:
        """Return U_t (S_t / S) U^T Wbar, with the rest if it is kept; see MeanFusion."""
        precision = torch.finfo(self._products).eps
        basis = leading_basis(sums[f"gram.{name}"], rank=self._rank, clients=clients, precision=precision)
        previous = self._previous.get(name)
        if basis is None:  # every client's matrix is zero: nothing to turn, and the last basis stays the last
            if previous is not None:
                self._next[name] = previous
            return mean_OI
        self.diagnostics[f"rank.{name}"] = float(len(basis.scales))
        if self._momentum is None:
            return stand(basis).apply(mean_OI, keep_rest=self._keep_rest)
        turn = stand(basis) if previous is None else self._turn(basis, previous.to(mean_OI.device), self._momentum)
        if turn.divergence is not None:
            self.diagnostics |= {f"divergence.{name}": turn.divergence, f"beta.{name}": turn.beta}
        turn = self._read(turn, basis)
        self._next[name] = turn.write
        return turn.apply(mean_OI, keep_rest=self._keep_rest)

    def _read(self, turn: Turn, new: Basis) -> Turn:
        """Return the turn as the options read it: with whose scales, and in which basis coefficients are taken."""
        if not self._scale_momentum:
            turn = replace(turn, write=Basis(turn.write.directions, new.scales), gain=torch.ones_like(turn.gain))
        if self._re_express:
            turn = replace(turn, read=turn.write.directions, gain=torch.ones_like(turn.gain))
        return turn

    def _remembered(self, name: str) -> torch.Size | None:
        return self._previous[name].directions.shape[:1] if name in self._previous else None

    def remember(self) -> None:
        """Make this round's bases the memory."""
        self._previous, self._next = self._next, {}

    def memory(self) -> dict[str, Tensor]:
        """Return "basis.matrix" -> U_{t-1} (O, R) and "scales.matrix" -> S_{t-1} / sqrt(K) (R,)."""
        bases = {f"basis.{name}": basis.directions for name, basis in self._previous.items()}
        return bases | {f"scales.{name}": basis.scales for name, basis in self._previous.items()}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Replace the memory; see MeanFusion."""
        _refuse_others(memory, *(("basis.", "scales.") if self._momentum else ()))
        names = {entry.partition(".")[2] for entry in memory}
        for name in names:
            for entry in (f"basis.{name}", f"scales.{name}"):
                if entry not in memory:
                    raise ValueError(f"aggregator state: entry {entry!r} is missing")
        self._previous = {name: Basis(memory[f"basis.{name}"], memory[f"scales.{name}"]) for name in sorted(names)}


def _refuse_others(memory: Mapping[str, Tensor], *kinds: str) -> None:
    for entry in memory:
        if not entry.startswith(kinds):
            raise ValueError(f"aggregator state: entry {entry!r} does not belong to these options")
