"""What a worker can do: train a part, score a chunk, write captions. Frozen parts and pairs are loaded once.

A job is a small JSON object with an "op" and named tensors (a projector, an optimiser's state); so is its result. One
torch thread: several workers beat several threads, and results do not depend on how many workers there are.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedcmp.client.schedule import Schedule
from fedcmp.client.training import Optimisation, Part, train_part
from fedcmp.config import Recipe
from fedcmp.data.batches import OnePass
from fedcmp.evaluation.captions import caption_sums
from fedcmp.evaluation.questions import score_questions
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vlm import VLM
from fedcmp.simulation.prepare import load_prepared

Tensors = dict[str, Tensor]
Job = dict[str, Any]
POOLED = -1  # the "client" number of the centralized learner
EVALUATION_CHUNK = 256


class Engine:
    """One worker's model and pairs.

    Args:
        recipe: the run.
        prepared: its `prepared/` folder.
    """

    def __init__(self, recipe: Recipe, prepared: Path) -> None:
        self.recipe = recipe
        self.data = load_prepared(recipe, prepared)
        model = recipe.model
        language = LanguageModel(model.language, separator=model.separator, dtype=model.dtype, device=model.device)
        self.vlm = VLM(language, new_projector(recipe, self.data.vision_width, language.width))
        self._passes: dict[int, OnePass] = {}

    def run(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        """Do one job with one torch thread; the thread count is put back afterwards."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            operation = {"train": self._train, "evaluate": self._evaluate, "caption": self._caption}[job["op"]]
            return operation(job, tensors)
        finally:
            torch.set_num_threads(threads)

    def _pass(self, client: int) -> OnePass:
        """The learner's one pass; the pooled learner's part is the union of the clients' parts."""
        if client not in self._passes:
            holdings = self.data.manifest.holdings
            mine = np.concatenate(holdings) if client == POOLED else holdings[client]
            self._passes[client] = OnePass(
                mine,
                self.data.train.tokens.lengths[mine],
                rounds=self.recipe.federation.rounds,
                batch_size=self.recipe.training.batch_size,
                seed=self.recipe.run.seed,
            )
        return self._passes[client]

    def _train(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        client, number = int(job["client"]), int(job["part"])
        one_pass, training = self._pass(client), self.recipe.training
        steps = [len(one_pass.batches(part)) for part in range(one_pass.rounds)]
        schedule = Schedule(float(job["learning_rate"]), training.warmup_ratio, training.schedule)
        part = Part(one_pass.batches(number), schedule.rates(steps, number), self.data.manifest.swapped)
        settings = Optimisation(training.beta_1, training.beta_2, training.weight_decay, training.max_gradient_norm)
        trained = train_part(
            self.vlm,
            self.data.train,
            part,
            _under(tensors, "projector."),
            settings,
            optimizer_state=_under(tensors, "optimizer.") or None,
            with_second_moment=bool(job["with_second_moment"]),
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
        state = _under(tensors, "projector.")
        if state:
            self.vlm.projector.load_state_dict(state)
        self.vlm.projector.eval()


def new_projector(recipe: Recipe, vision_width: int, text_width: int) -> Projector:
    """The projector that every learner of the run starts from."""
    model = recipe.model
    return Projector(
        vision_width, text_width, kind=model.projector, initialisation=model.initialisation, seed=recipe.run.seed
    )


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
