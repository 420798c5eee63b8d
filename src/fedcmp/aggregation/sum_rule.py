"""Rules that are sums over clients, each in two halves.

    contribution(update, public) -> name -> tensor      at the client: what it adds to the sums
    accumulate(contribution), finish()                  at the server: sums only
    add(update) = accumulate(contribution(update))      one after the other, to rounding
A rule folds a client into named tensors in place (`_fold`).  Into zeros, that is the client's contribution; into the
server's running sums, it is add(): the same code, without a copy of the sums for each client.  Scalars (how many
clients, their samples, their weights) are sums like the others.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from fedcmp.aggregation.base import AddsUp, Aggregator
from fedcmp.aggregation.checks import check_tensors, check_update
from fedcmp.aggregation.update import ClientUpdate, Public

LARGEST_SUM = torch.finfo(torch.float64).max  # any finite number


class SumRule(Aggregator):
    """Base of the rules that add up in one exchange; a rule implements `_zeros`, `_fold` and `_merge`.

    Attributes:
        scalars: names of the scalars that are summed over clients: how many clients, their samples n_k, their weights
            s_k before they are made to sum to 1, and what a rule adds. All are at least 0.
    """

    adds_up: AddsUp = "in one exchange"
    scalars: ClassVar[tuple[str, ...]] = ("clients", "examples", "weight")

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, Tensor] = {}
        self._scalars: list[dict[str, float]] = []  # one entry for each call of add() and accumulate()

    def contribution(self, update: ClientUpdate, public: Public) -> dict[str, Tensor]:
        """Return what one client adds to the sums; see Aggregator.contribution."""
        place = "this client"
        check_update(place, update, public.state)
        sums = self._zeros(public.state)
        scalars = self._counted(update) | self._fold(place, update, public, sums)
        return sums | {name: torch.tensor(scalars[name], dtype=torch.float64) for name in self.scalars}

    def accumulate(self, contribution: Mapping[str, Tensor]) -> None:
        """Fold in a contribution, or a sum of several; see Aggregator.accumulate."""
        self._require_open("accumulate")
        place = f"contribution {self._offered}"
        self._offered += 1
        expected = self._sums | {name: torch.zeros(()) for name in self.scalars}
        check_tensors(place, contribution, expected, largest=LARGEST_SUM)
        scalars = {name: float(contribution[name]) for name in self.scalars}
        for name, value in scalars.items():
            if value < 0:
                raise ValueError(f"{place}: {name} = {value}: must be at least 0")
        if scalars["clients"] < 1 or not scalars["clients"].is_integer():
            raise ValueError(f"{place}: clients = {scalars['clients']}: must be a whole number, at least 1")
        self._admit(place, int(scalars["clients"]))
        self.combine(self._sums, contribution)
        self._scalars.append(scalars)
        self._accepted += int(scalars["clients"])

    def combine(self, sums: Mapping[str, Tensor], contribution: Mapping[str, Tensor]) -> None:
        """Add a contribution to others, in place; see Aggregator.combine."""
        for name, total in sums.items():
            total.add_(contribution[name].detach().to(device=total.device, dtype=total.dtype))

    def finish(self) -> dict[str, Tensor]:
        """Close the round, and free the sums; see Aggregator.finish."""
        result = super().finish()
        self._sums = {}
        return result

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        self._sums = self._zeros(global_state)
        self._scalars = []

    def _add(self, place: str, update: ClientUpdate) -> None:
        self._admit(place, 1)
        scalars = self._fold(place, update, self.public(), self._sums)
        self._scalars.append(self._counted(update) | scalars)

    def _counted(self, update: ClientUpdate) -> dict[str, float]:
        return {"clients": 1.0, "examples": float(int(update.num_examples))}

    def _total(self, name: str) -> float:
        """Return the sum of a scalar over all clients, rounded once."""
        return math.fsum(scalars[name] for scalars in self._scalars)

    def _total_weight(self) -> float:
        """Return sum_k s_k; 1 where it is 0, as all sums are 0 then, and so is the clients' mean update."""
        return self._total("weight") or 1.0

    def _each(self, name: str) -> list[float]:
        """Return a scalar of each client, in the order of arrival; nothing where only a sum of several is known."""
        if any(scalars["clients"] > 1 for scalars in self._scalars):
            return []
        return [scalars[name] for scalars in self._scalars]

    def _shares(self) -> list[float]:
        """Return each client's a_k = s_k / sum_j s_j, or n_k / n where nobody has a weight; [] as in `_each`."""
        name = "weight" if self._total("weight") > 0 else "examples"
        total = self._total(name)
        return [value / total for value in self._each(name)]

    def _admit(self, place: str, clients: int) -> None:
        """Refuse clients that the round has no room for, with ValueError; most rules take any number."""

    @abstractmethod
    def _zeros(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the empty sums, name -> zeros, for a global state."""

    @abstractmethod
    def _fold(self, place: str, update: ClientUpdate, public: Public, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Add what a checked update brings to the sums, in place, and return its own scalars: "weight" and so on.

        Depends on the arguments and the options only, and keeps nothing.  Raises ValueError, starting with `place`,
        before anything is changed.
        """
