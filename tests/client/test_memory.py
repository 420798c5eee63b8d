"""What one more client on the backbone takes, by counting the bytes of all living tensors."""

import contextlib
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from fedcmp.client.optimizer import Optimisation, StackedAdamW
from fedcmp.client.parts import Learner
from fedcmp.client.training import train_cohort
from tests.client.conftest import part_of, start


class Living(TorchDispatchMode):
    """Bytes of the tensors that were made under it and are still there; their peak."""

    def __init__(self):
        super().__init__()
        self.bytes, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.see, out)
        return out

    def see(self, tensor):
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.bytes:
            self.bytes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.gone, key)

    def gone(self, key):
        self.now -= self.bytes.pop(key, 0)


def test_one_more_client_keeps_four_projectors_beside_the_activations(vlm, pairs):
    """Its own, AdamW's two moments and the sum of its gradients: 336 MB at LLaVA-1.5-7B's size."""

    class Enough(Exception):  # noqa: N818  # no error
        pass

    def third_step(step, _loss):
        if step == 2:
            raise Enough

    part, peaks = part_of(range(32), size=16), {}
    part.batches.append(part.batches[0])
    part.rates.append(1e-2)
    for clients in (1, 5):
        learners = [Learner(part, start(vlm))] * clients
        with Living() as living, contextlib.suppress(Enough):
            train_cohort(vlm, pairs, learners, Optimisation(), micro_batch=16, on_step=third_step)
        peaks[clients] = living.peak
    projector = sum(tensor.nbytes for tensor in start(vlm).values())
    assert peaks[1] > 40 * projector  # what a step keeps for its gradient, as at 7B
    assert 3 < (peaks[5] - peaks[1]) / 4 / projector < 4.5


def test_a_step_of_adamw_takes_one_matrix_more_for_a_moment():
    """67 MB at LLaVA-1.5-7B's size, when the activations are gone."""
    with Living() as living:
        parameters = {"weight": torch.randn(5, 64, 64), "bias": torch.randn(5, 64)}
        gradients = {name: torch.randn_like(tensor) for name, tensor in parameters.items()}
        optimizer = StackedAdamW(parameters, Optimisation())
        kept = living.now  # parameters, gradients, two moments
        optimizer.step(gradients, torch.arange(5), torch.full((5,), 1e-3))
    assert kept <= living.now < 1.01 * kept
    assert living.peak - kept < 1.1 * parameters["weight"].nbytes
