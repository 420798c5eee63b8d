"""Many learners on one frozen backbone: their trained tensors stacked, their samples in one batch.

Each learner's samples go through its own projector, or whatever is trained (batched matrix products), then all of them
through the one LLM.
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

from fedcmp.model.trainable import Trainable

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
        features_ABPV: (A, B, P, V) their features in the dtype that they are stored in, zeros where one brings fewer
            than B; projectors read them as float32.
        present_AB: (A, B) which of these are samples.
        ids_ST: (S, T) caption tokens of the samples, padded on the right.
        lengths_S: (S,) how many of them count.
        sizes_A: (A,) how many samples each learner brings here; on the CPU, so that asking never waits for a GPU.
        samples_A: (A,) how many samples each learner brings to the step: other ranks' and other pieces' included.
        tokens_A: (A,) how many of their caption tokens count, likewise.
    """

    learners_A: Tensor
    features_ABPV: Tensor
    present_AB: Tensor
    ids_ST: Tensor
    lengths_S: Tensor
    sizes_A: Tensor
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
        features = [_to_device(batch.features, device) for batch in parts]
        return cls(
            learners_A=torch.tensor(list(batches)),
            features_ABPV=features[0][None] if len(features) == 1 else pad_sequence(features, batch_first=True),
            present_AB=_to_device(torch.arange(int(sizes_A.max())) < sizes_A[:, None], device),
            ids_ST=pad_sequence(rows, batch_first=True, padding_value=pad) if rows else parts[0].ids,
            lengths_S=torch.cat([batch.lengths for batch in parts]),
            sizes_A=sizes_A,
            samples_A=sizes_A if samples_A is None else samples_A,
            tokens_A=torch.stack([batch.lengths.sum() for batch in parts]) if tokens_A is None else tokens_A,
        )

    def pieces(self, most: int | None) -> "list[JointBatch]":
        """The same samples in the same order, in batches of at most `most`; None: the batch as it is."""
        total = len(self.lengths_S)
        if most is None or total <= most:
            return [self]
        owner_S = torch.repeat_interleave(torch.arange(len(self.sizes_A)), self.sizes_A)
        begins_A = self.sizes_A.cumsum(0) - self.sizes_A
        out = []
        for start in range(0, total, most):
            owners, counts = owner_S[start : start + most].unique_consecutive(return_counts=True)
            firsts = (start - begins_A[owners]).clamp(min=0)
            taken = zip(owners.tolist(), firsts.tolist(), counts.tolist(), strict=True)
            parts = [self.features_ABPV[owner, first : first + count] for owner, first, count in taken]
            lengths = self.lengths_S[start : start + most]
            present_AB = torch.arange(int(counts.max())) < counts[:, None]
            out.append(
                JointBatch(
                    learners_A=self.learners_A[owners],
                    features_ABPV=parts[0][None] if len(parts) == 1 else pad_sequence(parts, batch_first=True),
                    present_AB=_to_device(present_AB, self.present_AB.device),
                    ids_ST=self.ids_ST[start : start + most, : int(lengths.max())],
                    lengths_S=lengths,
                    sizes_A=counts,
                    samples_A=self.samples_A[owners],
                    tokens_A=self.tokens_A[owners],
                )
            )
        return out

    def rows_of(self, piece: "JointBatch") -> Tensor:
        """Where the learners of a piece of this batch stand among its own."""
        return (piece.learners_A[:, None] == self.learners_A).nonzero()[:, 1]

    def count_tokens(self) -> Tensor:
        """(A,) counted caption tokens of each active learner's samples here, float32, on the CPU."""
        owner_S = torch.repeat_interleave(torch.arange(len(self.sizes_A)), self.sizes_A)
        return torch.zeros(len(self.sizes_A)).index_add(0, owner_S, self.lengths_S.float())

    def samples(self, of_ABx: Tensor) -> Tensor:
        """(A, B, ...) -> (S, ...): what belongs to a sample; a view where all learners bring the same number."""
        everywhere = len(self.lengths_S) == of_ABx.shape[0] * of_ABx.shape[1]
        return of_ABx.flatten(0, 1) if everywhere else of_ABx[self.present_AB]


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """In the dtype that it is stored in, and without waiting where the device is a GPU."""
    if device.type != "cuda":
        return tensor.to(device)
    with torch.cuda.device(device):  # a thread that reads ahead begins on the first GPU, whichever the model is on
        return (tensor if tensor.is_cuda else tensor.pin_memory()).to(device, non_blocking=True)


