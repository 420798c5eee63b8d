"""Which local objective the clients of a rule need."""

from collections.abc import Mapping
from typing import Any

from fedcmp.aggregation import Aggregator, available, describe
from fedcmp.client.objectives import create_objective
from fedcmp.config.methods import NEEDS_AGGREGATOR, NEEDS_OBJECTIVE
from fedcmp.errors import UserError


def objective_of(
    aggregator: Aggregator, objective: str | None, options: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Return the clients' local objective and its options.

    Args:
        aggregator: the rule.
        objective: what the app asks for; None: what the rule needs, else "plain".
        options: the objective's.

    Raises:
        UserError: an unknown objective or option, or one that does not work with the rule.
    """
    rules = {name for name in available() if describe(name).factory is type(aggregator)}
    needed = next((NEEDS_OBJECTIVE[name] for name in sorted(rules) if name in NEEDS_OBJECTIVE), None)
    chosen = objective or needed or "plain"
    if needed is not None and chosen != needed:
        raise UserError(f"objective = {chosen!r}: {type(aggregator).__name__} needs {needed!r}; leave objective out")
    if chosen in NEEDS_AGGREGATOR and rules.isdisjoint(NEEDS_AGGREGATOR[chosen]):
        able = " or ".join(map(repr, NEEDS_AGGREGATOR[chosen]))
        raise UserError(f"objective = {chosen!r}: works with the rule {able} only")
    try:
        create_objective(chosen, **options)
    except ValueError as error:
        raise UserError(f"objective = {chosen!r}: {error}") from error
    return chosen, options
