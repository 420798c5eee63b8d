"""The model, and its training, which is next to nothing: what is measured is Flower."""

import torch
from torch import nn


def new_model(vision_width: int, text_width: int) -> nn.Module:
    """A projector as LLaVA-1.5 has it."""
    return nn.Sequential(nn.Linear(vision_width, text_width), nn.GELU(), nn.Linear(text_width, text_width))


def train(model: nn.Module) -> int:
    """Move every weight a little; return the number of examples."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-3)
    return 1000
