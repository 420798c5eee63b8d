"""A client's few lines: take the arrays of a message, train your own PyTorch model, answer.

    asked = load_arrays(message, model)
    steps = local_optimizer(message, model, lr=1e-3)
    ... your loop, with steps.zero_grad() and steps.step() ...
    return local_update(message, model, optimizer=steps, num_examples=len(data), metrics={"loss": loss})

Rules that only need tensors and a number of examples (fedavg, ties, diloco ...) take any loop and optimiser of yours.
"""

from collections.abc import Mapping

import torch
from flwr.app import Message
from torch import Tensor, nn

from fedcmp.client.module_steps import ModuleSteps
from fedcmp.client.optimizer import Optimisation
from fedcmp.errors import UserError
from fedcmp.federation.flower.records import ARRAYS, Asked, Metrics, arrays_of, public_of, reply_content


def load_arrays(message: Message, model: nn.Module) -> Asked:
    """Copy a message's arrays into a model, by name; the model's other tensors stay as they are.

    Args:
        message: of AggregatorStrategy.
        model: any module whose state_dict() knows the names.

    Returns:
        What the message asks.

    Raises:
        UserError: an array that the model does not have, or of another shape; see also Asked.of.
    """
    known = model.state_dict()
    for name, tensor in arrays_of(message).items():
        if name not in known:
            raise UserError(f"arrays: the model has no tensor {name}: server and clients must build the same model")
        if known[name].shape != tensor.shape:
            raise UserError(
                f"arrays: {name} is {tuple(tensor.shape)}, the model's is {tuple(known[name].shape)}: server and "
                "clients must build the same model"
            )
        with torch.no_grad():
            known[name].copy_(tensor)  # state_dict() shares the model's memory
    return Asked.of(message)


def local_optimizer(
    message: Message, model: nn.Module, *, lr: float, settings: Optimisation | None = None
) -> ModuleSteps:
    """Return the optimiser for the message's step: AdamW, or AdamW in the shared basis.

    Where the message only asks to measure, its step() changes nothing: the same loop serves both.

    Args:
        message: of AggregatorStrategy.
        model: with the message's arrays, see `load_arrays`.
        lr: learning rate.
        settings: AdamW's other settings; gradients are clipped at norm 1 unless they say otherwise.

    Raises:
        UserError: as ModuleSteps.
    """
    asked = Asked.of(message)
    options = dict(asked.step_options)
    if asked.objective != "plain":
        raise UserError(f"objective {asked.objective!r}: needs fedcmp's own training (carry_out)")
    if options.get("basis", "shared") != "shared":
        raise UserError(f"basis {options['basis']!r}: needs fedcmp's own training (carry_out)")
    return ModuleSteps(
        model,
        lr=lr,
        settings=settings,
        step=asked.step,
        stretch=bool(options.get("stretch", True)),
        extras=asked.extras,
        broadcast=public_of(message),
        with_second_moment=asked.second_moment,
        names=list(message.content.array_records[ARRAYS]),
        measure_only=asked.measure_only,
    )


def local_update(
    message: Message,
    model: nn.Module,
    *,
    num_examples: int,
    optimizer: torch.optim.Optimizer | None = None,
    alignment_error: float | None = None,
    metrics: Metrics | None = None,
) -> Message:
    """Return the reply to a message: the model's tensors of the message's names, and what the rule needs.

    Args:
        message: of AggregatorStrategy.
        model: trained.
        num_examples: samples that it was trained on in this round.
        optimizer: `local_optimizer`'s, or a torch.optim.Adam or AdamW of your own; needed where the rule reads second
            moments or extras.
        alignment_error: E_k of docs/methods.md, for the rule fedcmp.
        metrics: whatever else: the server averages it.

    Raises:
        UserError: the rule needs what no optimiser was given for.
    """
    asked = Asked.of(message)
    second_moment, extra = None, None
    if isinstance(optimizer, ModuleSteps):
        extra = optimizer.extras()
        optimizer.close()
    elif asked.objective != "plain":
        raise UserError(f"objective {asked.objective!r}: needs fedcmp's own training (carry_out)")
    elif asked.step != "adamw" or asked.extras:
        raise UserError(f"step {asked.step!r}: step with local_optimizer(message, model, lr=...)")
    if asked.second_moment and not asked.measure_only:
        second_moment = _second_moments(model, optimizer)
    names = message.content.array_records[ARRAYS]
    state = {name: tensor for name, tensor in model.state_dict().items() if name in names}
    content = reply_content(
        None if asked.measure_only else state,
        num_examples=num_examples,
        alignment_error=alignment_error,
        metrics=metrics,
        second_moment=second_moment,
        extra=extra,
    )
    return Message(content, reply_to=message)


def _second_moments(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Mapping[str, Tensor]:
    if isinstance(optimizer, ModuleSteps):
        return optimizer.second_moments()
    if not isinstance(optimizer, torch.optim.Adam):  # AdamW is one
        raise UserError(
            "the rule reads AdamW's second moments: pass optimizer=, a torch.optim.AdamW or local_optimizer"
        )
    moments = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter)
        if state:
            group = next(group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))
            correction = 1 - float(group["betas"][1]) ** float(state["step"])
            moments[name] = state["exp_avg_sq"] / correction
        elif parameter.requires_grad:
            moments[name] = torch.zeros_like(parameter)
    return moments