class Cohort:
    """C learners' trained tensors.

    Args:
        vlm: the frozen backbone; its trainable says of what kind theirs are, and is left alone.
        starts: each learner's tensors at the start, name -> tensor.
        at_once: most samples that go through projectors and LLM together; None: all of a batch.

    Attributes:
        parameters: name -> (C, ...), what is trained.
        starts: name -> (C, ...), as they began; one copy in memory where all began alike. Read only.
    """

    def __init__(self, vlm: "VLM", starts: Sequence[Mapping[str, Tensor]], *, at_once: int | None = None) -> None:
        self.vlm, self.at_once = vlm, at_once
        device = vlm.language.device
        # in the module's order: sums over tensors must not depend on how a state has travelled
        names = [name for name, _ in vlm.trainable.named_parameters()]
        self.starts: Stacked = {name: _stacked([own[name] for own in starts], device) for name in names}
        self.parameters: Stacked = {
            name: tensor.clone(memory_format=torch.contiguous_format).requires_grad_()
            for name, tensor in self.starts.items()
        }

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def of_learner(self, learner: int) -> dict[str, Tensor]:
        """A copy of one learner's tensors, on the CPU."""
        return {name: tensor[learner].detach().cpu().clone() for name, tensor in self.parameters.items()}

    def project(self, parameters: Stacked, batch: JointBatch) -> Tensor:
        """(A, B, P, D) visual tokens of the active learners' samples, each through its learner's trainable."""
        trainable = self.vlm.trainable
        if len(batch.learners_A) == 1:
            own = {name: tensor[batch.learners_A[0]] for name, tensor in parameters.items()}
            alone: Tensor = functional_call(trainable, own, (batch.features_ABPV[0].float(),))
            return alone[None]
        active = parameters if len(batch.learners_A) == len(self) else pick(parameters, batch.learners_A)
        tokens: Tensor = vmap(lambda own, features: functional_call(trainable, own, (features,)))(
            active, batch.features_ABPV.float()
        )
        return tokens

    @torch.no_grad()
    def input_grams(self, batch: JointBatch) -> tuple[Stacked, Tensor]:
        """Sums over the active learners' visual tokens of x x^T, x what a layer is fed with a one behind it.

        Returns:
            Weight's name -> (A, I, I), I inputs and the one for the bias; and (A,) visual tokens that were summed.
        """
        grams: Stacked = {}
        for piece in batch.pieces(self.at_once):
            rows, active = batch.rows_of(piece), pick(self.parameters, piece.learners_A)
            present_AB11 = piece.present_AB[:, :, None, None].float()
            for name, inputs_ABPI in self._inputs_of_layers(active, piece.features_ABPV.float()).items():
                ones = torch.ones_like(inputs_ABPI[..., :1])
                counted = (torch.cat([inputs_ABPI, ones], -1) * present_AB11).flatten(1, 2)
                gram = counted.transpose(1, 2) @ counted
                if name not in grams:
                    grams[name] = gram.new_zeros(len(batch.learners_A), *gram.shape[1:])
                grams[name][rows] += gram
        return grams, batch.sizes_A * batch.features_ABPV.shape[2]

    def _inputs_of_layers(self, active: Stacked, features_ABPV: Tensor) -> Stacked:
        inputs = _LayerInputs(self.vlm.trainable)

        def of_one(own: Tensors, features: Tensor) -> Tensors:
            fed: Tensors = functional_call(inputs, {f"trainable.{name}": t for name, t in own.items()}, (features,))
            return fed

        found: Stacked = vmap(of_one)(active, features_ABPV)
        return found

    def caption_losses(self, visual_ABPD: Tensor, batch: JointBatch) -> Tensor:
        """(A,) mean loss over the caption tokens of each active learner's samples here; 0 of one without any."""
        samples_A = batch.sizes_A
        losses_N = self.vlm.language.caption_losses(batch.samples(visual_ABPD), batch.ids_ST, batch.lengths_S)
        owner_S = torch.repeat_interleave(torch.arange(len(samples_A)), samples_A)
        owner_N = torch.repeat_interleave(owner_S, batch.lengths_S).to(losses_N.device)
        zeros_A = torch.zeros(len(samples_A), device=losses_N.device)
        counts_A = zeros_A.index_add(0, owner_N, torch.ones_like(losses_N))
        return zeros_A.index_add(0, owner_N, losses_N) / counts_A.clamp(min=1)

    @torch.no_grad()
    def alignment_errors(self, batch: JointBatch) -> list[Tensor]:
        """Of each active learner, 1 - cos(mean visual token, mean caption embedding) of its samples."""
        errors = []
        for piece in batch.pieces(self.at_once):
            visual_SD = piece.samples(self.project(self.parameters, piece)).mean(1)
            text_SD = self.vlm.language.mean_embeddings(piece.ids_ST, piece.lengths_S).float()
            errors.append(1 - torch.nn.functional.cosine_similarity(visual_SD, text_SD, dim=-1))
        return list(torch.cat(errors).cpu().split(batch.sizes_A.tolist()))

    def gradients(self, losses_A: Tensor, learners_A: Tensor) -> Stacked:
        """name -> (A, ...) gradients of each active learner's loss by its own projector."""
        by_parameter = torch.autograd.grad(losses_A.sum(), list(self.parameters.values()))
        everyone = len(learners_A) == len(self)
        named = zip(self.parameters, by_parameter, strict=True)
        return {name: gradient if everyone else gradient[learners_A] for name, gradient in named}


def _stacked(own: Sequence[Tensor], device: torch.device) -> Tensor:
    """(C, ...) the learners' tensors; one tensor that all share is not copied for each."""
    if all(tensor is own[0] for tensor in own):
        return own[0].to(device).expand(len(own), *own[0].shape)
    return torch.stack(list(own)).to(device)


def pick(tensors: Stacked, learners_A: Tensor) -> Stacked:
    """Those of the active learners."""
    return {name: tensor[learners_A] for name, tensor in tensors.items()}


class _LayerInputs(nn.Module):
    """A trainable's `layer_inputs` as a module's forward, which functional_call needs."""

    def __init__(self, trainable: Trainable) -> None:
        super().__init__()
        self.trainable = trainable

    def forward(self, features: Tensor) -> Tensors:
        return self.trainable.layer_inputs(features)
