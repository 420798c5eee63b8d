"""What a server does for its clients' steps besides merging, with any server rule (served.py).

    InputBasis           eigenvectors V of what the layers are fed, and the stretch rho     input_space.py
    GlobalDirection      Delta_G = -sum_k Delta_k / sum_k sum_h eta_kh
    MeanStates           mean_k s_k, of states that the clients' steps keep
    MomentumControl      C <- C + (1/N) sum_k change_k
Each is a sum over clients, so it runs with edges as it runs without, whatever the rule.  A client's own Delta_k is its
tensors minus the global ones, eta_kh its rate in step h.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fedcmp.aggregation.change import Change, exact, zeros_like
from fedcmp.aggregation.checks import check_tensors
from fedcmp.aggregation.input_space import InputSpace, combine_grams, grams_of
from fedcmp.aggregation.labels import (
    BASIS,
    DIRECTION,
    GRAM,
    MOMENTUM_CHANGE,
    MOMENTUM_CONTROL,
    PATH,
    STRETCH,
)
from fedcmp.aggregation.matrices import find_matrices
from fedcmp.aggregation.sums import labelled, of_label
from fedcmp.aggregation.update import ClientUpdate

Tensors = dict[str, Tensor]
Like = Callable[[Mapping[str, Tensor]], Tensors]  # global state -> tensors of the shapes that clients send
_MEND = "the client's training must send it (docs/methods.md, steps)"


class Service(ABC):
    """Base of the services: zeros, fold and combine make sums; merge, remember and broadcast are the server's.

    Attributes:
        extras: labels of ClientUpdate.extra that it reads.
        sends: labels of what it broadcasts once a round is over.
        opening: whether a round that only measures comes before the first.
    """

    extras: frozenset[str] = frozenset()
    sends: frozenset[str] = frozenset()
    opening = False

    def begin(self, global_state: Mapping[str, Tensor]) -> None:  # noqa: B027  # most fit any state
        """Refuse, with ValueError, a state that does not fit what is remembered."""

    @abstractmethod
    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, Tensors]:
        """Return what clients are sent ahead of a round, label -> name -> tensor."""

    @abstractmethod
    def zeros(self, state: Mapping[str, Tensor]) -> Tensors:
        """Return the empty sums, name -> zeros, for a global state."""

    @abstractmethod
    def fold(self, place: str, update: ClientUpdate, state: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> None:
        """Add what a checked update brings to the sums, in place; refuse it first, with ValueError from `place` on.

        Args:
            place: what a message starts with.
            update: one client's; opening rounds change no tensor.
            state: the global tensors.
            sums: as from zeros().
        """

    def combine(self, sums: Mapping[str, Tensor], contribution: Mapping[str, Tensor]) -> None:
        """Add other sums to these, in place."""
        for name, total in sums.items():
            total.add_(contribution[name].detach().to(device=total.device, dtype=total.dtype))

    @abstractmethod
    def merge(self, sums: Mapping[str, Tensor], *, clients: int, measured: bool) -> dict[str, float]:
        """Work out what remember() takes up, and return the round's scalars.

        Args:
            sums: of all clients.
            clients: how many they are.
            measured: whether they only measured (an opening round).
        """

    @abstractmethod
    def remember(self) -> None:
        """Make what merge() has worked out the memory."""

    @abstractmethod
    def memory(self) -> Tensors:
        """Return what is remembered between rounds, name -> tensor."""

    @abstractmethod
    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Replace the memory by what memory() returned."""


