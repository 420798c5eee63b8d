"""A tiny set of pairs with given features, the world's LLM, and a plain loop to compare with."""

import numpy as np
import pytest
import torch

from fedcmp.client.parts import Part
from fedcmp.data.prepared import PreparedPairs, TokenTable
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vlm import VLM
from fedcmp.world.scene import make_scenes

VISION_WIDTH = 12


class FixedFeatures:
    """Features that are given."""

    dtype = torch.float32

    def __init__(self, features):
        self.stored = features

    def features(self, indices):
        return self.stored[np.asarray(indices)]

    def gather(self, indices):
        return np.asarray(indices), self.features(indices)


@pytest.fixture(scope="session")
def vlm():
    language = LanguageModel("world")
    return VLM(language, Projector(VISION_WIDTH, language.width, seed=3))


@pytest.fixture(scope="session")
def pairs(vlm):
    generator = torch.Generator().manual_seed(0)
    captions = make_scenes(8, 0, 40, images=False).captions
    ids = vlm.language.tokenizer(captions, add_special_tokens=False)["input_ids"]
    tokens = TokenTable.of([[*row, vlm.language.end] for row in ids])
    features = FixedFeatures(torch.randn(40, 4, VISION_WIDTH, generator=generator))
    return PreparedPairs(features, np.arange(40), tokens, ["all"] * 40, vlm.language.pad)


def part_of(positions, size=4, rate=1e-2, swapped=None):
    batches = [np.array(positions[i : i + size]) for i in range(0, len(positions), size)]
    return Part(batches, [rate] * len(batches), swapped or {})


def start(vlm, seed=3):
    return Projector(VISION_WIDTH, vlm.language.width, seed=seed).tensors()


def plain_loss(vlm, pairs, projector, positions):
    """The token mean, one sample at a time through the library's own model."""
    language = vlm.language
    total, count = torch.zeros(()), 0
    for position in np.asarray(positions).tolist():
        row = pairs.tokens[position]
        visual = projector(pairs.features.stored[position : position + 1])
        inputs = torch.cat([language.inputs(visual, torch.empty(1, 0, dtype=torch.long)), language.embed([row])], 1)
        logits = language.model(inputs_embeds=inputs).logits[0, -len(row) - 1 : -1]
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(row), reduction="sum")
        count += len(row)
    return total / count


def plain_loop(vlm, pairs, part, *, max_norm=1.0, penalty=None, gradients=None, rates=None):
    """One learner by torch's own AdamW and clipping.

    penalty(projector, positions) is added to the loss; gradients(projector, loss_of) returns what replaces the
    gradients; both are written by the tests from the papers' formulas.
    """
    projector = Projector(VISION_WIDTH, vlm.language.width, seed=3)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=0)
    for positions, rate in zip(part.batches, rates or part.rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate

        def loss_of(positions=positions):
            loss = plain_loss(vlm, pairs, projector, positions)
            return loss if penalty is None else loss + penalty(projector, positions)

        optimizer.zero_grad()
        loss_of().backward()
        if gradients is not None:
            for parameter, gradient in zip(projector.parameters(), gradients(projector, loss_of), strict=True):
                parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(projector.parameters(), max_norm)
        optimizer.step()
    return projector.tensors()
