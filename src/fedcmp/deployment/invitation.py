"""What sites are sent of a server's recipe, and whether a recipe can be run between machines at all; loads no torch."""

import hashlib

from fedcmp.config import Recipe, dump_recipe
from fedcmp.config.sections import Data, Model, Run, Scenario
from fedcmp.errors import UserError
from fedcmp.references import is_federated


def invitation_recipe(recipe: Recipe) -> str:
    """Return what the sites are sent of a recipe: nothing that names a path or a model of the server's."""
    sent = Recipe(
        run=Run(seed=recipe.run.seed, methods=recipe.run.methods),
        model=Model(**recipe.model.model_dump(exclude={"vision", "language", "projector_from", "device", "compile"})),
        data=Data(
            num_pairs=1,
            **recipe.data.model_dump(
                include={"train_share", "held_out", "max_caption_tokens", "max_unknown_fraction", "feature_dtype"}
            ),
        ),
        scenario=Scenario(
            clients=len(recipe.deployment.sites), max_missing_fraction=recipe.scenario.max_missing_fraction
        ),
        federation=recipe.federation,
        training=recipe.training,
        evaluation=recipe.evaluation.model_copy(update={"questions": None}),
        method=recipe.method,
        deployment=recipe.deployment,
    )
    return dump_recipe(sent)


def check_deployable(recipe: Recipe) -> None:
    """Refuse what only a simulation can do.

    Raises:
        UserError: names the key.
    """
    if not recipe.deployment.sites:
        raise UserError("deployment.sites: missing; name the sites that take part, in an order that stays")
    for method in recipe.run.methods:
        if not is_federated(method):
            raise UserError(
                f"run.methods: {method} has no server, so no federation can run it; leave it out, or simulate it"
            )
    for key in ("wrong_captions", "rate_factors"):
        if getattr(recipe.scenario, key):
            raise UserError(f"scenario.{key}: imitates clients in a simulation; leave it out")


def recipe_checksum(recipe: Recipe) -> str:
    """Return the sha256 of what sites are sent of a recipe, as they list it under accept.recipes."""
    return hashlib.sha256(invitation_recipe(recipe).encode()).hexdigest()
