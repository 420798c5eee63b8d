"""Any server rule together with what the clients' steps need of the server besides (service.py).

A round is the rule's own; each service's sums go along with the rule's under a name in front, in add() as in
contribution(), so a rule that adds up in one exchange still does. Where a service wants an opening round and the rule
does not, that round is the services' alone: the rule never hears of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fedcmp.aggregation.base import Aggregator
from fedcmp.aggregation.checks import check_tensors, check_update
from fedcmp.aggregation.service import Service
from fedcmp.aggregation.sum_rule import LARGEST_SUM
from fedcmp.aggregation.update import ClientUpdate, Public

_COUNTS = ("clients", "examples")  # what every contribution holds


class Served(Aggregator):
    """A rule with services.

    Args:
        rule: any server rule, before its first round.
        services: what goes with it, before its first round.
    """

    def __init__(self, rule: Aggregator, services: Sequence[Service]) -> None:
        super().__init__()
        self.rule, self._services = rule, list(services)
        self.adds_up = rule.adds_up
        self.needs = rule.needs | {"extra"}
        self.extras = rule.extras.union(*(service.extras for service in services))
        self.sends = rule.sends.union(*(service.sends for service in services))
        self.opening = rule.opening or any(service.opening for service in services)
        self._sums: list[dict[str, Tensor]] = []

    def public(self) -> Public:
        """See Aggregator.public: the rule's, by this count of rounds."""
        self._require_open("public")
        if self._is_for_services(self.round):
            return Public(self._global, self.round)
        return replace(self.rule.public(), round=self.round)

    def contribution(self, update: ClientUpdate, public: Public) -> dict[str, Tensor]:
        """See Aggregator.contribution."""
        if self.adds_up != "in one exchange":
            raise self.rule._no_sum()  # its own words
        check_update("this client", update, public.state)
        served = self._folded("this client", update, public.state)
        if self._is_for_services(public.round):
            counts = {"clients": 1.0, "examples": float(int(update.num_examples))}
            own = {name: torch.tensor(value, dtype=torch.float64) for name, value in counts.items()}
        else:
            own = self.rule.contribution(update, replace(public, round=self._round_of_rule(public.round)))
        return own | {_name(number, name): t for number, sums in enumerate(served) for name, t in sums.items()}

    def accumulate(self, contribution: Mapping[str, Tensor]) -> None:
        """See Aggregator.accumulate."""
        self._require_open("accumulate")
        place = f"contribution {self._offered}"
        self._offered += 1
        own, served = self._apart(contribution)
        for found, sums in zip(served, self._sums, strict=True):
            check_tensors(place, found, sums, largest=LARGEST_SUM)
        if self._is_for_services(self.round):
            check_tensors(place, own, {name: torch.zeros(()) for name in _COUNTS}, largest=LARGEST_SUM)
        else:
            self.rule.accumulate(own)
        for service, sums, found in zip(self._services, self._sums, served, strict=True):
            service.combine(sums, found)
        self._accepted += int(contribution["clients"])

    def combine(self, sums: Mapping[str, Tensor], contribution: Mapping[str, Tensor]) -> None:
        """See Aggregator.combine."""
        own, served = self._apart(sums)
        other, others = self._apart(contribution)
        self.rule.combine(own, other)
        for service, mine, theirs in zip(self._services, served, others, strict=True):
            service.combine(mine, theirs)

    def broadcast(self, global_state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return what the rule broadcasts, and the services; see Aggregator.broadcast."""
        sent = self.rule.broadcast(global_state)
        for service in self._services:
            sent |= service.broadcast(global_state)
        return sent

    def _is_for_services(self, finished: int) -> bool:
        """Return whether the round after so many finished ones is an opening one that the rule does not know."""
        return finished == 0 and self.opening and not self.rule.opening

    def _round_of_rule(self, finished: int) -> int:
        """Return how many rounds the rule has finished."""
        return finished - (self.opening and not self.rule.opening)

    def _folded(self, place: str, update: ClientUpdate, state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return what an update brings to each service's sums."""
        found = []
        for service in self._services:
            sums = service.zeros(state)
            service.fold(place, update, state, sums)
            found.append(sums)
        return found

    def _apart(self, contribution: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        """Return the rule's part of a contribution, and each service's."""
        own = dict(contribution)
        served = []
        for number in range(len(self._services)):
            start = _name(number, "")
            names = [name for name in own if name.startswith(start)]
            served.append({name.removeprefix(start): own.pop(name) for name in names})
        return own, served

    def _begin(self, global_state: dict[str, Tensor]) -> None:
        for service in self._services:
            service.begin(global_state)
        self._sums = [service.zeros(global_state) for service in self._services]
        if not self._is_for_services(self.round):
            self.rule.begin(global_state)

    def _add(self, place: str, update: ClientUpdate) -> None:
        served = self._folded(place, update, self._global)
        if not self._is_for_services(self.round):
            self.rule._offered = self._offered - 1  # one count for both, whoever refuses a client
            self.rule.add(update)
        for service, sums, found in zip(self._services, self._sums, served, strict=True):
            service.combine(sums, found)

    def _merge(self) -> dict[str, Tensor]:
        clients, measured = self._accepted, self.round == 0 and self.opening
        diagnostics: dict[str, float] = {}
        for service, sums in zip(self._services, self._sums, strict=True):
            diagnostics |= service.merge(sums, clients=clients, measured=measured)
        merged = self._global
        self.last_weights = []
        if not self._is_for_services(self.round):
            merged = self.rule.finish()
            self.last_weights = self.rule.last_weights
            diagnostics |= self.rule.last_diagnostics
        self.last_diagnostics = diagnostics
        return merged

    def _remember(self) -> None:
        for service in self._services:
            service.remember()
        self._sums = []

    def _memory(self) -> dict[str, Tensor]:
        memory = {f"rule.{name}": tensor for name, tensor in self.rule.state_dict().items()}
        for number, service in enumerate(self._services):
            memory |= {_name(number, name): tensor for name, tensor in service.memory().items()}
        return memory

    def _recall(self, memory: dict[str, Tensor]) -> None:
        own, served = self._apart(memory)
        for name in own:
            if not name.startswith("rule."):
                raise ValueError(f"aggregator state: entry {name!r} is not this method's")
        self.rule.load_state_dict({name.removeprefix("rule."): tensor for name, tensor in own.items()})
        for service, found in zip(self._services, served, strict=True):
            service.recall(found)


def serve(rule: Aggregator, services: Sequence[Service]) -> Aggregator:
    """Return a rule with services; those whose tensors the rule broadcasts itself are left out.

    Args:
        rule: before its first round.
        services: what the clients' step needs, before its first round.
    """
    needed = [service for service in services if not service.sends <= rule.sends]
    return Served(rule, needed) if needed else rule


def _name(number: int, name: str) -> str:
    """Return what a service's tensor is called among the rule's."""
    return f"service-{number}.{name}"
