"""Which local objective and step the clients of a rule need, and the rule with what that step needs of a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedcmp.aggregation import Aggregator, available, describe, serve
from fedcmp.client.objectives import create_objective
from fedcmp.client.steps import create_step
from fedcmp.config.methods import COMBINATIONS, NEEDS_AGGREGATOR, NEEDS_OBJECTIVE, PLAIN_STEP
from fedcmp.errors import UserError


@dataclass(frozen=True)
class Local:
    """What clients minimise and how they step, each with its options."""

    objective: str
    objective_options: Mapping[str, Any]
    step: str
    step_options: Mapping[str, Any]


def local_of(
    aggregator: Aggregator,
    objective: str | None,
    options: Mapping[str, Any],
    step: str | None,
    step_options: Mapping[str, Any],
) -> tuple[Aggregator, Local]:
    """Return the rule, with what the step needs of the server, and the clients' local training.

    Args:
        aggregator: the rule, before its first round.
        objective: what the app asks for; None: what the rule needs, else "plain".
        options: the objective's.
        step: what the app asks for; None: what the method of the rule's name stands for, else "adamw".
        step_options: the step's.

    Raises:
        UserError: an unknown objective, step or option, or an objective that does not work with the rule.
    """
    rules = {name for name in available() if describe(name).factory is type(aggregator)}
    needed = next((NEEDS_OBJECTIVE[name] for name in sorted(rules) if name in NEEDS_OBJECTIVE), None)
    chosen = objective or needed or "plain"
    if needed is not None and chosen != needed:
        raise UserError(f"objective = {chosen!r}: {type(aggregator).__name__} needs {needed!r}; leave objective out")
    if chosen in NEEDS_AGGREGATOR and rules.isdisjoint(NEEDS_AGGREGATOR[chosen]):
        able = " or ".join(map(repr, NEEDS_AGGREGATOR[chosen]))
        raise UserError(f"objective = {chosen!r}: works with the rule {able} only")
    if chosen == "canonical":
        raise UserError("objective = 'canonical': is a step now; write step='canonical'")
    try:
        create_objective(chosen, **options)
    except ValueError as error:
        raise UserError(f"objective = {chosen!r}: {error}") from error
    known = next((COMBINATIONS[name].step for name in sorted(rules) if name in COMBINATIONS), PLAIN_STEP)
    stepping = step or known
    try:
        services = create_step(stepping, **step_options).services()
    except ValueError as error:
        raise UserError(f"step = {stepping!r}: {error}") from error
    return serve(aggregator, services), Local(chosen, options, stepping, step_options)
