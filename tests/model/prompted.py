"""A second kind of trainable for the tests: a projector and one trained token that stands behind the image's."""

import torch
from torch import Tensor, nn

from fedcmp.errors import UserError
from fedcmp.model.projector import Projector
from fedcmp.model.trainable import Kind, Trainable, register_trainable, trainable_kinds, trainable_shapes

NAME = "projector-and-prompt"


class PromptedProjector(Trainable):
    def __init__(self, vision_width: int, text_width: int, *, initialisation: str, seed: int) -> None:
        super().__init__()
        self.inner = Projector(vision_width, text_width, initialisation=initialisation, seed=seed)
        self.prompt = nn.Parameter(torch.zeros(text_width))

    def forward(self, features_BPV: Tensor) -> Tensor:
        visual = self.inner(features_BPV)
        return torch.cat([visual, self.prompt.expand(visual.shape[0], 1, -1)], dim=1)

    def layer_inputs(self, features_BPV: Tensor) -> dict[str, Tensor]:
        return {f"inner.{name}": inputs for name, inputs in self.inner.layer_inputs(features_BPV).items()}

    def as_projector(self) -> Projector:
        raise UserError("a LLaVA checkpoint has no place for a trained prompt token; use the run's own tensors")


def _shapes(vision_width: int, text_width: int) -> dict[str, tuple[int, ...]]:
    own = {f"inner.{name}": shape for name, shape in trainable_shapes("mlp", vision_width, text_width).items()}
    return {"prompt": (text_width,)} | own


def _widths(tensors):
    text_width, vision_width = tensors["inner.linear_1.weight"].shape
    return vision_width, text_width


if NAME not in trainable_kinds():
    register_trainable(NAME, Kind(PromptedProjector, _shapes, _widths))
