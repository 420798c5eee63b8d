"""The methods that a recipe can name: a local objective and a step together with a server rule.

Every aggregator is a method under its own name, with plain local training by AdamW. Methods that change what the client
does are listed here. Those of fedcmp.references have no server rule at all. Names and options are checked without torch
(catalogue.py); it is loaded where a rule is made.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedcmp.config.catalogue import Entry, aggregators, objectives, steps
from fedcmp.references import LARGE_BATCH as LARGE_BATCH  # named here for those who import it from here
from fedcmp.references import NOT_FEDERATED as NOT_FEDERATED
from fedcmp.references import reference_of, step_named_in

if TYPE_CHECKING:
    from fedcmp.aggregation import Aggregator
    from fedcmp.client.objectives import Objective
    from fedcmp.client.steps import Step

# names of version 0.1, whose "fedcmp" is shared-basis now
RENAMED = {
    "fedcmp-published": "fedcmp",
    "fedcmp-parameters": "fisher",
}


PLAIN_STEP = "adamw"


@dataclass(frozen=True)
class Combination:
    """A method that is more than an aggregator.

    Attributes:
        objective: name of its local objective.
        aggregator: name of its server rule; `options` are what this method sets of it.
        step: name of its clients' step.
        summary: one line for people who choose; default: that of its objective, or of its step.
        paper: where it comes from, where it has a summary of its own.
    """

    objective: str
    aggregator: str
    step: str = PLAIN_STEP
    options: Mapping[str, object] = field(default_factory=dict)
    summary: str = ""
    paper: str = ""


COMBINATIONS: dict[str, Combination] = {
    "fedprox": Combination("fedprox", "fedavg"),
    "moon": Combination("moon", "fedavg"),
    "scaffold": Combination("scaffold", "scaffold"),
    "fedsam": Combination("fedsam", "fedavg"),
    "fedswa": Combination("fedswa", "fedswa"),
    "shared-basis": Combination("plain", "shared-basis", "canonical"),
    "local-soap": Combination("plain", "fedavg", "soap"),
    "local-muon": Combination("plain", "fedavg", "muon"),
    "muloco": Combination(
        "plain",
        "diloco",
        "muon",
        {"learning_rate": 0.7, "momentum": 0.6},
        summary="local Muon, outer Nesterov step on the mean update",
        paper="Thérien et al. 2025, arXiv 2505.23725",
    ),
    "newton-muon": Combination("plain", "fedavg", "newton-muon"),
    "fedpm": Combination(
        "plain",
        "regmean",
        "foof",
        {"off_diagonal": 1.0, "damping": 0.0},
        summary="preconditioned steps, merged by the clients' preconditioners",
        paper="2026, arXiv 2511.09100",
    ),
    "fedpac-soap": Combination("plain", "fedavg", "fedpac-soap"),
    "fedmuon": Combination("plain", "fedavg", "fedmuon"),
    "fedmuon-liu": Combination("plain", "fedavg", "fedmuon-liu"),
    "fedadamw": Combination("plain", "fedavg", "fedadamw"),
}
# halves of one method: what one sends, only the other reads
NEEDS_OBJECTIVE = {"scaffold": "scaffold"}
NEEDS_AGGREGATOR = {
    objective: tuple(rule for rule, wanted in NEEDS_OBJECTIVE.items() if wanted == objective)
    for objective in NEEDS_OBJECTIVE.values()
}
# steps that hear from a server in every round -> the one that is nearest without
NEEDS_SERVER = {"fedpac-soap": "soap", "fedmuon": "muon", "fedmuon-liu": "muon", "fedadamw": PLAIN_STEP}
# rules that cannot merge clients who started from different versions, and why
SYNCHRONOUS = {
    "shared-basis": "it weighs clients direction by direction in the one basis that all of them stepped in",
    "scaffold": "its control variates are differences of gradients at one and the same model",
    "regmean": "its Gram matrices are of what clients of one version fed their layers",
}


@dataclass(frozen=True)
class Chosen:
    """Server rule, local objective and step of a federated method, each with its options.

    Attributes:
        aggregator: name of the server rule; `options` are its own.
        objective: name of the local objective; `objective_options` are its own.
        step: name of the clients' step; `step_options` are its own.
    """

    aggregator: str
    objective: str
    options: Mapping[str, object] = field(default_factory=dict)
    objective_options: Mapping[str, object] = field(default_factory=dict)
    step: str = PLAIN_STEP
    step_options: Mapping[str, object] = field(default_factory=dict)

    @property
    def synchronous(self) -> str | None:
        """Why its clients must all start from the same version; None where they need not."""
        if self.step in NEEDS_SERVER:
            return f"its clients' steps ({self.step}) continue from what all of them did in the last round"
        if self.step == "canonical" and self.step_options.get("basis", "shared") == "shared":
            return "its clients step in the one basis that the server makes for a version"
        return SYNCHRONOUS.get(self.aggregator)

    def create_aggregator(self) -> "Aggregator":
        """Make a fresh server rule, with what the step needs of the server; ValueError for bad options."""
        from fedcmp import aggregation

        rule = aggregation.create(self.aggregator, **self.options)
        return rule if self.step == PLAIN_STEP else aggregation.serve(rule, self.create_step().services())

    def create_step(self) -> "Step":
        """Make a fresh step; ValueError for bad options."""
        from fedcmp.client.steps import create_step

        return create_step(self.step, **self.step_options)

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
    step: str | None = None,
    step_options: Mapping[str, object] | None = None,
) -> Chosen:
    """Return what a method's name stands for, with what a recipe sets otherwise.

    Raises:
        ValueError: neither the name nor what is given says which server rule it is; an unknown objective, step or
            option; a rule, an objective and a step that do not work together.
    """
    rules, aims = aggregators(), objectives()
    known = COMBINATIONS.get(name)
    if aggregator is not None and aggregator not in rules:
        raise ValueError(f"aggregator: {unknown('aggregator', aggregator, rules)}")
    if aggregator is None and known is None and name not in rules:
        raise ValueError(unknown("method", name, available_methods()))
    _check_no_step(objective, objective_options or {})
    if objective is not None and objective not in aims:
        raise ValueError(f"objective: {unknown('objective', objective, aims)}")
    chosen_aggregator = aggregator or (known.aggregator if known else name)
    chosen_objective = objective or (known.objective if known else "plain")
    if problem := _apart(chosen_aggregator, chosen_objective):
        raise ValueError(f"{'objective' if objective else 'aggregator'}: {problem}")
    chosen_step = choose_step(step or (known.step if known else PLAIN_STEP), step_options or {})
    _check_options("options", options or {}, chosen_aggregator, rules[chosen_aggregator])
    _check_options("objective_options", objective_options or {}, chosen_objective, aims[chosen_objective])
    own = known.options if known is not None and chosen_aggregator == known.aggregator else {}
    return Chosen(
        chosen_aggregator,
        chosen_objective,
        {**own, **(options or {})},
        objective_options or {},
        chosen_step,
        step_options or {},
    )


def choose_alone(name: str, *, step: str | None = None, step_options: Mapping[str, object] | None = None) -> Chosen:
    """Return how the learners of a method without a server train; their aggregator is "".

    Args:
        name: "local", "centralized" and so on, or one of these with "-with-STEP" behind it.
        step: what a recipe names; default: the step that the name ends in, if it does, else AdamW.
        step_options: of the step; a canonical one is in the learner's own basis unless they say otherwise.

    Raises:
        ValueError: an unknown step or option; a step that hears from a server.
    """
    named = step_named_in(name)
    if step is None and named is not None and named not in steps():
        base = reference_of(name)
        raise ValueError(f"name it {base}-with-STEP, or set step; {unknown('step', named, steps())}")
    chosen, options = choose_step(step or named or PLAIN_STEP, step_options or {}), dict(step_options or {})
    if chosen in NEEDS_SERVER:
        raise ValueError(
            f"step: {chosen!r} hears from a server in every round, and {name} has none; the nearest step without one "
            f"is {NEEDS_SERVER[chosen]!r}"
        )
    if chosen == "canonical" and options.get("basis", "shared") == "shared":
        options["basis"] = "own"
    return Chosen("", "plain", {}, {}, chosen, options)


def choose_step(name: str, options: Mapping[str, object]) -> str:
    """Return a step's name, checked with its options' names.

    Raises:
        ValueError: no such step, or it has no such option.
    """
    known = steps()
    if name not in known:
        raise ValueError(f"step: {unknown('step', name, known)}")
    _check_options("step_options", options, name, known[name])
    return name


def _check_no_step(objective: str | None, options: Mapping[str, object]) -> None:
    """Refuse what was an objective until version 0.2 and is a step now; ValueError says how to write it."""
    if objective == "canonical":
        raise ValueError('objective: "canonical" is a step now: write step = "canonical", its options in step_options')
    if "stretch" in options and objective is None:
        raise ValueError("objective_options: stretch belongs to the step now: write step_options = { stretch = ... }")


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
    known = COMBINATIONS.get(name)
    if known is None or name == known.aggregator == "shared-basis":  # its server rule says more
        row = aggregators()[name]
    elif known.summary:
        return known.summary, known.paper
    else:
        row = objectives()[known.objective] if known.step == PLAIN_STEP else steps()[known.step]
    return row.summary, row.paper


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that nobody knows."""
    known = list(known)
    if name in RENAMED:
        return f"{what} {name!r} is called {RENAMED[name]!r} now (and what was 'fedcmp' is 'shared-basis')"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"no {what} is named {name!r}{hint} There are: {', '.join(known)}"