class InputBasis(Service):
    """The basis that all clients step in, for any rule: V and rho of input_space.py, after an opening round."""

    extras, sends, opening = frozenset({GRAM}), frozenset({BASIS, STRETCH}), True

    def __init__(self) -> None:
        self._space = InputSpace()

    def begin(self, global_state: Mapping[str, Tensor]) -> None:
        """See Service."""
        self._space.require_fit(global_state)

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, Tensors]:
        """Return V and rho by weight's name."""
        return self._space.broadcast(global_state)

    def zeros(self, state: Mapping[str, Tensor]) -> Tensors:
        """See Service."""
        return self._space.zeros(state)

    def fold(self, place: str, update: ClientUpdate, state: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> None:
        """Add n_k C_k / trace(C_k)."""
        grams = grams_of(place, update, state, mend=_MEND)
        self._space.add(sums, grams, weight=float(int(update.num_examples)))

    def combine(self, sums: Mapping[str, Tensor], contribution: Mapping[str, Tensor]) -> None:
        """Add without rounding."""
        combine_grams(sums, contribution)

    def merge(self, sums: Mapping[str, Tensor], *, clients: int, measured: bool) -> dict[str, float]:
        """See Service."""
        del clients, measured
        return {f"basis.{name}": value for name, value in self._space.merge(sums).items()}

    def remember(self) -> None:
        """See Service."""
        self._space.remember()

    def memory(self) -> Tensors:
        """See Service."""
        return self._space.memory()

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """See Service."""
        self._space.recall(memory)


class Kept(Service):
    """Base of the services that broadcast named tensors which they also remember, label -> name -> float64 tensor."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensors] = {}
        self._next: dict[str, Tensors] = {}

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, Tensors]:
        """Return what is kept, in float32 or the global tensors' wider dtype; nothing before the first round."""
        like = next(iter(global_state.values()))
        dtype = torch.promote_types(like.dtype, torch.float32)
        return {
            label: {name: tensor.to(device=like.device, dtype=dtype, copy=True) for name, tensor in named.items()}
            for label, named in self._kept.items()
        }

    def remember(self) -> None:
        """See Service."""
        self._kept, self._next = self._next, {}

    def memory(self) -> Tensors:
        """Return "label/name" -> tensor."""
        return {f"{label}/{name}": t for label, named in self._kept.items() for name, t in named.items()}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """See Service; ValueError for an entry that is not this service's."""
        kept: dict[str, Tensors] = {}
        for entry, tensor in memory.items():
            label, _, name = entry.partition("/")
            if label not in self.sends or not name:
                raise ValueError(f"aggregator state: entry {entry!r} is not this method's")
            kept.setdefault(label, {})[name] = tensor
        self._kept = kept


class GlobalDirection(Kept):
    """Delta_G: how far all clients came in the last round, on average, per unit of learning rate, downhill positive.

        Delta_G = -sum_k Delta_k / sum_k sum_h eta_kh
    With equal rates and H steps each this is -(1 / (S H eta)) sum_k Delta_k over the S clients of the round, as in
    FedPAC, FedMuon (Liu et al.) and FedAdamW.
    """

    extras, sends = frozenset({PATH}), frozenset({DIRECTION})

    def zeros(self, state: Mapping[str, Tensor]) -> Tensors:
        """See Service."""
        path = torch.zeros((), dtype=torch.float64, device=next(iter(state.values())).device)
        return labelled("delta", zeros_like(state)) | {"path": path}

    def fold(self, place: str, update: ClientUpdate, state: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> None:
        """Add Delta_k, and the sum of the client's rates."""
        sent = _extra(place, update, PATH, {"rates": torch.zeros(())})
        if float(sent["rates"]) < 0:
            raise ValueError(f"{place}: {PATH} = {float(sent['rates'])}: must be at least 0, it is a sum of rates")
        change = Change(update.state, state)
        for name, total in of_label("delta", sums).items():
            for delta, stretch in change.blocks(name, total):
                stretch.add_(delta)
        sums["path"].add_(exact(sent["rates"], sums["path"]))

    def merge(self, sums: Mapping[str, Tensor], *, clients: int, measured: bool) -> dict[str, float]:
        """See Service."""
        del clients, measured
        path = float(sums["path"])
        deltas = of_label("delta", sums)
        self._next = {DIRECTION: {name: total / -path for name, total in deltas.items()}} if path > 0 else {}
        return {}


class MeanStates(Kept):
    """The mean over the round's clients of what their steps keep, from which all of them start the next round.

    Args:
        shapes: label of an extra -> what says its tensors' names and shapes, given the global state.
    """

    def __init__(self, shapes: Mapping[str, Like]) -> None:
        super().__init__()
        self._shapes = dict(shapes)
        self.extras = self.sends = frozenset(self._shapes)

    def zeros(self, state: Mapping[str, Tensor]) -> Tensors:
        """See Service."""
        sums: Tensors = {}
        for label, like in self._shapes.items():
            sums |= {f"{label}/{name}": total for name, total in zeros_like(like(state)).items()}
        return sums

    def fold(self, place: str, update: ClientUpdate, state: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> None:
        """Add the client's states."""
        sent = {label: _extra(place, update, label, like(state)) for label, like in self._shapes.items()}
        for label, named in sent.items():
            for name, tensor in named.items():
                total = sums[f"{label}/{name}"]
                total.add_(exact(tensor, total))

    def merge(self, sums: Mapping[str, Tensor], *, clients: int, measured: bool) -> dict[str, float]:
        """See Service."""
        self._next = {}
        for entry, total in sums.items() if not measured else ():
            label, _, name = entry.partition("/")
            self._next.setdefault(label, {})[name] = total / clients
        return {}


class MomentumControl(Kept):
    """FedMuon's control variate of the momentum: C <- C + (1 / N) sum_k (C_k new - C_k), C = 0 at first.

    Args:
        total_clients: N, all clients of the federation; None: those of each round (everyone takes part).
    """

    extras, sends = frozenset({MOMENTUM_CHANGE}), frozenset({MOMENTUM_CONTROL})

    def __init__(self, *, total_clients: int | None = None) -> None:
        super().__init__()
        self._total_clients = total_clients

    def zeros(self, state: Mapping[str, Tensor]) -> Tensors:
        """See Service."""
        return zeros_like(weights(state))

    def fold(self, place: str, update: ClientUpdate, state: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> None:
        """Add C_k new - C_k."""
        sent = _extra(place, update, MOMENTUM_CHANGE, weights(state))
        for name, total in sums.items():
            total.add_(exact(sent[name], total))

    def merge(self, sums: Mapping[str, Tensor], *, clients: int, measured: bool) -> dict[str, float]:
        """See Service; ValueError where the round has more clients than the federation."""
        if self._total_clients is not None and clients > self._total_clients:
            raise ValueError(
                f"total_clients = {self._total_clients}: the round has {clients}; it counts all clients of the "
                "federation"
            )
        before = self._kept.get(MOMENTUM_CONTROL, {})
        share = 1 / (self._total_clients or clients)
        changes = {name: total * share for name, total in sums.items()} if not measured else {}
        after = {name: before[name] + change if name in before else change for name, change in changes.items()}
        self._next = {MOMENTUM_CONTROL: after} if after else dict(self._kept)
        return {}


def weights(state: Mapping[str, Tensor]) -> Tensors:
    """Return the weight matrices (O, I) of a state, without their biases."""
    return {matrix.weight: state[matrix.weight] for matrix in find_matrices(state, bias="average")}


def _extra(place: str, update: ClientUpdate, label: str, like: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a client's extra of that label; ValueError where it is missing or none of that form."""
    sent = (update.extra or {}).get(label)
    if sent is None:
        raise ValueError(f"{place}: extra {label} is missing; {_MEND}")
    check_tensors(f"{place}: {label}", sent, like)
    return sent
