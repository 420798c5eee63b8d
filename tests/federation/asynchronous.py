"""An asynchronous server without clients, for tests: replies are made up, and FedBuff is written again in NumPy."""

from pathlib import Path

import numpy as np
import torch

from fedcmp.config import parse_recipe
from fedcmp.federation.buffered import Buffered
from fedcmp.wire.messages import Reply
from fedcmp.wire.payload import encode

SHAPES = {"linear.weight": (2, 3), "linear.bias": (2,)}


def small_recipe(clients, rounds, *, method="fedavg", options=None, **federation):
    """A recipe that nothing is prepared for."""
    content = {
        "run": {"methods": [method]},
        "data": {"num_pairs": 10 * clients * rounds},
        "scenario": {"clients": clients},
        "federation": {"mode": "async", "rounds": rounds, **federation},
        "method": {method: {"options": options or {}}},
    }
    return parse_recipe(content, "test")


def tensors(seed):
    """Tensors of SHAPES, float32."""
    draw = np.random.default_rng(seed)
    return {name: torch.from_numpy(draw.normal(size=shape).astype(np.float32)) for name, shape in SHAPES.items()}


def server(folder: Path, recipe, *, initial=None, **named):
    """A server of the recipe's first method, and its first buffer is open."""
    (method,) = recipe.run.methods
    names = [f"client-{client}" for client in range(recipe.scenario.clients)]
    side = Buffered(
        method, recipe.chosen(method), recipe, names, initial or tensors(0), folder / "waiting", 0.1, **named
    )
    side.open(1, [])
    return side


def reply_to(client, assignment, change, *, examples=8, form="float32"):
    """What a client sends that changed its tensors by `change`: them, or the change where payloads are rounded."""
    if assignment.forms.whole:
        sent = {"state": {name: tensor + change[name] for name, tensor in assignment.state.items()}}
    else:
        sent = {"update": encode(change, form)}
    figures = {"loss": 1.0, "loss_first": 1.0, "loss_last": 1.0, "update_norm": 1.0, "learning_rate": 0.1}
    return Reply(assignment.round, client, examples, 0.5, figures=figures, **sent)


class FedBuff:
    """Algorithm 1 of Nguyen et al. 2022 with sample weights, in float64, one flat vector for each tensor."""

    def __init__(self, start, *, exponent):
        self.model = {name: tensor.double().numpy() for name, tensor in start.items()}
        self.exponent, self.version = exponent, 0
        self.buffer = []

    def add(self, change, *, examples, version):
        staleness = self.version - version
        self.buffer.append((examples, 1 / (1 + staleness) ** self.exponent, change))

    def merge(self):
        total = sum(examples for examples, _, _ in self.buffer)
        for name in self.model:
            step = np.zeros(self.model[name].shape)
            for examples, share, change in self.buffer:
                step = step + examples * share * change[name].double().numpy()
            self.model[name] = self.model[name] + step / total
        self.buffer = []
        self.version += 1
