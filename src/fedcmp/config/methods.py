"""The methods that a recipe can name: a local objective together with a server rule.

Every aggregator is a method under its own name, with plain local training. Methods that change what the client does are
listed here. Those of fedcmp.references have no server rule at all. Names and options are checked without torch
(catalogue.py); it is loaded where a rule is made.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedcmp.config.catalogue import Entry, aggregators, objectives
from fedcmp.references import LARGE_BATCH as LARGE_BATCH  # named here for those who import it from here
from fedcmp.references import NOT_FEDERATED as NOT_FEDERATED

if TYPE_CHECKING:
    from fedcmp.aggregation import Aggregator
    from fedcmp.client.objectives import Objective

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
    "regmean": Combination("canonical", "regmean"),  # sent no basis, its clients take AdamW's own steps
    "shared-basis": Combination("canonical", "shared-basis"),
}
# halves of one method: what one sends, only the other reads
NEEDS_OBJECTIVE = {"shared-basis": "canonical", "regmean": "canonical", "scaffold": "scaffold"}
NEEDS_AGGREGATOR = {
    objective: tuple(rule for rule, wanted in NEEDS_OBJECTIVE.items() if wanted == objective)
    for objective in NEEDS_OBJECTIVE.values()
}
# rules that cannot merge clients who started from different versions, and why
SYNCHRONOUS = {
    "shared-basis": "it weighs clients direction by direction in the one basis that all of them stepped in",
    "scaffold": "its control variates are differences of gradients at one and the same model",
    "regmean": "its Gram matrices are of what clients of one version fed their layers",
}


@dataclass(frozen=True)
class Chosen:
    """Server rule and local objective of a federated method, each with its options.

    Attributes:
        aggregator: name of the server rule; `options` are its own.
        objective: name of the local objective; `objective_options` are its own.
    """

    aggregator: str
    objective: str
    options: Mapping[str, object] = field(default_factory=dict)
    objective_options: Mapping[str, object] = field(default_factory=dict)

    def create_aggregator(self) -> "Aggregator":
        """Make a fresh server rule; ValueError for bad options."""
        from fedcmp import aggregation

        return aggregation.create(self.aggregator, **self.options)

    def create_objective(self) -> "Objective":
        """Make a fresh local objective; ValueError for bad options."""
        from fedcmp.client.objectives import create_objective

        return create_objective(self.objective, **self.objective_options)


def available_methods() -> list[str]:
    """Return the names of all methods, references included, sorted."""
    return sorted({*NOT_FEDERATED, *COMBINATIONS, *aggregators()})


def choose(
    name: str,
    *,
    aggregator: str | None = None,
    objective: str | None = None,
    options: Mapping[str, object] | None = None,
    objective_options: Mapping[str, object] | None = None,
) -> Chosen:
    """Return what a method's name stands for, with what a recipe sets otherwise.

    Raises:
        ValueError: neither the name nor what is given says which server rule it is; an unknown objective or option; a
            rule and an objective that do not work together.
    """
    rules, aims = aggregators(), objectives()
    known = COMBINATIONS.get(name)
    if aggregator is not None and aggregator not in rules:
        raise ValueError(f"aggregator: {unknown('aggregator', aggregator, rules)}")
    if aggregator is None and known is None and name not in rules:
        raise ValueError(unknown("method", name, available_methods()))
    if objective is not None and objective not in aims:
        raise ValueError(f"objective: {unknown('objective', objective, aims)}")
    chosen_aggregator = aggregator or (known.aggregator if known else name)
    chosen_objective = objective or (known.objective if known else "plain")
    if problem := _apart(chosen_aggregator, chosen_objective):
        raise ValueError(f"{'objective' if objective else 'aggregator'}: {problem}")
    _check_options("options", options or {}, chosen_aggregator, rules[chosen_aggregator])
    _check_options("objective_options", objective_options or {}, chosen_objective, aims[chosen_objective])
    return Chosen(chosen_aggregator, chosen_objective, options or {}, objective_options or {})


def _apart(aggregator: str, objective: str) -> str | None:
    """Return why a rule and an objective do not work together; None where they do."""
    if aggregator in NEEDS_OBJECTIVE and objective != NEEDS_OBJECTIVE[aggregator]:
        wanted = NEEDS_OBJECTIVE[aggregator]
        return (
            f"{aggregator!r} reads what only clients with the objective {wanted!r} send, not {objective!r}; set "
            f'objective = "{wanted}"'
        )
    if objective in NEEDS_AGGREGATOR and aggregator not in NEEDS_AGGREGATOR[objective]:
        wanted = NEEDS_AGGREGATOR[objective][0]
        return (
            f"{objective!r} needs what only the aggregator {wanted!r} sends, not {aggregator!r}: it would train as "
            f'without and send more; set aggregator = "{wanted}", or leave the objective out'
        )
    return None


def _check_options(key: str, given: Mapping[str, object], name: str, entry: Entry) -> None:
    for option in given:
        if option not in entry.options:
            near = difflib.get_close_matches(option, entry.options, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            takes = f"it takes: {', '.join(entry.options)}" if entry.options else "it takes no options"
            raise ValueError(f"{key}: {name!r} has no option {option!r}; {hint}{takes}")


def describe_method(name: str) -> tuple[str, str]:
    """Return one line for people who choose, and the paper; for any of available_methods()."""
    if name in NOT_FEDERATED:
        return NOT_FEDERATED[name], ""
    if name in COMBINATIONS and name not in ("shared-basis", "regmean"):  # their server rules say more
        row = objectives()[COMBINATIONS[name].objective]
    else:
        row = aggregators()[name]
    return row.summary, row.paper


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that nobody knows."""
    known = list(known)
    if name in RENAMED:
        return f"{what} {name!r} is called {RENAMED[name]!r} now (and what was 'fedcmp' is 'shared-basis')"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"no {what} is named {name!r}{hint} There are: {', '.join(known)}"
