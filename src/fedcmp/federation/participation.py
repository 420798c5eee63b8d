"""Who takes part in a round: a seeded share of the clients, the same for every federated method; how many merges.

Clients are sorted by splitmix64 of (seed, round, client) and the first max(1, round(share K)) take part. Nothing is
remembered: a resumed run and another method meet the same clients. A client that stays away skips that round's part of
its pairs; it does not catch up. Each client takes part in a share of the rounds in expectation, not exactly.
"""

from fedcmp.config import Recipe
from fedcmp.data.batches import one_pass_order

_STREAM = 0x7061727469636970  # keeps these draws apart from those of the pairs' order, which has the same seed


def participants(clients: int, share: float, round_number: int, seed: int) -> list[int]:
    """The clients that take part in one round.

    Args:
        clients: K.
        share: of the clients, 0 < share <= 1; halves are rounded to the even number, and at least one takes part.
        round_number: of the round, at least 0.
        seed: of the run.

    Returns:
        Ascending numbers of max(1, round(share K)) clients.

    Raises:
        ValueError: clients < 1, a share outside (0, 1], a negative round.
    """
    if clients < 1 or round_number < 0:
        raise ValueError(f"clients = {clients}, round = {round_number}: must be at least 1 and at least 0")
    if not 0 < share <= 1:
        raise ValueError(f"federation.participation = {share}: must be greater than 0 and at most 1")
    first = round_number * clients  # one index for each round and client
    order = one_pass_order([first + client for client in range(clients)], seed + _STREAM)
    return sorted(int(index) - first for index in order[: max(1, round(share * clients))])


def merges(recipe: Recipe, clients: int) -> int:
    """Return how often the server makes new tensors in a whole run: its rounds, or asynchronously its full buffers.

    Args:
        recipe: of the run.
        clients: K.
    """
    federation = recipe.federation
    if federation.mode == "sync":
        return federation.rounds
    parts = federation.rounds * max(1, round(federation.participation * clients))
    return -(-parts // federation.replies_per_merge(clients))
