"""The partition that a built scenario gives: its ids looked up among the pairs that are at hand.

Ids may be missing (links die: CC12M has lost 38 % of its pictures): they are left out and counted. Rounds and clients
stay as they were built.
"""

import logging
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from fedcmp.config import Recipe
from fedcmp.data.batches import one_pass_order
from fedcmp.data.source import PairSource
from fedcmp.errors import UserError
from fedcmp.scenarios.built import BuiltScenario, ClientShare
from fedcmp.scenarios.manifest import Indices

logger = logging.getLogger("fedcmp.scenario")


@dataclass(frozen=True)
class BuiltPartition:
    """What the clients of a built scenario hold of the pairs at hand.

    Attributes:
        names: of the clients.
        parts: per client and round, positions of its pairs in the order of training.
        held_out: per client, positions of the pairs that it keeps for evaluation.
        missing: per client, ids to train on that are not at hand.
    """

    names: list[str]
    parts: list[list[Indices]]
    held_out: list[Indices]
    missing: list[int]

    @property
    def holdings(self) -> list[Indices]:
        """Per client, positions of the pairs that it trains on, ascending."""
        return [np.sort(np.concatenate(parts)) for parts in self.parts]

    def for_validation(self, seed: int) -> Self:
        """Return the partition judged by as many of each client's training pairs, its held-out ones set aside unseen.

        Args:
            seed: of the run.

        Raises:
            UserError: nothing would be left of a client's pairs in some round.
        """
        orders = [one_pass_order(mine, seed + 1) for mine in self.holdings]
        cut = [order[: len(held)] for order, held in zip(orders, self.held_out, strict=True)]
        left = [order[len(held) :] for order, held in zip(orders, self.held_out, strict=True)]
        return replace(self.of_holdings(left), held_out=[np.sort(held) for held in cut])

    def of_holdings(self, holdings: list[Indices]) -> Self:
        """Return the partition with only these of each client's training pairs, in their rounds and their order.

        Raises:
            UserError: nothing is left of a client's pairs in some round.
        """
        parts = []
        for name, mine, own in zip(self.names, holdings, self.parts, strict=True):
            parts.append([part[np.isin(part, mine)] for part in own])
            for number, part in enumerate(parts[-1], start=1):
                if not len(part):
                    raise UserError(f"client {name}, round {number}: too few pairs; none is left to train on")
        return replace(self, parts=parts)


def open_built(recipe: Recipe) -> BuiltScenario:
    """Open a built scenario and hold it against the recipe, before any image is read.

    Raises:
        UserError: no scenario, or other rounds than the recipe's.
    """
    folder = recipe.scenario.manifest
    assert folder is not None  # the recipe's own check
    built = BuiltScenario.read(folder)
    rounds = {len(client.rounds) for client in built.clients}
    if rounds != {recipe.federation.rounds}:
        raise UserError(
            f"{folder}: was cut into {max(rounds)} rounds, but federation.rounds = {recipe.federation.rounds}: set it "
            f"to {max(rounds)}, or build the scenario again with --rounds {recipe.federation.rounds}"
        )
    return built


def check_built(recipe: Recipe, source: PairSource) -> BuiltScenario:
    """Open a built scenario and hold it against recipe and source, before anything costly is done with them.

    Raises:
        UserError: no scenario; other rounds than the recipe's; a source whose content changed since.
    """
    built, folder = open_built(recipe), recipe.scenario.manifest
    known = built.embeddings.get("source", {})
    if known.get("fingerprint") in (None, source.fingerprint()):
        return built
    if known.get("total") == len(source):
        raise UserError(
            f"{source.name}: changed since {folder} was built: as many pairs, but other captions or images (or it was "
            "built by an earlier version); embed it and build the scenario again, or give the pairs it was built from"
        )
    told = f"{source.name} holds {len(source)} pairs, the scenario was built from {known.get('total')}"
    logger.warning("%s: %s: pairs are looked up by their ids only", folder, told)
    return built


def built_partition(recipe: Recipe, source: PairSource, keys: list[str]) -> BuiltPartition:
    """Look a built scenario's ids up.

    Args:
        recipe: scenario.manifest names the scenario's folder.
        source: the pairs' source.
        keys: ids of the usable pairs, by position.

    Raises:
        UserError: no scenario; other rounds than the recipe's; a source whose content changed since; too many ids
            are missing, or all of a client's in a round.
    """
    built = check_built(recipe, source)
    folder = recipe.scenario.manifest
    position = {key: number for number, key in enumerate(keys)}
    parts = [[_found(ids, position) for ids in client.rounds] for client in built.clients]
    missing = [client.size - sum(map(len, mine)) for client, mine in zip(built.clients, parts, strict=True)]
    _check_missing(recipe, built.clients, parts, missing, source.name)
    held_out = [np.sort(_found(client.held_out, position)) for client in built.clients]
    if recipe.data.format != "world":  # the embedded world has scenes of its own to judge by
        for client, held in zip(built.clients, held_out, strict=True):
            if not len(held):
                raise UserError(
                    f"{folder}: {client.name} keeps no pairs for evaluation: build the scenario again with --held-out "
                    "0.01, or restore the pairs"
                )
    return BuiltPartition([client.name for client in built.clients], parts, held_out, missing)


def _found(ids: tuple[str, ...], position: dict[str, int]) -> Indices:
    return np.array([position[name] for name in ids if name in position], np.int64)


def _check_missing(
    recipe: Recipe, clients: tuple[ClientShare, ...], parts: list[list[Indices]], missing: list[int], name: str
) -> None:
    total, lost = sum(client.size for client in clients), sum(missing)
    folder, most = recipe.scenario.manifest, recipe.scenario.max_missing_fraction
    told = ", ".join(f"{c.name} {gone} of {c.size}" for c, gone in zip(clients, missing, strict=True) if gone)
    if lost > most * total:
        first = next(key for client in clients for ids in client.rounds for key in ids)
        raise UserError(
            f"{folder}: {lost} of {total} ids are not among the pairs of {name}, more than "
            f"scenario.max_missing_fraction = {most:g} allows ({told}); its ids look like {first!r}: is it another "
            "collection? If they are lost, raise max_missing_fraction"
        )
    for client, mine in zip(clients, parts, strict=True):
        for number, part in enumerate(mine, start=1):
            if not len(part):
                raise UserError(f"{folder}: all pairs of {client.name}, round {number}, are missing: restore them")
    if lost:
        logger.warning("%s: %d of %d ids are not among the pairs, and left out: %s", folder, lost, total, told)
