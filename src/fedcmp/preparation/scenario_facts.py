"""What a recipe's scenario looks like: sizes, heterogeneity, a map; before and without any training."""

from typing import Any

from fedcmp.config import Recipe
from fedcmp.preparation.loading import load_encoder
from fedcmp.preparation.partition import Usable, clusters, embeddings, hold_out, partition_pairs, styles_of
from fedcmp.preparation.sources import Progress, frozen_features, training_collections
from fedcmp.scenarios.describing.heterogeneity import METRICS, heterogeneity, owner_of
from fedcmp.scenarios.describing.maps import map_of_sample
from fedcmp.scenarios.partition import swap_captions


def describe_scenario(recipe: Recipe, progress: Progress | None = None) -> dict[str, Any]:
    """Partition a recipe's pairs as a run of it would, and measure how the clients' pairs differ.

    Args:
        recipe: the run; its seed is that of the partition, of the samples and of the map.
        progress: called with what is being done, how much of it, out of how much.

    Returns:
        As JSON can hold it: sizes (K,), heterogeneity (scenarios/describing/heterogeneity.py, on the captions that
        clients train with, wrong ones included), map (or None), wrong_captions (K,) counts, and for scenario cross
        objective, its trace over the steps of the clustering.

    Raises:
        UserError: unusable data, or an encoder without a text half.
    """
    tell: Progress = progress or _silent
    encoder = load_encoder(recipe)
    collections = training_collections(recipe, tell)
    read = Usable(collections, [frozen_features(recipe, c, encoder, tell) for c in collections])
    holdings = partition_pairs(recipe, collections, read, encoder, tell)
    names = [c.name for c in recipe.data.clients] or [f"client-{k}" for k in range(len(holdings))]
    world = recipe.data.format == "world"
    if not world and recipe.scenario.kind != "manifest":  # a built scenario has its held-out pairs already
        holdings, _ = hold_out(recipe, holdings, names)
    shares = {int(client): share for client, share in recipe.scenario.wrong_captions.items()}
    swapped = swap_captions(holdings, shares, seed=recipe.run.seed)

    embedded = embeddings(recipe, collections, read, encoder, tell)
    images, texts = embedded["image"], embedded["text"].copy()
    texts[list(swapped)] = embedded["text"][list(swapped.values())]
    labels = {}
    if any(read.groups):
        labels["family" if world else "group"] = [group or "all" for group in read.groups]
    if world:
        labels["style"] = styles_of(recipe, read.captions)
    owner = owner_of(holdings, len(images))
    metric = recipe.scenario.kind if recipe.scenario.kind in METRICS else "joint"
    facts: dict[str, Any] = {
        "sizes": [len(mine) for mine in holdings],
        "heterogeneity": heterogeneity(images, texts, owner, len(holdings), labels=labels, seed=recipe.run.seed),
        "map": map_of_sample(images, texts, owner, metric=metric, seed=recipe.run.seed),
        "wrong_captions": [sum(pair in swapped for pair in mine.tolist()) for mine in holdings],
    }
    if recipe.scenario.kind == "cross":
        facts["objective"] = clusters(recipe, collections[0], read, encoder, tell).trace.tolist()
    return facts


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tell nothing."""
