"""The package's steps on any PyTorch module, in a training loop of your own.

    steps = ModuleSteps(model, lr=1e-3, step="canonical", broadcast=broadcast, extras=["input_gram"])
    for batch in batches:
        steps.zero_grad()
        loss_of(model, batch).backward()
        steps.step()
    steps.extras()          what the server reads

"adamw" and "canonical", which is AdamW in the broadcast basis (steps/canonical.py). Where a server reads what the
layers are fed, that is seen by hooks, so every weight matrix must belong to an nn.Linear that the loop calls. Both are
the arithmetic of the package's own training, a cohort of one.
Shapes: O outputs of a layer, I inputs (with the bias column).
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedcmp.aggregation.labels import BASIS, GRAM, SECOND_MOMENT, STRETCH
from fedcmp.aggregation.matrices import Matrix, find_matrices
from fedcmp.client.optimizer import Optimisation, StackedAdamW, StackedOptimizer
from fedcmp.client.steps.canonical import CanonicalAdamW
from fedcmp.client.steps.meters import MomentMeter
from fedcmp.errors import UserError

_ALONE = torch.tensor([0])
_PLAIN = "plain"  # second moments of the tensors' own entries


class ModuleSteps(torch.optim.Optimizer):
    """An optimiser for one round of one client; the next round makes a new one.

    Its rate is `param_groups[0]["lr"]`, so PyTorch's schedulers work.

    Args:
        module: what is trained, in training mode while it is.
        lr: learning rate.
        settings: AdamW's other settings.
        step: "adamw" or "canonical", in the broadcast basis.
        stretch: of "canonical": whether steps are rho times as long.
        extras: labels of what the server reads: of "input_gram" and "canonical_second_moment"; None: both with
            "canonical", else neither.
        broadcast: what the server rule broadcasts, label -> name -> tensor.
        names: the tensors that travel, by their names in the module's state_dict(); None: all parameters.
        with_second_moment: whether `second_moments` will be asked for; "adamw" keeps them anyhow.
        measure_only: step() leaves the module as it is; what its layers are fed is summed.

    Raises:
        UserError: another step or extra; a weight matrix that is frozen or not of an nn.Linear; a basis that does not
            fit.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float,
        settings: Optimisation | None = None,
        step: str = "adamw",
        stretch: bool = True,
        extras: Collection[str] | None = None,
        broadcast: Mapping[str, Mapping[str, Tensor]] | None = None,
        names: Iterable[str] | None = None,
        with_second_moment: bool = False,
        measure_only: bool = False,
    ) -> None:
        if extras is None:
            extras = (GRAM, SECOND_MOMENT) if step == "canonical" else ()
        if step not in ("adamw", "canonical") or not set(extras) <= {GRAM, SECOND_MOMENT}:
            unknown = ", ".join(sorted(set(extras) - {GRAM, SECOND_MOMENT}))
            told = f"extras {unknown}" if unknown else f"step {step!r}"
            raise UserError(
                f"{told}: a training loop of your own knows the steps 'adamw' and 'canonical' and what these send; the "
                "others need fedcmp's own training (carry_out)"
            )
        self._extras = frozenset(extras)
        self.measure_only = measure_only
        wanted = None if names is None else set(names)
        self._trained = {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and (wanted is None or name in wanted)
        }
        if not self._trained:
            raise UserError("none of the tensors that travel is a trained parameter of the module")
        super().__init__(list(self._trained.values()), {"lr": lr})
        # (1, ...), the module's own memory where it is float32 or wider: small steps vanish in less
        self._stacked = {name: _wide(parameter)[None] for name, parameter in self._trained.items()}
        self._grams: dict[str, Tensor] = {}
        self._tokens: dict[str, int] = {}
        self._hooks: list[RemovableHandle] = []
        self._matrices: list[Matrix] = []
        settings = settings or Optimisation()
        self._steps: StackedOptimizer
        sent = broadcast or {}
        if self._extras:
            travelling = {name: t for name, t in module.state_dict().items() if wanted is None or name in wanted}
            self._matrices = find_matrices(travelling, bias="column")
        if GRAM in self._extras:
            self._watch(module)
        self._moments: dict[str, MomentMeter] = {}
        if step == "adamw":
            self._steps = StackedAdamW(self._stacked, settings)
            if SECOND_MOMENT in self._extras:
                self._add_meter(SECOND_MOMENT, settings, sent.get(BASIS, {}))
            return
        try:
            stretches = {name: float(rho) for name, rho in sent.get(STRETCH, {}).items()} if stretch else {}
            self._steps = CanonicalAdamW(self._stacked, settings, sent.get(BASIS, {}), stretches)
        except ValueError as error:
            raise UserError(f"{error}: the message was made for another model") from error
        if with_second_moment:
            self._add_meter(_PLAIN, settings, None)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; the gradients are used up by it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self.measure_only:
            gradients = {name: self._gradient(name) for name in self._trained}
            self._steps.step(gradients, _ALONE, torch.tensor([float(self.param_groups[0]["lr"])]))
            with torch.no_grad():
                for name, parameter in self._trained.items():
                    if self._stacked[name].dtype != parameter.dtype:
                        parameter.copy_(self._stacked[name][0])
        self.zero_grad()
        return loss

    def second_moments(self) -> dict[str, Tensor]:
        """Return AdamW's bias-corrected second moments, name -> tensor; zeros before any step.

        Raises:
            UserError: "canonical" steps were not made with_second_moment.
        """
        if not self._has_stepped():
            return {name: torch.zeros_like(tensor[0]) for name, tensor in self._stacked.items()}
        if _PLAIN in self._moments:
            return {name: tensor[0].cpu() for name, tensor in self._moments[_PLAIN].moments().items()}
        found = self._steps.second_moment(0) if self._steps.keeps_second_moment else None
        if found is None:
            raise UserError("canonical steps keep no second moments of the tensors' entries: set with_second_moment")
        return found

    def extras(self) -> dict[str, dict[str, Tensor]]:
        """Return what the server reads of this round, as asked for.

        Returns:
            "canonical_second_moment" -> weight's name -> (O, I), "input_gram" -> weight's name -> (I, I) mean of x x^T.

        Raises:
            UserError: a layer was never called in training mode.
        """
        for matrix in self._matrices if GRAM in self._extras else ():
            if not self._tokens.get(matrix.weight):
                raise UserError(
                    f"{matrix.weight}: its layer was never called in training mode, so nothing is known of its inputs; "
                    "call model.train() and the layer itself"
                )
        found = {}
        if SECOND_MOMENT in self._extras:
            if isinstance(self._steps, CanonicalAdamW):
                moments = self._steps.canonical_second_moments()
            else:
                moments = self._moments[SECOND_MOMENT].moments()
            found[SECOND_MOMENT] = {name: moment[0].cpu() for name, moment in moments.items()}
        if GRAM in self._extras:
            found[GRAM] = {name: (gram / self._tokens[name]).cpu() for name, gram in self._grams.items()}
        return found

    def close(self) -> None:
        """Take the hooks off the module."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def state_dict(self) -> dict[str, Any]:
        """Refuse: an optimiser lives for one round."""
        raise NotImplementedError("ModuleSteps lives for one round of a client; make a new one in the next")

    def _add_meter(self, label: str, settings: Optimisation, bases: Mapping[str, Tensor] | None) -> None:
        """Measure second moments alongside, for what the steps do not keep."""
        self._moments[label] = MomentMeter(self._steps, self._stacked, beta=settings.beta_2, bases=bases)

    def _has_stepped(self) -> bool:
        return bool(self._steps.part_state()["step"][0] > 0)

    def _gradient(self, name: str) -> Tensor:
        gradient = self._trained[name].grad
        stacked = self._stacked[name]
        return torch.zeros_like(stacked) if gradient is None else gradient.detach().to(stacked.dtype)[None]

    def _watch(self, module: nn.Module) -> None:
        """Sum what the linear layers are fed."""
        layers = dict(module.named_modules())
        for matrix in self._matrices:
            layer = layers.get(matrix.weight.rpartition(".")[0])
            frozen = [name for name in (matrix.weight, matrix.bias) if name is not None and name not in self._trained]
            if frozen:
                raise UserError(f"{frozen[0]} travels but is not trained: leave it out of the ServerApp's arrays")
            if not isinstance(layer, nn.Linear):
                raise UserError(
                    f"{matrix.weight} belongs to {type(layer).__name__}: what a layer is fed is known of nn.Linear "
                    "only; leave it out of the ServerApp's arrays, or use another rule"
                )
            self._hooks.append(layer.register_forward_pre_hook(partial(self._see, matrix), with_kwargs=True))

    @torch.no_grad()
    def _see(self, matrix: Matrix, layer: nn.Module, fed: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not layer.training:
            return
        inputs_NI = (fed[0] if fed else named["input"]).detach().flatten(0, -2).to(self._stacked[matrix.weight].dtype)
        if matrix.bias is not None:
            inputs_NI = torch.cat([inputs_NI, torch.ones_like(inputs_NI[:, :1])], dim=1)
        gram_II = inputs_NI.T @ inputs_NI
        known = self._grams.get(matrix.weight)
        self._grams[matrix.weight] = gram_II if known is None else known.add_(gram_II)
        self._tokens[matrix.weight] = self._tokens.get(matrix.weight, 0) + len(inputs_NI)


def _wide(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))
