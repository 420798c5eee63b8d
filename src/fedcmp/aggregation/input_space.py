"""The space that the clients' layers are fed from, and the basis of it that all clients step in.

Per weight matrix with its bias as one more column:
    C_t = sum_k a_k C_k / trace(C_k)          C_k = client k's mean of x x^T, x what the layer is fed and a one
    E_t = b E_{t-1} + (1 - b) C_t / trace(C_t)
    V   = eigenvectors of E_t
    rho = sum_i sqrt(E_ii) / sum_j sqrt((V^T E V)_jj)
    V travels rounded where bytes are dear, and is made orthogonal again on both sides (`orthonormal`)
    d_t = 1 - <C_t, E_{t-1}> / (||C_t|| ||E_{t-1}||)                                 how far the space has turned
A client adds  n_k C_k / trace(C_k)  to the sums, without rounding, in two parts: where a space holds little, its
eigenvectors turn with a sum's last digit, and two trees would train in two bases.
Implements docs/methods.md, `shared-basis`, for any server rule.  Shapes: I inputs (with the bias column).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.change import exact
from fedcmp.aggregation.checks import check_values
from fedcmp.aggregation.labels import BASIS, GRAM, STRETCH
from fedcmp.aggregation.matrices import Matrix, find_matrices
from fedcmp.aggregation.spectrum import symmetric_eigen
from fedcmp.aggregation.sums import add_exactly, labelled, of_label
from fedcmp.aggregation.update import ClientUpdate
from fedcmp.wire.payload import Payload, decode, encode

REST = "gram_rest"  # what the additions to the sum of Gram matrices have rounded away
_COLUMNS, _ROUNDED = 16, 1e-4  # how many columns tell, and how far from orthogonal float32 never leaves them
_MEMORY = ("basis", "stretch", "space")


class InputSpace:
    """E_t, V and rho of every matrix between rounds, and the sums that the next ones come from. It holds no sums.

    Args:
        momentum: b in [0, 1): how much of the last rounds' space is kept.
        normalise: whether C_k is divided by its trace, so that no client counts for more by reporting large numbers.
            The study of version 0.1 ran without.
        every: n at least 1: C_k is measured in the rounds after every n finished ones (0, n, 2n, ...); in between V
            stays as it is.
        payload: in which form V travels.

    Attributes:
        bases: V by weight's name, float64; empty before the first round.
    """

    def __init__(
        self, *, momentum: float = 0.0, normalise: bool = True, every: int = 1, payload: Payload = "float32"
    ) -> None:
        self._momentum, self._normalise = momentum, normalise
        self._every, self._payload = every, payload
        self._sent: dict[str, Tensor] = {}  # V as it travels, by weight's name, where it is rounded
        self.bases: dict[str, Tensor] = {}
        self._stretches: dict[str, Tensor] = {}  # rho likewise
        self._spaces: dict[str, Tensor] = {}  # E_t likewise
        self._next: dict[str, Tensor] | None = None

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return V and rho of each matrix in its dtype; nothing before the first round."""
        if not self.bases:
            return {}
        named = {BASIS: self._sent or self.bases, STRETCH: self._stretches}
        return {
            label: {name: tensor.to(global_state[name]) for name, tensor in tensors.items()}
            for label, tensors in named.items()
        }

    def measures(self, finished: int) -> bool:
        """Return whether C_k is measured in the round after so many finished ones, the opening one counted in."""
        return finished % self._every == 0

    def require_fit(self, global_state: Mapping[str, Tensor]) -> None:
        """Refuse, with ValueError, a global state that the remembered bases do not fit."""
        matrices = {matrix.weight: matrix for matrix in matrices_of(global_state)}
        for name, basis in self.bases.items():
            if name not in matrices or len(basis) != inputs_of(matrices[name], global_state):
                raise ValueError(f"global state: {name} does not fit the remembered basis of {len(basis)} inputs")

    def zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the empty sums: "gram.name" -> zeros (I, I), float64; normalised, "gram_rest.name" likewise."""
        grams = {}
        for matrix in matrices_of(state):
            inputs = inputs_of(matrix, state)
            grams[matrix.weight] = state[matrix.weight].new_zeros(inputs, inputs, dtype=torch.float64)
        sums = labelled("gram", grams)
        if self._normalise:
            sums |= labelled(REST, {name: torch.zeros_like(gram) for name, gram in grams.items()})
        return sums

    def add(self, sums: Mapping[str, Tensor], grams: Mapping[str, Tensor], *, weight: float) -> None:
        """Fold one client's Gram matrices into the sums, in place."""
        for name, gram in grams.items():
            if not self._normalise:  # version 0.1's, to the bit
                sums[f"gram.{name}"].add_(gram, alpha=weight)
            elif (trace := float(gram.trace())) > 0:
                add_exactly(sums[f"gram.{name}"], sums[f"{REST}.{name}"], gram * (weight / trace))

    def merge(self, sums: Mapping[str, Tensor], *, finished: int = 0) -> dict[str, float]:
        """Work out the next space from all clients' sums; memory stays as it is until remember().

        Args:
            sums: of all clients.
            finished: rounds before this one; where it measured nothing, the space stays.

        Returns:
            Scalars of the round: "divergence.name", "beta.name", "effective_rank.name".
        """
        if not self.measures(finished):
            self._next = None
            return {}
        diagnostics: dict[str, float] = {}
        spaces, rests = {}, of_label(REST, sums)
        for name, total in of_label("gram", sums).items():
            gram = total + rests[name] if name in rests else total
            trace = float(gram.trace())
            fresh = (
                gram / trace if trace > 0 else torch.eye(len(gram), dtype=gram.dtype, device=gram.device) / len(gram)
            )
            before = self._spaces.get(name, fresh)
            if name in self._spaces:
                cosine = float((fresh * before).sum() / (fresh.norm() * before.norm()))
                diagnostics[f"divergence.{name}"] = max(0.0, 1 - cosine)
                diagnostics[f"beta.{name}"] = self._momentum
            spaces[name] = self._momentum * before + (1 - self._momentum) * fresh
            energy = torch.linalg.eigvalsh(spaces[name]).clamp(min=0)
            diagnostics[f"effective_rank.{name}"] = float(energy.sum() ** 2 / energy.square().sum())
        self._next = spaces
        return diagnostics

    def remember(self) -> None:
        """Make the next space the memory, with its basis and stretch."""
        if self._next is None:
            return
        self._spaces, self._next = self._next, None
        # contiguous, as a checkpoint keeps them: products with another layout round otherwise
        self.bases, self._stretches = {}, {}
        for name, space in self._spaces.items():
            energies, basis = symmetric_eigen(space)
            self.bases[name] = basis.contiguous()
            self._stretches[name] = stretch(space, energies)
        rounded = self._payload != "float32"
        self._take(decode(encode(self.bases, self._payload)) if rounded else self.bases)

    def _take(self, sent: dict[str, Tensor]) -> None:
        """Remember V as it travels; where it is rounded on its way, use here what clients make of it there."""
        if self._payload == "float32":
            self._sent, self.bases = {}, sent
        else:
            self._sent = sent
            self.bases = {name: orthonormal(basis.to(torch.float64)) for name, basis in sent.items()}

    def memory(self) -> dict[str, Tensor]:
        """Return what is remembered, "what.name" -> tensor."""
        named = zip(_MEMORY, (self._sent or self.bases, self._stretches, self._spaces), strict=True)
        return {f"{label}.{name}": tensor for label, tensors in named for name, tensor in tensors.items()}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Replace the memory.

        Args:
            memory: what memory() returned.

        Raises:
            ValueError: an entry is none of these, or its partner is missing.
        """
        known: dict[str, dict[str, Tensor]] = {label: {} for label in _MEMORY}
        for entry, tensor in memory.items():
            label, _, name = entry.partition(".")
            if label not in known:
                raise ValueError(f"aggregator state: entry {entry!r} is not this method's")
            known[label][name] = tensor
        if not known["basis"].keys() == known["stretch"].keys() == known["space"].keys():
            raise ValueError("aggregator state: every matrix needs its basis, its stretch and its space")
        self.bases, self._stretches, self._spaces = (known[label] for label in _MEMORY)
        self._take(self.bases)


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


def orthonormal(basis: Tensor, *, iterations: int = 3) -> Tensor:
    """Return the orthogonal matrix next to one that is nearly so, by Newton's and Schulz's V <- V (3 I - V^T V) / 2.

    Args:
        basis: (I, I), or several (..., I, I); V^T V within a tenth of the identity.
        iterations: each squares the error; two bring an eight-bit basis to float32's rounding, three to float64's.

    Returns:
        Likewise, in the same dtype.
    """
    for _ in range(iterations):
        basis = 1.5 * basis - 0.5 * basis @ (basis.mT @ basis)
    return basis


def broadcast_bases(broadcast: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return weight's name -> V of what a server has sent, fit to step in; nothing where it sent none."""
    return {name: as_orthogonal(sent) for name, sent in broadcast.get(BASIS, {}).items()}


