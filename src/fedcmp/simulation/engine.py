"""What a worker can do: train a part, score a chunk, write captions. Frozen parts and pairs are loaded once.

A job is a small JSON object with an "op" and named tensors (a projector, an optimiser's state); so is its result. One
torch thread: several workers beat several threads, and results do not depend on how many workers there are.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedcmp.client.schedule import Schedule
from fedcmp.client.training import Optimisation, Part, train_part
from fedcmp.config import Recipe
from fedcmp.data.batches import OnePass, batches_of_part, one_pass_order
from fedcmp.evaluation.captions import caption_sums
from fedcmp.evaluation.questions import score_questions
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vlm import VLM
from fedcmp.simulation.frames import under
from fedcmp.simulation.loading import load_prepared

Tensors = dict[str, Tensor]
Job = dict[str, Any]
POOLED = -1  # the "client" number of the centralized learner
EVALUATION_CHUNK = 256


class Engine:
    """One worker's model and pairs.

    Args:
        recipe: the run.
        prepared: its `prepared/` folder.
        on_step: called after every optimiser step; may raise to stop.
    """

    def __init__(self, recipe: Recipe, prepared: Path, *, on_step: Callable[[], None] | None = None) -> None:
        self.recipe = recipe
        self._on_step = on_step or (lambda: None)
        self.data = load_prepared(recipe, prepared)
        model = recipe.model
        language = LanguageModel(model.language, separator=model.separator, dtype=model.dtype, device=model.device)
        self.vlm = VLM(language, new_projector(recipe, self.data.vision_width, language.width))
        self._batches: dict[int, list[list[NDArray[np.int64]]]] = {}

    def run(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        """Do one job; the result holds its seconds. The caller has set one torch thread."""
        operation = {"train": self._train, "evaluate": self._evaluate, "caption": self._caption}[job["op"]]
        start = time.perf_counter()
        result, out = operation(job, tensors)
        return result | {"seconds": time.perf_counter() - start}, out

    def batches(self, client: int) -> list[list[NDArray[np.int64]]]:
        """The learner's batches in each round's part; the pooled learner's part is the union of the clients' parts."""
        if client not in self._batches:
            rounds = range(self.recipe.federation.rounds)
            if client == POOLED:
                self._batches[client] = [self._pooled_batches(part) for part in rounds]
            else:
                one_pass = self._pass(client)
                self._batches[client] = [one_pass.batches(part) for part in rounds]
        return self._batches[client]

    def _pass(self, client: int) -> OnePass:
        mine = self.data.manifest.holdings[client]
        return OnePass(
            mine,
            self.data.train.tokens.lengths[mine],
            rounds=self.recipe.federation.rounds,
            batch_size=self.recipe.training.batch_size,
            seed=self.recipe.run.seed,
        )

    def _pooled_batches(self, part: int) -> list[NDArray[np.int64]]:
        seed = self.recipe.run.seed
        union = np.concatenate([self._pass(client).part(part) for client in range(len(self.data.manifest.holdings))])
        mixed = one_pass_order(union, seed + 1)  # another order than the clients' own: their pairs are interleaved
        lengths = self.data.train.tokens.lengths[mixed]
        return batches_of_part(mixed, lengths, batch_size=self.recipe.training.batch_size, seed=seed + part)

    def _train(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        client, number = int(job["client"]), int(job["part"])
        batches, training = self.batches(client), self.recipe.training
        steps = [len(part) for part in batches]
        schedule = Schedule(float(job["learning_rate"]), training.warmup_ratio, training.schedule)
        part = Part(batches[number], schedule.rates(steps, number), self.data.manifest.swapped)
        settings = Optimisation(training.beta_1, training.beta_2, training.weight_decay, training.max_gradient_norm)
        trained = train_part(
            self.vlm,
            self.data.train,
            part,
            under(tensors, "projector."),
            settings,
            optimizer_state=under(tensors, "optimizer.") or None,
            with_second_moment=bool(job["with_second_moment"]),
            on_step=lambda _step, _loss: self._on_step(),
        )
        result = {
            "num_examples": trained.update.num_examples,
            "loss": float(np.mean(trained.losses)),
            "loss_first": trained.losses[0],
            "loss_last": trained.losses[-1],
            "alignment_error": trained.update.alignment_error,
            "update_norm": trained.change,
            "learning_rate": part.rates[0],
        }
        out = {f"projector.{name}": tensor for name, tensor in trained.update.state.items()}
        for name, tensor in (trained.update.second_moment or {}).items():
            out[f"second_moment.{name}"] = tensor
        if job["keep_optimizer"]:
            out |= {f"optimizer.{name}": tensor for name, tensor in trained.optimizer.items()}
        return result, out

    def _evaluate(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        self._load(tensors)
        start, stop, blind = int(job["start"]), int(job["stop"]), bool(job["blind"])
        if job["what"] == "captions":
            positions: NDArray[np.int64] = np.arange(start, stop)
            return {"sums": caption_sums(self.vlm, self.data.evaluation, positions, blind=blind)}, {}
        items = self.data.questions[start:stop]
        return {"right": score_questions(self.vlm, self.data.evaluation, items, blind=blind)}, {}

    def _caption(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        self._load(tensors)
        pairs, texts = self.data.evaluation, []
        for position in job["positions"]:  # one by one: the text does not depend on its neighbours
            features = pairs.features.features(pairs.rows[[position]])
            visual = self.vlm.visual_tokens(features)
            prompt = torch.empty(1, 0, dtype=torch.long)
            texts += self.vlm.language.generate(visual, prompt, max_new_tokens=int(job["max_new_tokens"]))
        return {"captions": texts}, {}

    def _load(self, tensors: Tensors) -> None:
        state = under(tensors, "projector.")
        if state:
            self.vlm.projector.load_state_dict(state)
        self.vlm.projector.eval()


def new_projector(recipe: Recipe, vision_width: int, text_width: int) -> Projector:
    """The projector that every learner of the run starts from."""
    model = recipe.model
    return Projector(
        vision_width, text_width, kind=model.projector, initialisation=model.initialisation, seed=recipe.run.seed
    )
