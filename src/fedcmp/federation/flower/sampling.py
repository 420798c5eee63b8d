"""Which nodes take part: waits until enough are connected, but not for ever; a seeded draw of them."""

import time

from flwr.serverapp import Grid

from fedcmp.errors import UserError, counted
from fedcmp.federation.participation import participants

_POLL_SECONDS = 1.0


def connected_nodes(grid: Grid, least: int, wait_seconds: float) -> list[int]:
    """Return the connected nodes' numbers, ascending, as soon as there are enough.

    Args:
        grid: Flower's.
        least: how many are needed.
        wait_seconds: how long they are waited for.

    Raises:
        UserError: fewer are connected after that time.
    """
    until = time.monotonic() + wait_seconds
    while len(nodes := sorted(grid.get_node_ids())) < least:
        left = until - time.monotonic()
        if left <= 0:
            raise UserError(
                f"{counted(len(nodes), 'node')} connected after {wait_seconds:g} s, and {least} needed: start more "
                "SuperNodes, or lower min_available_nodes"
            )
        time.sleep(min(_POLL_SECONDS, left))
    return nodes


def sampled_nodes(nodes: list[int], share: float, round_number: int, seed: int) -> list[int]:
    """Return the nodes of one round: a share of them, at least one, drawn by seed and round.

    Args:
        nodes: ascending.
        share: 0 < share <= 1.
        round_number: at least 0.
        seed: of the draw.
    """
    return [nodes[position] for position in participants(len(nodes), share, round_number, seed)]
