"""What a worker can do: train clients, score a chunk, write captions. Frozen parts and pairs are loaded once.

A job is a small JSON object with an "op" and named tensors; so is its result. One torch thread: several workers beat
several threads, and results do not depend on how many workers there are.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedcmp.config import Recipe
from fedcmp.distributed import ALONE, Group
from fedcmp.evaluation.captions import caption_sums, score_captions
from fedcmp.evaluation.questions import score_questions
from fedcmp.evaluation.shuffled import derangement
from fedcmp.evaluation.suites import Suites, prepare_suites, score_suite
from fedcmp.federation.client_folder import ClientFolder
from fedcmp.federation.learner import ClientSide, Work
from fedcmp.model.vlm import VLM
from fedcmp.preparation.batches import Batches
from fedcmp.preparation.loading import load_encoder, load_language, load_prepared, new_trainable
from fedcmp.preparation.sources import cache_folder
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.naming import Tensors, joined, parted

Job = dict[str, Any]
_WAIT_SECONDS = 0.1  # until a client that is made slow looks whether the run was stopped


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
        self.recipe = recipe
        self._on_step = on_step or (lambda: None)
        self.data = load_prepared(recipe, prepared)
        language = load_language(recipe)
        self.vlm = VLM(language, new_trainable(recipe, self.data.vision_width, language.width))
        self.batches = Batches(recipe, self.data)
        self.client_side = ClientSide(
            recipe,
            self.vlm,
            self.data.train,
            self.batches,
            swapped=self.data.manifest.swapped,
            on_step=self._on_step,
            group=group,
        )
        self._suites: Suites | None = None

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

    def _train(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        begun, works = time.monotonic(), read_training(job, tensors)
        replies = self.client_side.carry_out(works)
        self._wait_until(begun + max(self._least_seconds(work.client) for work in works))
        sent = {str(reply.client): reply.to_tensors() for reply in replies}
        return {"replies": [header for header, _ in sent.values()]}, joined(
            **{client: own for client, (_, own) in sent.items()}
        )

    def _evaluate(self, job: Job, tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
        self._load(tensors)
        start, stop, blind = int(job["start"]), int(job["stop"]), bool(job["blind"])
        if job["what"] == "captions":
            positions: NDArray[np.int64] = np.arange(start, stop)
            images = derangement(int(job["shuffled"])) if job.get("shuffled") else None
            scored = score_captions(self.vlm, self.data.evaluation, positions, blind=blind, images=images)
            sums = caption_sums(scored, self.data.evaluation.groups)
            return {"sums": sums, "scored": [(loss, tokens) for _, loss, tokens in sorted(scored)]}, {}
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
            usable, features = pairs.features.gather(pairs.rows[[position]])
            if not len(usable):
                texts.append("")
                continue
            visual = self.vlm.visual_tokens(features)
            texts += language.generate(visual, prompt, max_new_tokens=int(job["max_new_tokens"]))
        return {"captions": texts}, {}

    def _least_seconds(self, client: int) -> float:
        """Return how long a client's part has to take, where a recipe makes clients slow."""
        scenario = self.recipe.scenario
        is_slowed = client >= 0 and scenario.client_seconds and scenario.clock == "real"
        return scenario.client_seconds[client] if is_slowed else 0.0

    def _wait_until(self, end: float) -> None:
        while (left := end - time.monotonic()) > 0:
            self._on_step()
            time.sleep(min(left, _WAIT_SECONDS))

    def _load(self, tensors: Tensors) -> None:
        """Put the tensors that are judged into the model; none for the blind LLM."""
        if tensors:
            self.vlm.trainable.load_state_dict(tensors)
        self.vlm.trainable.eval()


def training_job(assignments: Mapping[int, Assignment], folders: Mapping[int, Path]) -> tuple[Job, Tensors]:
    """The job of one cohort: its clients' assignments, which share their tensors, and the clients' own folders."""
    headers = {client: assignment.header() for client, assignment in assignments.items()}
    _, tensors = next(iter(assignments.values())).to_tensors()
    clients = [
        {"client": client, "assignment": header, "folder": str(folders[client])} for client, header in headers.items()
    ]
    return {"op": "train", "clients": clients}, tensors


def read_training(job: Job, tensors: Tensors) -> list[Work]:
    """The reverse of `training_job`."""
    first = Assignment.from_tensors(job["clients"][0]["assignment"], tensors)
    return [
        Work(
            int(entry["client"]),
            first.continuing(int(entry["assignment"]["continues"])),
            ClientFolder(Path(entry["folder"])),
        )
        for entry in job["clients"]
    ]


def read_replies(result: Mapping[str, Any], tensors: Tensors) -> Sequence[Reply]:
    """The replies of one cohort."""
    headers = result["replies"]
    own, _ = parted("replies", tensors, plain=tuple(str(header["client"]) for header in headers), labelled=())
    return [Reply.from_tensors(header, own[str(header["client"])]) for header in headers]
