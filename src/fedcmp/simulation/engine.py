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

from fedcmp.client.objectives import create_objective
from fedcmp.client.optimizer import Optimisation
from fedcmp.client.schedule import Schedule
from fedcmp.client.training import Learner, Part, Trained, train_cohort
from fedcmp.config import Recipe
from fedcmp.config.methods import LARGE_BATCH
from fedcmp.data.batches import OnePass, batches_of_part, one_pass_order
from fedcmp.distributed import ALONE, Group
from fedcmp.evaluation.captions import caption_sums
from fedcmp.evaluation.questions import score_questions
from fedcmp.evaluation.suites import Suites, prepare_suites, score_suite
from fedcmp.model.projector import Projector
from fedcmp.model.projector_files import read_projector, start_from
from fedcmp.model.vlm import VLM
from fedcmp.preparation.loading import load_encoder, load_language, load_prepared
from fedcmp.preparation.sources import cache_folder
from fedcmp.wire.frames import under
from fedcmp.wire.payload import Payload, decode, difference, encode, encode_with_feedback

Tensors = dict[str, Tensor]
Job = dict[str, Any]
POOLED, POOLED_LARGE_BATCH = -1, -2  # the "client" numbers of the centralized learners
EVALUATION_CHUNK = 256


class Engine:
    """One worker's model and pairs.

    Args:
        recipe: the run.
        prepared: its `prepared/` folder.
        on_step: called after every optimiser step; may raise to stop.
        group: the ranks that train every part together.
    """

    def __init__(
        self, recipe: Recipe, prepared: Path, *, on_step: Callable[[], None] | None = None, group: Group = ALONE
    ) -> None:
        self.recipe, self._group = recipe, group
        self._on_step = on_step or (lambda: None)
        self.data = load_prepared(recipe, prepared)
        language = load_language(recipe)
        self.vlm = VLM(language, new_projector(recipe, self.data.vision_width, language.width))
        self._suites: Suites | None = None
        self._batches: dict[int, list[list[NDArray[np.int64]]]] = {}

    def run(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        """Do one job; the result holds its seconds. The caller has set one torch thread."""
        operations = {
            "train": self._train,
            "evaluate": self._evaluate,
            "suite": self._suite,
            "caption": self._caption,
        }
        start = time.perf_counter()
        result, out = operations[job["op"]](job, tensors)
        return result | {"seconds": time.perf_counter() - start}, out

    def batches(self, client: int) -> list[list[NDArray[np.int64]]]:
        """The learner's batches in each round's part; the pooled learner's part is the union of the clients' parts."""
        if client not in self._batches:
            rounds = range(self.recipe.federation.rounds)
            if client < 0:
                times = len(self.data.manifest.holdings) if client == POOLED_LARGE_BATCH else 1
                self._batches[client] = [self._pooled_batches(part, times) for part in rounds]
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
            parts=None if self.data.manifest.parts is None else self.data.manifest.parts[client],
        )

    def _pooled_batches(self, part: int, times: int) -> list[NDArray[np.int64]]:
        seed = self.recipe.run.seed
        union = np.concatenate([self._pass(client).part(part) for client in range(len(self.data.manifest.holdings))])
        mixed = one_pass_order(union, seed + 1)  # another order than the clients' own: their pairs are interleaved
        lengths = self.data.train.tokens.lengths[mixed]
        return batches_of_part(mixed, lengths, batch_size=times * self.recipe.training.batch_size, seed=seed + part)

    def _train(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        """Train the job's clients as one cohort; what belongs to one of them is under "client-K/" on either way."""
        training = self.recipe.training
        settings = Optimisation(training.beta_1, training.beta_2, training.weight_decay, training.max_gradient_norm)
        clients: list[int] = job["clients"]
        rate = float(job["learning_rate"])
        learners = [self._learner(client, int(job["part"]), rate, tensors) for client in clients]
        trained = train_cohort(
            self.vlm,
            self.data.train,
            learners,
            settings,
            objective=create_objective(job["objective"], **job["objective_options"]),
            broadcast=by_label(decode(under(tensors, "broadcast."))),
            with_second_moment=bool(job["with_second_moment"]),
            measure_only=bool(job.get("measure_only", False)),
            micro_batch=training.micro_batch,
            on_step=lambda _step, _loss: self._on_step(),
            group=self._group,
        )
        results: list[dict[str, Any]] = []
        out: Tensors = {}
        for client, learner, done in zip(clients, learners, trained, strict=True):
            results.append(_result(learner, done))
            residual = under(tensors, f"{owner(client)}residual.") or None
            own = _tensors(done, learner, job, residual)
            out |= {f"{owner(client)}{name}": tensor for name, tensor in own.items()}
        return {"clients": results}, out

    def _learner(self, client: int, number: int, rate: float, tensors: Tensors) -> Learner:
        training = self.recipe.training
        peak = rate * self.recipe.scenario.rate_factors.get(str(client), 1.0)
        schedule = Schedule(peak, training.warmup_ratio, training.schedule)
        batches = self.batches(client)
        steps = [len(part) for part in batches]
        part = Part(batches[number], schedule.rates(steps, number), self.data.manifest.swapped)
        own = under(tensors, owner(client))
        start = under(own, "projector.") or decode(under(tensors, "projector."))
        memory = by_label(under(own, "memory."))
        return Learner(part, start, under(own, "optimizer.") or None, memory or None)

    def _evaluate(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        self._load(tensors)
        start, stop, blind = int(job["start"]), int(job["stop"]), bool(job["blind"])
        if job["what"] == "captions":
            positions: NDArray[np.int64] = np.arange(start, stop)
            return {"sums": caption_sums(self.vlm, self.data.evaluation, positions, blind=blind)}, {}
        items = self.data.questions[start:stop]
        return {"right": score_questions(self.vlm, self.data.evaluation, items, blind=blind)}, {}

    def _suite(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        self._load(tensors)
        if self._suites is None:
            recipe = self.recipe
            split, cache = recipe.evaluation.split, cache_folder(recipe)
            self._suites = prepare_suites(split, load_encoder(recipe), self.vlm.language, cache)
        score = score_suite(self.vlm, self._suites, str(job["name"]), blind=bool(job["blind"]))
        return {"suite": score.suite, "score": score.record()}, {}

    def _caption(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        self._load(tensors)
        pairs, texts, language = self.data.evaluation, [], self.vlm.language
        prompt = torch.tensor([language.prompt_ids("")], dtype=torch.long)
        for position in job["positions"]:  # one by one: the text does not depend on its neighbours
            features = pairs.features.features(pairs.rows[[position]])
            visual = self.vlm.visual_tokens(features)
            texts += language.generate(visual, prompt, max_new_tokens=int(job["max_new_tokens"]))
        return {"captions": texts}, {}

    def _load(self, tensors: Tensors) -> None:
        state = under(tensors, "projector.")
        if state:
            self.vlm.projector.load_state_dict(state)
        self.vlm.projector.eval()


def owner(client: int) -> str:
    """What the names of a client's own tensors begin with, in a job and in its result."""
    return f"client-{client}/"


def pooled_client(method: str) -> int:
    """The "client" number of a centralized method."""
    return POOLED_LARGE_BATCH if method == LARGE_BATCH else POOLED


def by_label(tensors: Tensors) -> dict[str, Tensors]:
    """ "label/name" -> label -> name."""
    labels = dict.fromkeys(name.partition("/")[0] for name in tensors)
    return {label: under(tensors, f"{label}/") for label in labels}


def flat(labelled: dict[str, Tensors], prefix: str) -> Tensors:
    """The reverse of `by_label`, with a prefix in front."""
    return {f"{prefix}{label}/{name}": t for label, tensors in labelled.items() for name, t in tensors.items()}


def _result(learner: Learner, done: Trained) -> dict[str, Any]:
    losses = done.losses
    told = {"loss": float(np.mean(losses)), "loss_first": losses[0], "loss_last": losses[-1]} if losses else {}
    return told | {
        "num_examples": done.update.num_examples,
        "alignment_error": done.update.alignment_error,
        "update_norm": done.change,
        "learning_rate": learner.part.rates[0],
    }


def _tensors(done: Trained, learner: Learner, job: Job, residual: Tensors | None) -> Tensors:
    """What the learner sends, encoded as the job says, and what stays with it: memory, residual, optimiser."""
    update = done.update
    payload: Payload = job.get("payload", "float32")
    beside: Payload = job.get("beside", "float32")
    sent: Tensors = {f"second_moment.{name}": tensor for name, tensor in (update.second_moment or {}).items()}
    out = encode(sent | flat(update.extra or {}, "extra."), beside) | flat(done.memory, "memory.")
    if job.get("whole", True):
        out |= {f"projector.{name}": tensor for name, tensor in update.state.items()}
    else:
        change = difference(update.state, learner.start)
        if job["error_feedback"] and payload != "float32":
            wire, kept = encode_with_feedback(change, residual, payload)
            out |= {f"residual.{name}": tensor for name, tensor in kept.items()}
        else:
            wire = encode(change, payload)
        out |= {f"update.{name}": tensor for name, tensor in wire.items()}
    if job["keep_optimizer"]:
        out |= {f"optimizer.{name}": tensor for name, tensor in done.optimizer.items()}
    return out


def new_projector(recipe: Recipe, vision_width: int, text_width: int) -> Projector:
    """A projector of the recipe's kind with fresh weights, drawn from the run's seed."""
    model = recipe.model
    return Projector(
        vision_width, text_width, kind=model.projector, initialisation=model.initialisation, seed=recipe.run.seed
    )


def initial_projector(recipe: Recipe, vision_width: int, text_width: int) -> Projector:
    """The projector that every learner of the run starts from.

    Raises:
        UserError: model.projector_from is none that fits the recipe's encoder and LLM.
    """
    projector = new_projector(recipe, vision_width, text_width)
    source = recipe.model.projector_from
    return projector if source is None else start_from(projector, read_projector(source))
