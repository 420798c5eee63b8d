"""Pretraining of the world's tiny Llama: text only, yet able to read a prefix, or a projector has nothing to talk to.

Cells are random mixtures of the embeddings of the words that describe them: what a perfect projector could say, blurred
by dropped words, random weights and noise. No picture is involved. Two phases: first captions, questions and checks of
single words; then, at a lower rate, also where objects lie to each other. Documents: documents.py.
Shapes: B documents, P = 9 cells, W words a cell, T positions, V words, D = 128 width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from fedcmp.world.scene import PRETRAINING_SEED, Scenes, make_scenes
from fedcmp.world.tokenizer import BOS, PAD, world_tokenizer
from tools.pretrain_world.documents import BagEncoder, Document, DocumentWriter


def learning_rate_factor(step: int, steps: int) -> float:
    """Warm-up over 3 %, then a cosine to 2 %."""
    done = step / steps
    return min(1.0, (step + 1) / (0.03 * steps + 1)) * (0.51 + 0.49 * math.cos(math.pi * done))


def language_config() -> LlamaConfig:
    """Width 128, four layers, tied embeddings."""
    tokenizer = world_tokenizer()
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        initializer_range=0.06,
    )


def start_by_matching(model: LlamaForCausalLM, *, strength: float = 0.7, copying: float = 0.3) -> None:
    """Initialise attention so that equal words attend to each other and copy what they find (mimetic initialisation,
    Trockman and Kolter 2023, arXiv 2305.09828): from a random start, a model this small takes very long to match.

    Args:
        model: freshly initialised.
        strength: keys = queries = this times an orthogonal matrix.
        copying: the output projection is this times the transposed value projection.
    """
    for layer in model.model.layers:
        attention = layer.self_attn
        with torch.no_grad():
            nn.init.orthogonal_(attention.q_proj.weight, gain=strength)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            nn.init.orthogonal_(attention.v_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T * copying)


class _Blur:
    """Turns cells into the embeddings that a good but imperfect projector might produce."""

    def __init__(self, bags: BagEncoder, seed: int) -> None:
        self.pad = bags.ids[PAD]
        self.generator = torch.Generator().manual_seed(seed)

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def __call__(self, table_VD: Tensor, cell_ids_BPW: Tensor, informative_B: Tensor) -> Tensor:
        count = len(cell_ids_BPW)
        shape = tuple(cell_ids_BPW.shape)
        weights = self._uniform(0.6, 1.4, *shape) * (cell_ids_BPW != self.pad)
        dropped = torch.rand(shape, generator=self.generator) < self._uniform(-0.1, 0.1, count, 1, 1)
        weights = weights * ~dropped * informative_B[:, None, None]
        mixed = torch.einsum("bpw,bpwd->bpd", weights, table_VD[cell_ids_BPW])
        spread = table_VD.detach().std() * 2  # about the length of a mixture of four to six words
        noise = torch.randn(mixed.shape, generator=self.generator) * spread
        level = torch.where(informative_B > 0, self._uniform(-0.3, 0.3, count).clamp(min=0), torch.tensor(1.0))
        noise = noise * level[:, None, None]
        return (mixed + noise) * self._uniform(-0.5, 0.5, count, 1, 1).exp()


class LanguageTask:
    """Documents to inputs and weighted loss."""

    def __init__(self, bodies: Sequence[str], seed: int = 0) -> None:
        self.bags = BagEncoder()
        self.writer = DocumentWriter(self.bags, bodies)
        self.blur = _Blur(self.bags, seed)

    def loss(self, model: LlamaForCausalLM, scenes: Scenes) -> Tensor:
        """The weighted mean loss over one batch of scenes' documents."""
        documents = self.writer.documents(scenes)
        with_cells = [d for d in documents if d.prefix in ("cells", "noise")]
        without = [d for d in documents if d.prefix in ("notes", "caption", "none")]
        total, weight = torch.zeros(()), torch.zeros(())
        for group, cells in ((with_cells, True), (without, False)):
            for some in _by_length(group, 2):
                t, w = self._group_loss(model, scenes, some, cells=cells)
                total, weight = total + t, weight + w
        return total / weight

    def _group_loss(
        self, model: LlamaForCausalLM, scenes: Scenes, documents: list[Document], *, cells: bool
    ) -> tuple[Tensor, Tensor]:
        length = max(len(d.ids) for d in documents)
        pad = self.bags.ids[PAD]
        ids = torch.tensor([d.ids + [pad] * (length - len(d.ids)) for d in documents])
        weights = torch.tensor([d.weights + [0.0] * (length - len(d.weights)) for d in documents])
        table = model.get_input_embeddings().weight
        parts = [table[self.bags.ids[BOS]].expand(len(ids), 1, -1)]
        if cells:
            rows = np.array([d.row for d in documents])
            informative = torch.tensor([float(d.prefix == "cells") for d in documents])
            parts.append(self.blur(table, self.bags.cell_ids(_rows(scenes, rows)), informative))
        parts.append(table[ids[:, :-1]])
        inputs = torch.cat(parts, 1)
        start = inputs.shape[1] - ids.shape[1]  # the position that predicts ids[:, 0]
        logits = model(inputs_embeds=inputs, use_cache=False).logits[:, start:]
        losses = functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
        return (losses * weights.flatten()).sum(), weights.sum()


