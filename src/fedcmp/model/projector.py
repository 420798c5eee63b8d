"""The trainable part: vision features to visual tokens, linear or LLaVA's two-layer MLP.

Tensor names are those of transformers' LlavaMultiModalProjector. Shapes: B images, P patches, V vision width, D text
width; weights are (out, in).
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcmp.model.trainable import Kind, Shapes, Trainable, register_trainable

Layers = Literal["linear", "mlp"]
Initialisation = Literal["llava", "normal", "scaled"]


class Projector(Trainable):
    """`linear`: W x + b. `mlp`: W2 gelu(W1 x + b1) + b2, as LLaVA-1.5.

    Args:
        vision_width: V.
        text_width: D.
        kind: "linear" or "mlp".
        initialisation: "llava": PyTorch's default for nn.Linear, which LLaVA's own training code leaves in place
            (uniform within 1/sqrt(fan in)); "normal": standard deviation .02, zero bias, as transformers initialises
            LlavaForConditionalGeneration; "scaled": standard deviation 1/sqrt(fan in), zero bias, the last layer a
            tenth of that.
        seed: of the initial weights; the same seed gives every client the same projector.
    """

    def __init__(
        self,
        vision_width: int,
        text_width: int,
        *,
        kind: Layers = "mlp",
        initialisation: Initialisation = "llava",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.linear_1 = nn.Linear(vision_width, text_width)
        self.linear_2 = nn.Linear(text_width, text_width) if kind == "mlp" else None
        generator = torch.Generator().manual_seed(seed)
        layers = [self.linear_1] if self.linear_2 is None else [self.linear_1, self.linear_2]
        for layer in layers:
            _initialise(layer, initialisation, generator, last=layer is layers[-1])

    def forward(self, features_BPV: Tensor) -> Tensor:
        """Turn (B, P, V) into (B, P, D).

        Images and patches are one axis inside: with two, a product batched over learners copies every weight for each
        image.
        """
        *_, (layer, inputs) = self._steps(features_BPV.flatten(0, -2))
        out: Tensor = layer(inputs)
        tokens: Tensor = out.unflatten(0, features_BPV.shape[:-1])
        return tokens

    def layer_inputs(self, features_BPV: Tensor) -> dict[str, Tensor]:
        """Return weight's name -> what that layer is fed: (B, P, V) the first, (B, P, D) the second."""
        names = {id(module): f"{name}.weight" for name, module in self.named_children()}
        return {names[id(layer)]: inputs for layer, inputs in self._steps(features_BPV)}

    def _steps(self, features_BPV: Tensor) -> list[tuple[nn.Linear, Tensor]]:
        if self.linear_2 is None:
            return [(self.linear_1, features_BPV)]
        hidden = functional.gelu(self.linear_1(features_BPV))
        return [(self.linear_1, features_BPV), (self.linear_2, hidden)]

    def as_projector(self) -> "Projector":
        """Return itself."""
        return self


def _widths(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    text_width, vision_width = tensors["linear_1.weight"].shape
    return vision_width, text_width


def _linear_shapes(vision_width: int, text_width: int) -> Shapes:
    return {"linear_1.weight": (text_width, vision_width), "linear_1.bias": (text_width,)}


def _mlp_shapes(vision_width: int, text_width: int) -> Shapes:
    second: Shapes = {"linear_2.weight": (text_width, text_width), "linear_2.bias": (text_width,)}
    return _linear_shapes(vision_width, text_width) | second


register_trainable("mlp", Kind(partial(Projector, kind="mlp"), _mlp_shapes, _widths))
register_trainable("linear", Kind(partial(Projector, kind="linear"), _linear_shapes, _widths))


def _initialise(layer: nn.Linear, how: Initialisation, generator: torch.Generator, *, last: bool) -> None:
    bound = 1 / math.sqrt(layer.in_features)
    with torch.no_grad():
        if how == "llava":
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
            return
        spread = 0.02 if how == "normal" else bound * (0.1 if last else 1.0)
        layer.weight.normal_(0, spread, generator=generator)
        layer.bias.zero_()
