"""The methods that a recipe can name: a local objective together with a server rule.

Every aggregator is a method under its own name, with plain local training. Methods that change what the client does are
listed here. Those of fedcmp.references have no server rule at all.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcmp import aggregation
from fedcmp.aggregation import Aggregator
from fedcmp.client.objectives import Objective, available_objectives, create_objective, describe_objective
from fedcmp.references import LARGE_BATCH as LARGE_BATCH  # named here for those who import it from here
from fedcmp.references import NOT_FEDERATED as NOT_FEDERATED

# names of version 0.1, whose "fedcmp" is shared-basis now
RENAMED = {
    "fedcmp-published": "fedcmp",
    "fedcmp-parameters": "fisher",
}


@dataclass(frozen=True)
class Combination:
    """A method that is more than an aggregator.

    Attributes:
        objective: name of its local objective.
        aggregator: name of its server rule.
    """

    objective: str
    aggregator: str


COMBINATIONS: dict[str, Combination] = {
    "fedprox": Combination("fedprox", "fedavg"),
    "moon": Combination("moon", "fedavg"),
    "scaffold": Combination("scaffold", "scaffold"),
    "fedsam": Combination("fedsam", "fedavg"),
    "fedswa": Combination("fedswa", "fedswa"),
    "shared-basis": Combination("canonical", "shared-basis"),
}


@dataclass(frozen=True)
class Chosen:
    """What a federated method of a recipe comes to.

    Attributes:
        aggregator: name of the server rule; `options` are its own.
        objective: name of the local objective; `objective_options` are its own.
    """

    aggregator: str
    objective: str
    options: Mapping[str, object] = field(default_factory=dict)
    objective_options: Mapping[str, object] = field(default_factory=dict)

    def create_aggregator(self) -> Aggregator:
        """A fresh server rule; ValueError for bad options."""
        return aggregation.create(self.aggregator, **self.options)

    def create_objective(self) -> Objective:
        """A fresh local objective; ValueError for bad options."""
        return create_objective(self.objective, **self.objective_options)


def available_methods() -> list[str]:
    """The names of all methods, references included, sorted."""
    return sorted({*NOT_FEDERATED, *COMBINATIONS, *aggregation.available()})


def choose(
    name: str,
    *,
    aggregator: str | None = None,
    objective: str | None = None,
    options: Mapping[str, object] | None = None,
    objective_options: Mapping[str, object] | None = None,
) -> Chosen:
    """What a method's name stands for, with what a recipe sets otherwise.

    Raises:
        ValueError: neither the name nor what is given says which server rule it is, or an unknown objective.
    """
    known = COMBINATIONS.get(name)
    if aggregator is not None and aggregator not in aggregation.available():
        raise ValueError(f"aggregator: {unknown('aggregator', aggregator, aggregation.available())}")
    if aggregator is None and known is None and name not in aggregation.available():
        raise ValueError(unknown("method", name, available_methods()))
    if objective is not None and objective not in available_objectives():
        raise ValueError(f"objective: {unknown('objective', objective, available_objectives())}")
    chosen_aggregator = aggregator or (known.aggregator if known else name)
    chosen_objective = objective or (known.objective if known else "plain")
    return Chosen(chosen_aggregator, chosen_objective, options or {}, objective_options or {})


def describe_method(name: str) -> tuple[str, str]:
    """One line for people who choose, and the paper; for any of available_methods()."""
    if name in NOT_FEDERATED:
        return NOT_FEDERATED[name], ""
    if name in COMBINATIONS and name != "shared-basis":  # its server rule says more
        row = describe_objective(COMBINATIONS[name].objective)
        return row.summary, row.paper
    method = aggregation.describe(name)
    return method.summary, method.paper


def unknown(what: str, name: str, known: list[str]) -> str:
    """The message for a name that nobody knows."""
    if name in RENAMED:
        return f"{what} {name!r} is called {RENAMED[name]!r} now (and what was 'fedcmp' is 'shared-basis')"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"no {what} is named {name!r}{hint} There are: {', '.join(known)}"