def _rows(scenes: Scenes, rows: NDArray[np.int64]) -> Scenes:
    pick = rows.tolist()
    return Scenes(
        scenes.seed,
        scenes.indices[rows],
        [scenes.contents[i] for i in pick],
        scenes.styles[rows],
        [scenes.captions[i] for i in pick],
        [scenes.questions[i] for i in pick],
        scenes.images[:0],
        scenes.draws[rows],
    )


def _by_length(documents: list[Document], parts: int) -> list[list[Document]]:
    """Documents of like length together: less padding."""
    ordered = sorted(documents, key=lambda d: len(d.ids))
    cut = math.ceil(len(ordered) / parts)
    return [ordered[i : i + cut] for i in range(0, len(ordered), cut)] if ordered else []


@dataclass(frozen=True)
class Phase:
    """A stretch of pretraining with its own warm-up and cosine.

    Attributes:
        share: of all steps.
        learning_rate: AdamW's peak rate.
        bodies: what documents hold, each as often as it is named.
    """

    share: float
    learning_rate: float
    bodies: tuple[str, ...]


PHASES = (
    Phase(2 / 3, 2e-3, (*["caption"] * 7, *["questions"] * 9, *["checks"] * 4)),
    Phase(1 / 3, 1e-3, (*["caption"] * 6, *["questions"] * 8, *["checks"] * 2, *["places"] * 4)),
)


def pretrain_language(
    folder: Path, *, steps: int, batch_size: int = 32, log: Callable[[str], None] = print
) -> LlamaForCausalLM:
    """Train the tiny Llama from scratch and save it with its tokenizer.

    Args:
        folder: where config.json, model.safetensors (float16) and the tokenizer are written.
        steps: optimiser steps in all phases; each sees `batch_size` new documents.
        batch_size: documents a step.
        log: receives a line now and then.

    Returns:
        The model in evaluation mode.
    """
    torch.manual_seed(0)
    model = LlamaForCausalLM(language_config()).train()
    start_by_matching(model)
    done = 0
    for number, phase in enumerate(PHASES):
        count = steps - done if phase is PHASES[-1] else round(phase.share * steps)
        run_phase(model, phase, number, first=done, steps=count, batch_size=batch_size, log=log)
        done += count
    model.half().save_pretrained(folder)
    world_tokenizer().save_pretrained(folder)
    return model.float().eval()


def run_phase(
    model: LlamaForCausalLM,
    phase: Phase,
    number: int,
    *,
    first: int,
    steps: int,
    batch_size: int,
    log: Callable[[str], None],
) -> None:
    """Train through one phase; `first` steps came before it, and their scenes do not come again."""
    task = LanguageTask(phase.bodies, seed=number)
    optimizer = torch.optim.AdamW(model.parameters(), lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    recent: list[float] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate * learning_rate_factor(step, steps)
        loss = task.loss(model, make_scenes(PRETRAINING_SEED, (first + step) * batch_size, batch_size, images=False))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if step % max(1, steps // 25) == 0 or step == steps - 1:
            log(f"language phase {number + 1} step {step}/{steps} loss {sum(recent) / len(recent):.3f}")
            recent.clear()
