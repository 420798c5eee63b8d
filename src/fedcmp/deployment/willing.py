"""What a site is willing to do and to send: its own SITE.toml decides, whatever a server asks for.

Refused before anything is read or trained: a recipe, a method or a number of rounds that the site does not accept, a
method that needs what the site does not send, an assignment that the accepted recipe does not lead to. And once more
when a reply leaves: only what is allowed is in it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from fedcmp.aggregation.labels import (
    ADAM_AGE,
    ADAM_SECOND,
    CONTROL_CHANGE,
    GRAM,
    INPUT_GRAM,
    MOMENTUM_CHANGE,
    MUON_MOMENTUM,
    OUTPUT_GRAM,
    PATH,
)
from fedcmp.aggregation.labels import SECOND_MOMENT as CANONICAL_MOMENT
from fedcmp.config import Recipe
from fedcmp.deployment.refusals import Declined
from fedcmp.deployment.site_file import SENDABLE, Site
from fedcmp.references import is_federated
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.payload import forms
from fedcmp.wire.site_messages import Admission, Answer, Holding, Judged

PROJECTOR, MOMENTS, GRAMS, VARIATES, ALIGNMENT, LOSSES, COUNTS = SENDABLE
_EXTRAS = {
    **dict.fromkeys((CANONICAL_MOMENT, ADAM_SECOND, OUTPUT_GRAM, INPUT_GRAM), MOMENTS),
    GRAM: GRAMS,
    **dict.fromkeys((CONTROL_CHANGE, MOMENTUM_CHANGE, MUON_MOMENTUM), VARIATES),
    **dict.fromkeys((PATH, ADAM_AGE), COUNTS),  # numbers of steps, and their rates added up
}


def check_accepted(recipe: Recipe, text: str, site: Site) -> None:
    """Refuse a run that the site does not accept.

    Args:
        recipe: the run's, as the server sent it.
        text: the same, as it came.
        site: SITE.toml.

    Raises:
        Declined: says which key of SITE.toml refuses what.
    """
    accept = site.accept
    digest = hashlib.sha256(text.encode()).hexdigest()
    if accept.recipes and digest not in accept.recipes:
        raise Declined(f"accept.recipes does not list this run's recipe, whose sha256 is {digest}")
    if accept.max_rounds is not None and recipe.federation.rounds > accept.max_rounds:
        raise Declined(f"federation.rounds = {recipe.federation.rounds}: accept.max_rounds is {accept.max_rounds}")
    for method in recipe.run.methods:
        if not is_federated(method):
            raise Declined(f"method {method}: has no server, so a site has no part in it")
        if "*" not in accept.methods and method not in accept.methods:
            raise Declined(f"method {method}: accept.methods has {', '.join(accept.methods)} only")
        missing = [what for what in needed_by(recipe, method) if what not in site.send.allow]
        if missing:
            raise Declined(f"method {method} needs {', '.join(missing)} from a site: not in send.allow")


def check_assignment(recipe: Recipe, method: str, assignment: Assignment) -> None:
    """Refuse work that the accepted recipe does not lead to: another objective or step would send more, or cost more.

    Args:
        recipe: the run's, as the server sent it.
        method: one of its methods.
        assignment: the work.

    Raises:
        Declined: names what the recipe says otherwise.
    """
    _check_method(recipe, method)
    if assignment.round > recipe.federation.rounds:
        raise Declined(f"{method}, round {assignment.round}: the run has {recipe.federation.rounds}")
    federation, chosen = recipe.federation, recipe.chosen(method)
    rule, rate = chosen.create_aggregator(), recipe.learning_rate(method)
    expected = {
        "objective": chosen.objective,
        "objective_options": dict(chosen.objective_options),
        "step": chosen.step,
        "step_options": dict(chosen.step_options),
        "extras": tuple(sorted(rule.extras)),
        "with_second_moment": "second_moment" in rule.needs,
        "forms": forms(federation.payload, federation.broadcast_payload),
        "error_feedback": federation.error_feedback,
        "keep_optimizer": False,
        "measure_only": assignment.measure_only and rule.opening,
        "learning_rate": assignment.learning_rate if rate is None else rate,
    }
    for key, value in expected.items():
        found = getattr(assignment, key)
        if (tuple(found) if key == "extras" else found) != value:
            raise Declined(f"{method}, round {assignment.round}: its {key} is not what the run's recipe says")


def needed_by(recipe: Recipe, method: str) -> list[str]:
    """Return what a federated method cannot do without, in SENDABLE's order."""
    chosen = recipe.chosen(method)
    rule = chosen.create_aggregator()
    needs = rule.needs
    found: set[str] = {PROJECTOR, COUNTS, *(_EXTRAS.get(label, label) for label in rule.extras)}
    found |= {MOMENTS} if "second_moment" in needs else set()
    found |= {ALIGNMENT} if "alignment_error" in needs else set()
    return [what for what in SENDABLE if what in found]


def only_allowed(reply: Reply, site: Site) -> Reply:
    """Return a reply as it may leave the site: figures that are not to be sent are taken out.

    Raises:
        Declined: it holds tensors that are not to be sent: the method cannot work without them.
    """
    allow = site.send.allow
    kinds: set[str] = {PROJECTOR} if reply.state or reply.update else set()
    kinds |= {MOMENTS} if reply.second_moment else set()
    kinds |= {_EXTRAS.get(label, label) for label in reply.extra}
    refused = sorted(kinds - set(allow))
    if refused:
        raise Declined(f"{', '.join(refused)}: asked for by the server, but not in send.allow")
    figures = {name: value for name, value in reply.figures.items() if LOSSES in allow or "loss" not in name}
    alignment = reply.alignment_error if ALIGNMENT in allow else 0.0
    return replace(reply, figures=figures, alignment_error=alignment)


def check_judging(recipe: Recipe, method: str, site: Site) -> None:
    """Refuse to report losses where the site does not send them.

    Args:
        recipe: the run's, as the server sent it.
        method: whose model is judged.
        site: SITE.toml.

    Raises:
        Declined: losses are not in send.allow, or the run has no such method.
    """
    _check_method(recipe, method)
    if LOSSES not in site.send.allow:
        raise Declined("the losses on held-out pairs are asked for, but losses are not in send.allow")


def _check_method(recipe: Recipe, method: str) -> None:
    if method not in recipe.run.methods:
        raise Declined(f"method {method}: is not one of this run's: {', '.join(recipe.run.methods)}")


def sent_names(answer: Answer) -> Sequence[str]:
    """Return what an answer holds, in SENDABLE's words, for the site's own log."""
    if isinstance(answer, Judged):
        return [LOSSES, COUNTS]
    if isinstance(answer, Admission | Holding):
        return [COUNTS]
    if not isinstance(answer, Reply):
        return []
    found: list[str] = [
        *([PROJECTOR] if answer.state or answer.update else []),
        *([MOMENTS] if answer.second_moment else []),
        *(_EXTRAS.get(label, label) for label in answer.extra),
        *([LOSSES] if any("loss" in name for name in answer.figures) else []),
        *([ALIGNMENT] if answer.alignment_error else []),
        *([COUNTS] if answer.num_examples else []),
    ]
    return list(dict.fromkeys(found))
