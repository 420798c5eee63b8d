"""Which halves a method of a simulated run has: with a server or without, synchronous or not, on which clock."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fedcmp.config import Recipe
from fedcmp.errors import UserError
from fedcmp.federation.apart import Apart
from fedcmp.federation.arrivals import Arrivals, Courier
from fedcmp.federation.buffered import Buffered
from fedcmp.federation.rounds import Events, Side, Transport
from fedcmp.federation.server import ServerSide
from fedcmp.references import is_federated
from fedcmp.simulation.couriers import PoolCourier, VirtualCourier
from fedcmp.simulation.pool import Pool
from fedcmp.simulation.timed_rounds import TimedSide, TimedTransport, VirtualTransport, WallTransport
from fedcmp.simulation.transport import PoolTransport
from fedcmp.wire.messages import Reply
from fedcmp.wire.naming import Tensors


class Halves(NamedTuple):
    """A server side, what carries its assignments to the clients, and how many rounds (or merges) there will be."""

    side: Side
    transport: Transport
    rounds: int


def halves(
    method: str,
    recipe: Recipe,
    names: Sequence[str],
    initial: Tensors,
    rate: float,
    pool: Pool,
    folder: Path,
    events: Events,
) -> Halves:
    """Put a method's halves together.

    Args:
        method: its name.
        recipe: the run.
        names: of the clients.
        initial: the tensors that all learners start from.
        rate: peak learning rate of the learners.
        pool: the workers.
        folder: the method's run.
        events: hears of every part that was trained.

    Raises:
        UserError: scenario.client_seconds has another number of entries than there are clients.
    """

    def heard(reply: Reply, clients: int) -> None:
        if "loss" in reply.figures:
            events.client_done(method, reply.round, reply.client, clients, reply.figures["loss"])

    def heard_part(reply: Reply, done: int, parts: int) -> None:
        if "loss" in reply.figures:
            events.part_done(method, done, parts, reply.client, reply.figures["loss"])

    waiting, clients, rounds = folder / "waiting", folder / "clients", recipe.federation.rounds
    transport = PoolTransport(pool, clients, names, cohort=recipe.run.cohort)
    chosen, seconds = recipe.chosen(method), recipe.scenario.client_seconds
    if not is_federated(method):
        return Halves(Apart(method, names, initial, rate, chosen, heard, waiting), transport, rounds)
    if seconds and len(seconds) != len(names):
        raise UserError(f"scenario.client_seconds: {len(seconds)} numbers for {len(names)} clients; give one for each")
    is_virtual = bool(seconds) and recipe.scenario.clock == "virtual"
    if recipe.federation.mode == "async":
        buffered = Buffered(method, chosen, recipe, names, initial, waiting, rate, heard_part)
        courier: Courier = VirtualCourier(pool, transport, seconds) if is_virtual else PoolCourier(pool, transport)
        return Halves(buffered, Arrivals(buffered, courier), buffered.rounds)
    if not seconds:
        return Halves(ServerSide(method, chosen, recipe, names, initial, waiting, rate, heard), transport, rounds)
    deadline, cohort = recipe.federation.deadline, recipe.run.cohort
    clock: TimedTransport = WallTransport(pool, clients, names, cohort=cohort)
    if is_virtual:
        clock = VirtualTransport(pool, clients, names, cohort=cohort, seconds=seconds, deadline=deadline)
    return Halves(TimedSide(method, chosen, recipe, names, initial, waiting, rate, heard, clock=clock), clock, rounds)
