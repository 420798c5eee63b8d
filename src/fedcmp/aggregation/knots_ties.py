"""KnOTS-TIES: TIES on the clients' coefficients in a basis that they share.

    [Delta_1 | ... | Delta_K] = U S [V_1^T | ... | V_K^T]     per weight matrix, its bias as one more input column
    C = TIES(S V_1^T, ..., S V_K^T)                           S V_k^T = U^T Delta_k; all matrices as one vector
    W = W_g + lambda U C
U comes from sum_k Delta_k Delta_k^T (spectrum.py), which is the same without the K-wide decomposition.  It is known
only when all clients are in, so this rule keeps their K updates, in float32 (float64 for a float64 model).  It would be
a sum in two exchanges: these products, then the votes in the basis that the server makes of them.  Tensors that are no
matrix get FedAvg's mean.  Implements docs/methods.md, KnOTS-TIES (Stoica et al. 2024).
Shapes: K clients, O outputs, I inputs (with the bias column), R directions.
"""

import torch
from torch import Tensor

from fedcmp.aggregation.base import AddsUp
from fedcmp.aggregation.kept_updates import KeptUpdates
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.registry import register
from fedcmp.aggregation.spectrum import add_gram, leading_basis
from fedcmp.aggregation.voting import SignVote


@register("knots-ties", summary="TIES in a basis shared by the clients", paper="Stoica et al. 2024, arXiv 2410.19735")
class KnotsTies(KeptUpdates):
    """TIES on coefficients; every client counts the same.

    Args:
        density: share of a client's coefficients kept by magnitude, in (0, 1].
        scale: lambda above 0.

    Raises:
        ValueError: an option out of range.
    """

    adds_up: AddsUp = "in two exchanges"

    def __init__(self, *, density: float = 0.2, scale: float = 0.6) -> None:
        require_number("density", density, 0, 1, above=True)
        require_number("scale", scale, 0, 1e6, above=True)
        super().__init__()
        self._vote = SignVote(density=density)
        self._scale = scale

    def _steps(self) -> dict[str, Tensor]:
        bases = {matrix.weight: self._basis(matrix.weight) for matrix in self._matrices}
        self.last_diagnostics = {f"rank.{name}": float(basis_OR.shape[1]) for name, basis_OR in bases.items()}
        votes = self._votes(bases) if bases else {}
        return {name: basis_OR @ self._vote.elect(votes, name).mul_(self._scale) for name, basis_OR in bases.items()}

    def _basis(self, name: str) -> Tensor:
        """Return U (O, R) of one matrix, R = 0 where nobody moved."""
        rows, device = self._global[name].shape[0], self._global[name].device
        gram_OO = torch.zeros(rows, rows, dtype=torch.float64, device=device)
        for client in self._clients:
            add_gram(gram_OO, client[name].to(torch.float64), products=torch.float64)
        precision = torch.finfo(torch.float64).eps
        basis = leading_basis(gram_OO, rank="full", clients=len(self._clients), precision=precision)
        return gram_OO[:, :0] if basis is None else basis.directions

    def _votes(self, bases: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums of all clients' trimmed coefficients U^T Delta_k (R, I)."""
        sums: dict[str, Tensor] = {}
        for client in self._clients:
            coefficients = {}
            for name, update_OI in client.items():
                coefficients[name] = (bases[name].t() @ update_OI.to(torch.float64)).to(update_OI.dtype)
            sums = sums or self._vote.zeros(coefficients)
            self._vote.add(sums, coefficients)
        return sums
