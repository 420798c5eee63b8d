"""DARE's random choice: each entry of a client's update is dropped with probability p, the others are divided by 1 - p.

    delta'_i = m_i delta_i / (1 - p),    m_i = 0 with probability p, else 1        so E delta' = delta
The choice is a function of (seed, round, the client's own tensors, the tensor's name): the order of clients and of
tensors does not matter, a resumed run draws the same, and so does every machine (SHA-256 and NumPy's SFC64 stream).
Implements docs/methods.md, DARE (Yu et al. 2024, section 3.1).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from fedcmp.aggregation.base import Aggregator
from fedcmp.aggregation.change import Change
from fedcmp.aggregation.options import require_number
from fedcmp.aggregation.update import ClientUpdate, Public

MOST_DROPPED = 0.9999  # of what is left, each entry then counts 10,000 times
WORDS = 2**32  # values of a random word: p is kept to within 1 / WORDS


class Dropper:
    """One client's choice in one round.

    Args:
        state: tensor name -> the client's tensor, whose values (in single precision) make the choice its own.
        drop: p in [0, 1).
        seed: the method's seed.
        round_number: rounds finished so far.
    """

    def __init__(self, state: Mapping[str, Tensor], *, drop: float, seed: int, round_number: int) -> None:
        self._drop = drop
        self._key = hashlib.sha256(f"{seed} {round_number}".encode())
        for name in sorted(state):
            self._key.update(name.encode())
            # any dtype that holds the same numbers draws the same
            values = state[name].detach().to(device="cpu", dtype=torch.float32).contiguous()
            self._key.update(values.numpy().data)

    def stream(self, name: str) -> Callable[[Tensor], None]:
        """Return a function that thins out a tensor, stretch after stretch, in place.

        Args:
            name: the tensor's name.

        Returns:
            A function of a stretch (floating point; all but the last of even length).
        """
        key = self._key.copy()
        key.update(f" {name}".encode())
        generator = np.random.SFC64(int.from_bytes(key.digest(), "little"))
        least = round(self._drop * WORDS)

        def thin(stretch: Tensor) -> None:
            pairs = generator.random_raw((len(stretch) + 1) // 2)
            words = pairs.view(np.uint32)[: len(stretch)]
            kept = torch.from_numpy(words >= least).to(device=stretch.device, dtype=stretch.dtype)
            stretch.mul_(kept).div_(1 - self._drop)

        return thin


class Thinned(Change):
    """What is left of a client's change.

    Args:
        state: tensor name -> the client's tensor.
        start: tensor name -> the global tensor.
        dropper: the client's choice.
    """

    def __init__(self, state: Mapping[str, Tensor], start: Mapping[str, Tensor], dropper: Dropper) -> None:
        super().__init__(state, start)
        self._dropper = dropper

    def blocks(self, name: str, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield one tensor's thinned change in stretches; see Change.blocks."""
        thin = self._dropper.stream(name)
        for delta, *rest in super().blocks(name, *others):
            thin(delta)
            yield delta, *rest


class DroppingRule(Aggregator):
    """Mixed into a rule, ahead of it: the rule then sees thinned updates. The rule's __init__ calls `_drop_out`."""

    def _drop_out(self, *, drop: float, seed: int) -> None:
        """Set the options; ValueError for a bad one."""
        require_number("drop", drop, 0, MOST_DROPPED)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise ValueError(f"seed = {seed!r}: must be a whole number")
        self._drop = drop
        self._seed = seed

    def _change(self, update: ClientUpdate, public: Public) -> Change:
        dropper = Dropper(update.state, drop=self._drop, seed=self._seed, round_number=public.round)
        return Thinned(update.state, public.state, dropper)
