"""Which pairs a learner takes in each step of each round, worked out from the manifest and the seed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcmp.config import Recipe
from fedcmp.config.methods import LARGE_BATCH
from fedcmp.config.rates import default_rate
from fedcmp.data.batches import OnePass, batches_of_part, one_pass_order
from fedcmp.preparation.loading import Prepared
from fedcmp.references import is_federated, reference_of

POOLED, POOLED_LARGE_BATCH = -1, -2  # the "client" numbers of the centralized learners
PartBatches = list[list[NDArray[np.int64]]]


def learning_rate(method: str, recipe: Recipe, pairs: Sequence[int]) -> float:
    """Return the peak learning rate of a method: the recipe's, or one worked out from how long its learners train.

    Args:
        method: its name.
        recipe: batch size, rounds, participation, and the rate if it names one.
        pairs: of each client.
    """
    named = recipe.learning_rate(method)
    if named is not None:
        return named
    if is_federated(method):
        share, learners = recipe.federation.participation, len(pairs)
    else:
        share, learners = 1.0, 1 if reference_of(method) == "centralized" else len(pairs)
    steps = share * sum(pairs) / (learners * recipe.training.batch_size)
    return default_rate(max(1.0, steps), chosen=recipe.chosen(method), factor=recipe.training.rate_factor)


def pooled_client(method: str) -> int:
    """Return the "client" number of a centralized method."""
    return POOLED_LARGE_BATCH if reference_of(method) == LARGE_BATCH else POOLED


class Batches:
    """Every learner's batches; call it with a client's number.

    Args:
        recipe: rounds, batch size, seed.
        data: the run's pairs.
        first_position: of these pairs; see `preparation.prepare.prepare`.
    """

    def __init__(self, recipe: Recipe, data: Prepared, first_position: int = 0) -> None:
        self._recipe, self._data, self._first = recipe, data, first_position
        self._known: dict[int, PartBatches] = {}

    def __call__(self, client: int) -> PartBatches:
        """Return a learner's batches in each round's part; a pooled learner's part is the union of the clients'."""
        if client not in self._known:
            rounds = range(self._recipe.federation.rounds)
            if client < 0:
                times = len(self._data.manifest.holdings) if client == POOLED_LARGE_BATCH else 1
                self._known[client] = [self._pooled(part, times) for part in rounds]
            else:
                one_pass = self._pass(client)
                self._known[client] = [[b - self._first for b in one_pass.batches(part)] for part in rounds]
        return self._known[client]

    def _pass(self, client: int) -> OnePass:
        mine = self._data.manifest.holdings[client]
        parts = None if self._data.manifest.parts is None else self._data.manifest.parts[client]
        return OnePass(
            mine + self._first,
            self._data.train.tokens.lengths[mine],
            rounds=self._recipe.federation.rounds,
            batch_size=self._recipe.training.batch_size,
            seed=self._recipe.run.seed,
            parts=None if parts is None else [part + self._first for part in parts],
        )

    def _pooled(self, part: int, times: int) -> list[NDArray[np.int64]]:
        seed = self._recipe.run.seed
        clients = range(len(self._data.manifest.holdings))
        union = np.concatenate([self._pass(client).part(part) for client in clients])
        mixed = one_pass_order(union, seed + 1)  # another order than the clients' own: their pairs are interleaved
        lengths = self._data.train.tokens.lengths[mixed]
        return batches_of_part(mixed, lengths, batch_size=times * self._recipe.training.batch_size, seed=seed + part)
