"""A training step's gradients as one CUDA graph: what launching thousands of kernels one by one costs.

Everything that the CPU decides (which positions count, how long a batch is) is put into tensors of fixed size first:
captions are padded to one length, and positions that do not count get the weight 0. The arithmetic is that of
fedcmp.client.cohort otherwise. Shapes: see fedcmp/client/cohort.py; one learner.
"""

from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from fedcmp.client.cohort import Cohort, JointBatch

Tensors = dict[str, Tensor]


class GraphedStep:
    """cohort's loss and gradients for batches shaped like `like`; without a GPU computed each time, as it is captured.

    Args:
        cohort: of one learner.
        like: a batch of the size that all will have.
        longest: tokens that captions are padded to; default: those of `like`.
    """

    def __init__(self, cohort: Cohort, like: JointBatch, *, longest: int | None = None) -> None:
        self._cohort = cohort
        language = cohort.vlm.language
        device = language.device
        self._longest = longest or like.ids_ST.shape[1]
        count = len(like.lengths_S)
        self._features = like.features_ABPV.float()
        self._ids = torch.zeros(count, self._longest, dtype=torch.long, device=device)
        self._weights = torch.zeros(count, self._longest, device=device)
        with torch.no_grad():
            self._before = language.embed([*language.start_ids]).expand(count, -1, -1).clone()
            self._between = language.embed(language.separator_ids).expand(count, -1, -1).clone()
        self._fill(like)
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._capture()

    def _fill(self, batch: JointBatch) -> None:
        captions = batch.ids_ST.shape[1]
        self._features.copy_(batch.features_ABPV)
        self._ids[:, :captions] = batch.ids_ST.to(self._ids.device)
        counted = torch.arange(self._longest) < batch.lengths_S[:, None]
        self._weights.copy_(counted / batch.lengths_S.sum())

    def _compute(self) -> tuple[Tensor, Tensors]:
        """(1,) loss and name -> (1, ...) gradients, of what is filled in."""
        cohort, language = self._cohort, self._cohort.vlm.language
        own = {name: tensor[0] for name, tensor in cohort.parameters.items()}
        visual = torch.func.functional_call(cohort.vlm.trainable, own, (self._features[0],)).to(language.dtype)
        inputs = torch.cat([self._before, visual, self._between, language.embedding(self._ids[:, :-1])], 1)
        with mock.patch(f"{type(language.model).__module__}.create_causal_mask", return_value=None):
            # transformers would ask the GPU whether sequences are packed, which a graph cannot
            hidden = language.model.base_model(inputs_embeds=inputs, use_cache=False)[0][:, -self._longest :]
        logits = language.model.get_output_embeddings()(hidden).float()
        losses = functional.cross_entropy(logits.flatten(0, 1), self._ids.flatten(), reduction="none")
        loss = (losses * self._weights.flatten()).sum()
        gradients = torch.autograd.grad(loss, list(cohort.parameters.values()))
        return loss.detach()[None], dict(zip(cohort.parameters, gradients, strict=True))

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their kernels and take their memory outside the graph
                self._compute()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._found = self._compute()

    def __call__(self, batch: JointBatch) -> tuple[Tensor, Tensors]:
        """(1,) loss and name -> (1, ...) gradients; what a graph returns is overwritten by the next call."""
        self._fill(batch)
        if self._graph is None:
            return self._compute()
        self._graph.replay()
        return self._found
