"""Everything that sees a local round's batches, as one: its objective, its step, and what is measured alongside."""

from fedcmp.client.cohort import JointBatch, Stacked
from fedcmp.client.local_round import LocalRound
from fedcmp.client.objectives.base import Objective
from fedcmp.client.steps.base import Step
from fedcmp.client.steps.meters import Meters


class TakingPart:
    """What takes part in a round.

    Args:
        local: the round.
        objective: what is minimised.
        step: how learners step.
        meters: what the server reads of any step.
    """

    def __init__(self, local: LocalRound, objective: Objective, step: Step, meters: Meters) -> None:
        self._local = local
        self._all: dict[str, Objective | Step | Meters] = {"objective": objective, "step": step, "meters": meters}

    def observe(self, batch: JointBatch) -> None:
        """Show a batch before its step, or in a round that only measures."""
        for one in self._all.values():
            one.observe(self._local, batch)

    def end(self) -> None:
        """Fill `local.extras` and `local.memory`."""
        for one in self._all.values():
            one.end(self._local)

    def part_state(self) -> Stacked:
        """Return what all have gathered, each under its own name, to continue in the middle of a part."""
        return {
            f"{part}/{name}": tensor for part, one in self._all.items() for name, tensor in one.part_state().items()
        }

    def load_part_state(self, gathered: Stacked) -> None:
        """Take up what `part_state` returned."""
        for part, one in self._all.items():
            start = f"{part}/"
            one.load_part_state({n.removeprefix(start): t for n, t in gathered.items() if n.startswith(start)})
