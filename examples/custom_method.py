"""Add a server rule of your own and train with it next to FedAvg.

    python examples/custom_method.py

A rule is a class with three hooks and a row in the table of methods; its keyword arguments are its options in a recipe.
Worker processes would not know a rule that is defined in a script, so the run takes one worker, which is this process.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import fedcmp
from fedcmp.aggregation import Aggregator, ClientUpdate, register


@register("median", summary="coordinate-wise median of the clients", paper="Yin et al. 2018, arXiv 1803.01498")
class Median(Aggregator):
    """Take the median of the clients' values, entry by entry; one client that diverges cannot pull it far."""

    def _begin(self, state: Mapping[str, Tensor]) -> None:
        self._states: list[dict[str, Tensor]] = []

    def _add(self, place: str, update: ClientUpdate) -> None:
        self._states.append({name: tensor.to(torch.float64) for name, tensor in update.state.items()})

    def _merge(self) -> dict[str, Tensor]:
        count = len(self._states)
        self.last_weights = [1 / count] * count
        names = self._states[0]
        return {name: torch.stack([state[name] for state in self._states]).quantile(0.5, dim=0) for name in names}


def main(folder: Path, *, pairs: int = 3000, rounds: int = 5) -> fedcmp.Run:
    """Train both methods on the embedded world, one of five clients with half of its captions wrong."""
    run = fedcmp.train(
        "demo",
        run={"name": "median", "folder": folder, "methods": ["fedavg", "median"], "workers": 1},
        data={"num_pairs": pairs},
        scenario={"kind": "iid", "wrong_captions": {"1": 0.5}},
        federation={"rounds": rounds},
        quiet=True,
    )
    print(run.table)
    return run


if __name__ == "__main__":
    main(Path("runs"))
