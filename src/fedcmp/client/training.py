"""One learner, one part of its pairs, one epoch: the local training that every method shares.

Only the projector is trained, by AdamW; its state is fresh at each call unless it is handed in (centralized and
local-only learners keep theirs over the whole pass). Shapes: see data/prepared.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedcmp.aggregation import ClientUpdate
from fedcmp.data.prepared import PreparedPairs
from fedcmp.errors import UserError
from fedcmp.model.vlm import VLM

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Optimisation:
    """AdamW's settings; the rate comes from a schedule."""

    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0


@dataclass(frozen=True)
class Part:
    """What one call trains on.

    Attributes:
        batches: positions of the pairs, one array a step; together one epoch over the part.
        rates: learning rate of each step.
        swapped: pair -> the pair whose caption it carries (see scenarios/manifest.py).
    """

    batches: list[NDArray[np.int64]]
    rates: list[float]
    swapped: dict[int, int]


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        update: what a client sends to the server.
        losses: training loss of each step, nats a caption token.
        optimizer: AdamW's state by "moment.tensor", to be handed in again.
        change: norm of the projector's change over the part.
    """

    update: ClientUpdate
    losses: list[float]
    optimizer: dict[str, Tensor]
    change: float


def train_part(
    vlm: VLM,
    pairs: PreparedPairs,
    part: Part,
    start: dict[str, Tensor],
    settings: Optimisation,
    *,
    optimizer_state: dict[str, Tensor] | None = None,
    with_second_moment: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train the projector for one epoch over a part.

    Args:
        vlm: its projector is overwritten.
        pairs: where the batches come from.
        part: batches and rates.
        start: the projector to start from.
        settings: AdamW's.
        optimizer_state: AdamW's state from an earlier part of the same learner; None: a fresh one.
        with_second_moment: send AdamW's bias-corrected second moment along, for rules that weigh parameters.
        on_step: called with the step's number and loss.

    Returns:
        The update with the alignment error measured after training over the part's own pairs, and the losses.

    Raises:
        ValueError: the part is empty.
        UserError: no picture of the part is usable.
    """
    if not part.batches:
        raise ValueError("a part without pairs cannot be trained on")
    projector = vlm.projector
    projector.load_state_dict(start)
    projector.train()
    optimizer = torch.optim.AdamW(
        projector.parameters(),
        lr=part.rates[0],
        betas=(settings.beta_1, settings.beta_2),
        weight_decay=settings.weight_decay,
    )
    if optimizer_state is not None:
        _restore(optimizer, projector, optimizer_state)
    losses: list[float] = []
    examples = 0
    for step, (positions, rate) in enumerate(zip(part.batches, part.rates, strict=True)):
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = pairs.batch(positions, part.swapped)
        if not len(batch.lengths):  # every picture of it turned out bad while it was read on the fly
            continue
        examples += len(batch.lengths)
        loss = vlm.caption_losses(batch.features, batch.ids, batch.lengths).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(projector.parameters(), settings.max_gradient_norm)
        optimizer.step()
        losses.append(loss.item())
        if on_step is not None:
            on_step(step, losses[-1])
    if not losses:
        raise UserError("a client's whole part of the round holds no usable picture; see the log for their names")
    projector.eval()
    state = {name: tensor.cpu() for name, tensor in projector.tensors().items()}
    update = ClientUpdate(
        state=state,
        num_examples=examples,
        alignment_error=_alignment_error(vlm, pairs, part),
        second_moment=_second_moment(optimizer, projector, settings.beta_2) if with_second_moment else None,
    )
    change = sum(float((state[name].double() - start[name].double()).square().sum()) for name in state) ** 0.5
    return Trained(update, losses, _saved(optimizer, projector), change)


def _alignment_error(vlm: VLM, pairs: PreparedPairs, part: Part) -> float:
    """E of docs/methods.md: the mean over all pairs of the part, after training."""
    errors = []
    for positions in part.batches:
        batch = pairs.batch(positions, part.swapped)
        if len(batch.lengths):
            errors.append(vlm.alignment_errors(batch.features, batch.ids, batch.lengths))
    return float(torch.cat(errors).double().mean())


def _second_moment(optimizer: torch.optim.AdamW, projector: torch.nn.Module, beta_2: float) -> dict[str, Tensor]:
    out = {}
    for name, parameter in projector.named_parameters():
        state = optimizer.state[parameter]
        out[name] = (state["exp_avg_sq"] / (1 - beta_2 ** float(state["step"]))).detach().cpu().clone()
    return out


def _saved(optimizer: torch.optim.AdamW, projector: torch.nn.Module) -> dict[str, Tensor]:
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment].detach().cpu().clone()
        for name, parameter in projector.named_parameters()
        for moment in _MOMENTS
    }


def _restore(optimizer: torch.optim.AdamW, projector: torch.nn.Module, saved: dict[str, Tensor]) -> None:
    for name, parameter in projector.named_parameters():
        state = {moment: saved[f"{moment}.{name}"].clone() for moment in _MOMENTS}
        for moment in ("exp_avg", "exp_avg_sq"):
            state[moment] = state[moment].to(parameter.device)
        optimizer.state[parameter] = state
