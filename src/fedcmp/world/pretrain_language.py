"""Pretraining of the world's tiny Llama: text only, yet able to read a prefix, or a projector has nothing to talk to.

A document is `<bos> prefix <sep> body <eos>`. The body is a caption, questions with answers, or a list of words each
with yes or no and what it stands with. The prefix is mostly nine positions, one a cell of the picture, each a random
mixture of the embeddings of the words that describe the cell and the style: what a perfect projector could say, blurred
by dropped words, random weights and noise. It may also be the same words one by one (notes), a caption, noise alone, or
nothing. No picture is involved. Loss weights: caption 1, answer 2, question .05.
Shapes: B documents, P = 9 cells, W words a cell, T positions, V words, D = 128 width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from fedcmp.world.content import CELLS
from fedcmp.world.randomness import random_integers
from fedcmp.world.scene import PRETRAINING_SEED, Scenes, make_scenes
from fedcmp.world.tokenizer import BOS, EMPTY, EOS, PAD, SEPARATOR, SPECIAL_TOKENS, vocabulary, world_tokenizer
from fedcmp.world.words import (
    COLORS,
    COLUMNS,
    DIGITS,
    DIRECTIONS,
    LETTERS,
    MOODS,
    ROWS,
    SHAPES,
    STYLES,
    TEXTURES,
)

WORDS_A_CELL = 8
# Reading words that stand one by one is what teaches the LLM to match; cells alone would take much longer.
_BODIES = (*["caption"] * 7, *["questions"] * 9, *["checks"] * 4)
_CHECKS = 6
_CHECKED = frozenset(
    {*COLORS, *SHAPES, *DIRECTIONS, *MOODS, *LETTERS, *DIGITS, *(word for t in TEXTURES for word in t.split()), "bar"}
)
_PREFIXES = (*["cells"] * 9, *["notes"] * 6, "caption", "noise", *["none"] * 3)
_QUESTION_WEIGHT, _ANSWER_WEIGHT = 0.05, 2.0
_VARIANTS, _VARIANT_SEED = 4, 7919  # how often a scene is asked about, and the streams of the further questions


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


class BagEncoder:
    """Turns scenes into bags of words per cell, and texts into ids."""

    def __init__(self) -> None:
        self.ids = {word: i for i, word in enumerate(vocabulary())}
        self.specials = len(SPECIAL_TOKENS)

    def encode(self, text: str) -> list[int]:
        """Ids of words separated by spaces."""
        return [self.ids[word] for word in text.split()]

    def cell_ids(self, scenes: Scenes, *, places: bool = True) -> Tensor:
        """(B, P, W) ids of the words for the style, the cell's place and what it shows, padded with `<pad>`."""
        padding = [self.ids[PAD]] * WORDS_A_CELL
        rows = []
        for content, style in zip(scenes.contents, scenes.styles.tolist(), strict=True):
            for cell, text in enumerate(content.cell_words()):
                where = [self.ids[ROWS[cell // 3]], self.ids[COLUMNS[cell % 3]]] if places else []
                shown = self.encode(text) if text else [self.ids[EMPTY]]
                rows.append(([self.ids[STYLES[style]], *where, *shown, *padding])[:WORDS_A_CELL])
        return torch.tensor(rows).view(len(scenes), CELLS, WORDS_A_CELL)

    def multi_hot(self, scenes: Scenes) -> Tensor:
        """(B, P, V) one where a word describes a cell's style or content, `<pad>` excepted."""
        hot = torch.zeros(len(scenes), CELLS, len(self.ids)).scatter_(2, self.cell_ids(scenes, places=False), 1.0)
        hot[:, :, self.ids[PAD]] = 0
        return hot


@dataclass
class _Document:
    prefix: str  # one of _PREFIXES
    row: int  # of its scene in the batch
    ids: list[int]  # after the prefix: <sep> body <eos>, or the caption in front of them
    weights: list[float]


class _Writer:
    """Chooses and writes a document for each scene, by the scene's own random integers."""

    def __init__(self, bags: BagEncoder) -> None:
        self.bags = bags
        self.separator, self.end = bags.ids[SEPARATOR], bags.ids[EOS]

    def documents(self, scenes: Scenes) -> list[_Document]:
        return [self._document(scenes, row) for row in range(len(scenes))]

    def _document(self, scenes: Scenes, row: int) -> _Document:
        draws = scenes.draws[row].tolist()
        caption = self.bags.encode(scenes.captions[row])
        told = {"notes": self._notes(scenes, row, draws), "caption": caption}
        prefix = _PREFIXES[draws[34] % len(_PREFIXES)]
        if not told.get(prefix, [0]):  # too much to tell in words
            prefix = "cells"
        kind = _BODIES[draws[33] % len(_BODIES)]
        if kind == "questions":
            body, weights = self._questions(scenes, row, draws)
        elif kind == "checks":
            body, weights = self._checks(scenes, row)
        else:
            body, weights = caption, [1.0] * len(caption)
        before = told.get(prefix, [])
        ids, out_weights = [*before, self.separator, *body, self.end], [*[0.0] * (len(before) + 1), *weights, 1.0]
        return _Document(prefix, row, ids, out_weights)

    def _checks(self, scenes: Scenes, row: int) -> tuple[list[int], list[float]]:
        """Words with yes or no: does the picture show it? And the words that share a cell with a word it shows.

        The answer follows the word itself: the shortest way to learn to match a word with what the cells show.
        """
        present = sorted({word for text in scenes.contents[row].cell_words() for word in text.split()} & _CHECKED)
        absent = sorted(_CHECKED - set(present))
        draw = random_integers(scenes.seed - 2 * _VARIANT_SEED, scenes.indices[row : row + 1])[0].tolist()
        ids: list[int] = []
        weights: list[float] = []
        for step in range(_CHECKS):
            words = present if draw[2 * step] % 2 else absent
            word = words[draw[2 * step + 1] % len(words)]
            cells = [text.split() for text in scenes.contents[row].cell_words() if word in text.split()]
            said = [word, "yes", *(w for w in cells[0] if w != word), ","] if cells else [word, "no", ","]
            ids += [self.bags.ids[w] for w in said]
            weights += [0.0] + [1.0] * (len(said) - 2) + [0.0]
        return ids, weights

    def _notes(self, scenes: Scenes, row: int, draws: list[int]) -> list[int]:
        """The cells spelled out in words, in any order; nothing where more than three cells show something."""
        words = scenes.contents[row].cell_words()
        shown = [f"{text} {ROWS[cell // 3]} {COLUMNS[cell % 3]} ," for cell, text in enumerate(words) if text]
        if len(shown) > 3:
            return []
        turn = draws[37] % len(shown)
        return self.bags.encode(" ".join([*shown[turn:], *shown[:turn], STYLES[scenes.styles[row]]]))

    def _questions(self, scenes: Scenes, row: int, draws: list[int]) -> tuple[list[int], list[float]]:
        """Several questions about one scene: many answers a document teach the LLM to look things up."""
        content, index = scenes.contents[row], scenes.indices[row : row + 1]
        asked = {question.text: question for question in scenes.questions[row]}
        for variant in range(1, _VARIANTS):
            others = random_integers(scenes.seed + _VARIANT_SEED * variant, index)[0].tolist()
            asked |= {question.text: question for question in content.questions(others)}
        chosen = list(asked.values())
        order = random_integers(scenes.seed - _VARIANT_SEED, index, len(chosen))[0].argsort(kind="stable").tolist()
        ids: list[int] = []
        weights: list[float] = []
        for i in order[: 2 + draws[36] % 5]:
            text = self.bags.encode(f"question : {chosen[i].text} answer :")
            ids += [*text, self.bags.ids[chosen[i].answer]]
            weights += [_QUESTION_WEIGHT] * len(text) + [_ANSWER_WEIGHT]
        return ids, weights


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

    def __init__(self, seed: int = 0) -> None:
        self.bags = BagEncoder()
        self.writer = _Writer(self.bags)
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
        self, model: LlamaForCausalLM, scenes: Scenes, documents: list[_Document], *, cells: bool
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


def _by_length(documents: list[_Document], parts: int) -> list[list[_Document]]:
    """Documents of like length together: less padding."""
    ordered = sorted(documents, key=lambda d: len(d.ids))
    cut = math.ceil(len(ordered) / parts)
    return [ordered[i : i + cut] for i in range(0, len(ordered), cut)] if ordered else []


def pretrain_language(
    folder: Path, *, steps: int, batch_size: int = 32, learning_rate: float = 2e-3, log: Callable[[str], None] = print
) -> LlamaForCausalLM:
    """Train the tiny Llama from scratch and save it with its tokenizer.

    Args:
        folder: where config.json, model.safetensors (float16) and the tokenizer are written.
        steps: optimiser steps; each sees `batch_size` new documents.
        batch_size: documents a step.
        learning_rate: AdamW's peak rate.
        log: receives a line now and then.

    Returns:
        The model in evaluation mode.
    """
    from fedcmp.world.pretrain_vision import learning_rate_factor

    torch.manual_seed(0)
    model = LlamaForCausalLM(language_config()).train()
    start_by_matching(model)
    task = LanguageTask()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    recent: list[float] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * learning_rate_factor(step, steps)
        loss = task.loss(model, make_scenes(PRETRAINING_SEED, step * batch_size, batch_size, images=False))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if step % max(1, steps // 50) == 0 or step == steps - 1:
            log(f"language step {step}/{steps} loss {sum(recent) / len(recent):.3f}")
            recent.clear()
    model.half().save_pretrained(folder)
    world_tokenizer().save_pretrained(folder)
    return model.float().eval()
