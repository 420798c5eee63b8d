"""Many learners on one frozen backbone: their projectors stacked, their samples in one batch.

Each learner's samples go through its own projector (batched matrix products), then all of them through the one LLM.
Samples do not meet there, so every learner's losses and gradients are those that it would have alone, to rounding.
Shapes: C learners, A of them active in a step, B the most samples that one of them brings, S all samples of the step,
P patches, V vision width, D text width, N counted tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils.rnn import pad_sequence

from fedcmp.model.projector import Projector

if TYPE_CHECKING:  # recipes name objectives, and reading a recipe must not load transformers
    from fedcmp.data.prepared import Batch
    from fedcmp.model.vlm import VLM

Tensors = dict[str, Tensor]
Stacked = dict[str, Tensor]  # name -> (C, ...)


@dataclass(frozen=True)
class JointBatch:
    """The batches of the active learners, laid together.

    Attributes:
        learners_A: (A,) which learners they are.
        features_ABPV: (A, B, P, V) their features, zeros where one brings fewer than B.
        present_AB: (A, B) which of these are samples.
        ids_ST: (S, T) caption tokens of the samples, padded on the right.
        lengths_S: (S,) how many of them count.
        samples_A: (A,) how many samples each learner brings to the step, those of other ranks included.
        tokens_A: (A,) how many of their caption tokens count, likewise.
    """

    learners_A: Tensor
    features_ABPV: Tensor
    present_AB: Tensor
    ids_ST: Tensor
    lengths_S: Tensor
    samples_A: Tensor
    tokens_A: Tensor

    @classmethod
    def of(
        cls,
        batches: "Mapping[int, Batch]",
        *,
        pad: int,
        device: torch.device,
        samples_A: Tensor | None = None,
        tokens_A: Tensor | None = None,
    ) -> "JointBatch":
        """Lay together: learner -> its batch, which may be empty where other ranks bring samples of it.

        `samples_A` and `tokens_A` are those of all ranks; None: there are no others.
        """
        parts = list(batches.values())
        sizes_A = torch.tensor([len(batch.lengths) for batch in parts])
        rows = [row for batch in parts for row in batch.ids]
        return cls(
            learners_A=torch.tensor(list(batches)),
            features_ABPV=pad_sequence([b.features.to(device, torch.float32) for b in parts], batch_first=True),
            present_AB=(torch.arange(int(sizes_A.max())) < sizes_A[:, None]).to(device),
            ids_ST=pad_sequence(rows, batch_first=True, padding_value=pad) if rows else parts[0].ids,
            lengths_S=torch.cat([batch.lengths for batch in parts]),
            samples_A=sizes_A if samples_A is None else samples_A,
            tokens_A=torch.stack([batch.lengths.sum() for batch in parts]) if tokens_A is None else tokens_A,
        )


class Cohort:
    """C learners' projectors.

    Args:
        vlm: the frozen backbone; its projector says of what kind theirs are, and is left alone.
        starts: each learner's projector at the start, name -> tensor.

    Attributes:
        parameters: name -> (C, ...), what is trained.
        starts: name -> (C, ...), as they began.
    """

    def __init__(self, vlm: "VLM", starts: Sequence[Mapping[str, Tensor]]) -> None:
        self.vlm = vlm
        device = vlm.language.device
        # in the module's order: sums over tensors must not depend on how a state has travelled
        names = [name for name, _ in vlm.projector.named_parameters()]
        self.starts: Stacked = {name: torch.stack([own[name] for own in starts]).to(device) for name in names}
        self.parameters: Stacked = {name: tensor.clone().requires_grad_() for name, tensor in self.starts.items()}

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def of_learner(self, learner: int) -> dict[str, Tensor]:
        """A copy of one learner's projector, on the CPU."""
        return {name: tensor[learner].detach().cpu().clone() for name, tensor in self.parameters.items()}

    def project(self, parameters: Stacked, batch: JointBatch) -> Tensor:
        """(A, B, P, D) visual tokens of the active learners' samples, each through its learner's projector."""
        projector = self.vlm.projector
        if len(batch.learners_A) == 1:
            own = {name: tensor[batch.learners_A[0]] for name, tensor in parameters.items()}
            alone: Tensor = functional_call(projector, own, (batch.features_ABPV[0],))
            return alone[None]
        active = parameters if len(batch.learners_A) == len(self) else pick(parameters, batch.learners_A)
        tokens: Tensor = vmap(lambda own, features: functional_call(projector, own, (features,)))(
            active, batch.features_ABPV
        )
        return tokens

    @torch.no_grad()
    def input_grams(self, batch: JointBatch) -> tuple[Stacked, Tensor]:
        """Sums over the active learners' visual tokens of x x^T, x what a layer is fed with a one behind it.

        Returns:
            Weight's name -> (A, I, I), I inputs and the one for the bias; and (A,) visual tokens that were summed.
        """
        active = pick(self.parameters, batch.learners_A)
        fed = self._inputs_of_layers(active, batch.features_ABPV)
        present_AB11 = batch.present_AB[:, :, None, None].to(batch.features_ABPV)
        grams = {}
        for name, inputs_ABPI in fed.items():
            ones = torch.ones_like(inputs_ABPI[..., :1])
            counted = (torch.cat([inputs_ABPI, ones], -1) * present_AB11).flatten(1, 2)
            grams[name] = counted.transpose(1, 2) @ counted
        return grams, batch.present_AB.sum(1) * batch.features_ABPV.shape[2]

    def _inputs_of_layers(self, active: Stacked, features_ABPV: Tensor) -> Stacked:
        inputs = _LayerInputs(self.vlm.projector)

        def of_one(own: Tensors, features: Tensor) -> Tensors:
            fed: Tensors = functional_call(inputs, {f"projector.{name}": t for name, t in own.items()}, (features,))
            return fed

        found: Stacked = vmap(of_one)(active, features_ABPV)
        return found

    def caption_losses(self, visual_ABPD: Tensor, batch: JointBatch) -> Tensor:
        """(A,) mean loss over the caption tokens of each active learner's samples here; 0 of one without any."""
        losses_N = self.vlm.language.caption_losses(visual_ABPD[batch.present_AB], batch.ids_ST, batch.lengths_S)
        samples_A = batch.present_AB.sum(1).cpu()
        owner_S = torch.repeat_interleave(torch.arange(len(samples_A)), samples_A)
        owner_N = torch.repeat_interleave(owner_S, batch.lengths_S).to(losses_N.device)
        zeros_A = torch.zeros(len(samples_A), device=losses_N.device)
        counts_A = zeros_A.index_add(0, owner_N, torch.ones_like(losses_N))
        return zeros_A.index_add(0, owner_N, losses_N) / counts_A.clamp(min=1)

    @torch.no_grad()
    def alignment_errors(self, batch: JointBatch) -> list[Tensor]:
        """Of each active learner, 1 - cos(mean visual token, mean caption embedding) of its samples."""
        visual_SD = self.project(self.parameters, batch)[batch.present_AB].mean(1)
        text_SD = self.vlm.language.mean_embeddings(batch.ids_ST, batch.lengths_S).float()
        errors_S = (1 - torch.nn.functional.cosine_similarity(visual_SD, text_SD, dim=-1)).cpu()
        return list(errors_S.split(batch.present_AB.sum(1).tolist()))

    def gradients(self, losses_A: Tensor, learners_A: Tensor) -> Stacked:
        """name -> (A, ...) gradients of each active learner's loss by its own projector."""
        by_parameter = torch.autograd.grad(losses_A.sum(), list(self.parameters.values()))
        everyone = len(learners_A) == len(self)
        named = zip(self.parameters, by_parameter, strict=True)
        return {name: gradient if everyone else gradient[learners_A] for name, gradient in named}


def pick(tensors: Stacked, learners_A: Tensor) -> Stacked:
    """Those of the active learners."""
    return {name: tensor[learners_A] for name, tensor in tensors.items()}


class _LayerInputs(nn.Module):
    """A projector's `layer_inputs` as a module's forward, which functional_call needs."""

    def __init__(self, projector: Projector) -> None:
        super().__init__()
        self.projector = projector

    def forward(self, features: Tensor) -> Tensors:
        return self.projector.layer_inputs(features)
