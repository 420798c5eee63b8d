"""Local training that is done once for the same inputs: tests of the rounds run the same parts again and again.

That training itself gives the same bits again is tested where it belongs (tests/client, and whole runs with real
processes); here all that happens around it is real: messages, rules, clients' folders, checkpoints.
"""

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedcmp.client.parts import Trained


class Remembered:
    """What stands in for train_cohort.

    Args:
        train: train_cohort itself.

    Attributes:
        trained: calls that were carried out; `asked`: all of them.
    """

    def __init__(self, train: Callable[..., list[Trained]]) -> None:
        self._train = train
        self._known: dict[bytes, tuple[Any, Any, list[Trained]]] = {}
        self.trained = self.asked = 0

    def __call__(self, vlm: Any, pairs: Any, learners: Any, settings: Any, **options: Any) -> list[Trained]:
        """As train_cohort; where parts are saved between steps, it is called always."""
        self.asked += 1
        told = {name: value for name, value in options.items() if name not in ("on_step", "group", "store")}
        if options.get("store") is not None or options["group"].size > 1:
            self.trained += 1
            return self._train(vlm, pairs, learners, settings, **options)
        digest = hashlib.sha256(f"{id(vlm)} {id(pairs)}".encode())
        _feed(digest, [learners, settings, told])
        key = digest.digest()
        if key not in self._known:
            self.trained += 1
            # kept with what its ids are of: another object must not get the same ones
            self._known[key] = (vlm, pairs, self._train(vlm, pairs, learners, settings, **options))
        return copy.deepcopy(self._known[key][-1])


def _feed(digest: Any, value: object) -> None:
    """Take in whatever local training is called with, recursively: tensors by their bytes, objects by their fields."""
    digest.update(type(value).__name__.encode())
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            _feed(digest, str(name))
            _feed(digest, value[name])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        digest.update(str(len(value)).encode())
        for entry in value:
            _feed(digest, entry)
    elif dataclasses.is_dataclass(value) or hasattr(value, "__dict__"):
        _feed(digest, vars(value))
    else:
        digest.update(repr(value).encode())