def as_orthogonal(basis_II: Tensor) -> Tensor:
    """Return a broadcast basis, made orthogonal again where it was rounded to less than float32 on its way."""
    if basis_II.dim() != 2 or basis_II.shape[0] != basis_II.shape[1]:
        return basis_II  # refused, by its name, where its matrix is known
    some = basis_II[:, :_COLUMNS]
    off = (some.mT @ some - torch.eye(some.shape[1], dtype=some.dtype, device=some.device)).abs().max()
    return orthonormal(basis_II) if off > _ROUNDED else basis_II


def matrices_of(state: Mapping[str, Tensor]) -> list[Matrix]:
    """Return the matrices of a state, with their biases as columns."""
    return find_matrices(state, bias="column")


def inputs_of(matrix: Matrix, state: Mapping[str, Tensor]) -> int:
    """Return I of a matrix, its bias column counted in."""
    return state[matrix.weight].shape[1] + (matrix.bias is not None)


def grams_of(place: str, update: ClientUpdate, state: Mapping[str, Tensor], *, mend: str) -> dict[str, Tensor]:
    """Return a client's C_k (I, I), checked and in float64, for each matrix by its weight's name.

    Raises:
        ValueError: as `sent_of`, or of another shape, or with a negative diagonal.
    """
    grams = sent_of(place, update, GRAM, state, mend=mend)
    for matrix in matrices_of(state):
        name, inputs = matrix.weight, inputs_of(matrix, state)
        if grams[name].shape != (inputs, inputs):
            found = tuple(grams[name].shape)
            raise ValueError(f"{place}: {GRAM} of {name} is {found}; needs {(inputs, inputs)}")
        if bool((grams[name].diagonal() < 0).any()):
            raise ValueError(f"{place}: {GRAM} of {name} has a negative diagonal; it is a mean of squares")
    return grams


def combine_grams(sums: Mapping[str, Tensor], contribution: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the normalised Gram sums of others to these, in place and without rounding.

    Returns:
        Those of `sums` that are still to be added, plainly.
    """
    left = dict(sums)
    for name, rest in of_label(REST, sums).items():
        for entry in (f"{REST}.{name}", f"gram.{name}"):
            del left[entry]
        rest.add_(contribution[f"{REST}.{name}"].detach().to(rest))
        add_exactly(sums[f"gram.{name}"], rest, contribution[f"gram.{name}"].detach().to(rest))
    return left


def sent_of(
    place: str, update: ClientUpdate, label: str, state: Mapping[str, Tensor], *, mend: str
) -> dict[str, Tensor]:
    """Return one of a client's extras, checked and in float64, for each matrix by its weight's name.

    Raises:
        ValueError: it is missing (`mend` says how to get it), or not finite; starts with `place`.
    """
    sent = (update.extra or {}).get(label, {})
    out = {}
    for matrix in matrices_of(state):
        name = matrix.weight
        if name not in sent:
            raise ValueError(f"{place}: extra {label} of {name} is missing; {mend}")
        check_values(f"{place}: {label}", name, sent[name])
        out[name] = exact(sent[name], state[name])
    return out
