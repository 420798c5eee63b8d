"""The rows of llava_gpu.py: what each of them does, is compared with, and how it is timed."""

import contextlib
import dataclasses
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from llava_graph import GraphedStep
from llava_models import (
    END,
    SEPARATOR,
    START,
    Pictures,
    Stored,
    architecture,
    build,
    causal_lm,
    own_projector,
    pairs_of,
    synthetic,
    tower_below,
)
from llava_report import Row
from llava_work import Counts, Work
from torch import Tensor
from torch._dynamo.utils import counters

from fedcmp.client.cohort import Cohort, JointBatch
from fedcmp.client.optimizer import Optimisation, StackedAdamW
from fedcmp.client.parts import Learner, Part
from fedcmp.client.training import train_cohort
from fedcmp.data.prepared import PreparedPairs
from fedcmp.model.language import LanguageModel
from fedcmp.model.vlm import VLM

Tensors = dict[str, Tensor]
RATE, WARM_UP, CLIENTS, CHECKED = 1e-4, 3, 5, 2
# most that a loss (nats) may differ from (a)'s, and least cosine of the projector's gradients
TOLERANCES = {"float32": (1e-3, 0.999), "bfloat16": (0.03, 0.98), "float8": (0.1, 0.9)}


class Enough(Exception):  # noqa: N818  # no error
    """All steps of a row are done, or its time is."""


@dataclass
class Way:
    """One row.

    Attributes:
        label: for people.
        clients: learners that share the backbone.
        cached: whether features are read from memory.
        options: of the LLM.
        graph: whether the step is captured as a CUDA graph.
    """

    label: str
    clients: int = 1
    cached: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    graph: bool = False


class Bench:
    """The model, the samples and the clock that all rows share."""

    def __init__(self, size: str, device: torch.device, dtype: torch.dtype, *, steps: int, batch: int | None) -> None:
        self.size, self.device, self.dtype, self.steps = size, device, dtype, steps
        self.sizes = architecture(size)
        self.batch_size = batch or self.sizes.batch_size
        # one batch more than is timed: it is read ahead in the last timed step, as each was in the step before its own
        count = self.batch_size * (WARM_UP + steps + 1)
        self.batches = [np.arange(at, at + self.batch_size) for at in range(0, count, self.batch_size)]
        self.pixels, self.captions = synthetic(self.sizes, max(count, CLIENTS * CHECKED), dtype)
        self.make()
        self.counts = Counts.of(self.llava)
        self.references = [self.reference(self.checked(learner)) for learner in range(CLIENTS)]

    def renew(self) -> None:
        """Make the model anew: FP8 rows leave it without its weights."""
        del self.llava, self.features
        torch._dynamo.reset()  # compiled rows may hold the old one's blocks
        release(self.device)
        self.make()

    def make(self) -> None:
        """The model with its first weights, and what reads pictures with it."""
        self.llava = build(self.sizes, self.device, self.dtype)
        self.projector = own_projector(self.llava)
        self.features: dict[bool, Pictures | Stored] = {
            False: Pictures(self.pixels, tower_below(self.llava), self.device)
        }

    @staticmethod
    def checked(learner: int) -> np.ndarray:
        return np.arange(learner * CHECKED, (learner + 1) * CHECKED)

    def pairs(self, *, cached: bool) -> PreparedPairs:
        if cached and True not in self.features:
            pictures = self.features[False]
            assert isinstance(pictures, Pictures)
            self.features[True] = Stored(pictures, len(self.captions))
        return pairs_of(self.features[cached], self.captions)

    # --- (a) ----------------------------------------------------------------------------------------------------------

    def plain_inputs(self, positions: np.ndarray) -> Tensors:
        chosen = [self.captions[position] for position in positions.tolist()]
        before = [START, *[self.llava.config.image_token_id] * self.sizes.patches, SEPARATOR]
        longest = max(map(len, chosen))
        ids = torch.tensor([[*before, *row, *[END] * (longest - len(row))] for row in chosen])
        lengths = torch.tensor([len(before) + len(row) for row in chosen])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        labels = ids.masked_fill(~mask, -100)
        labels[:, : len(before)] = -100
        inputs = {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}
        inputs["pixel_values"] = self.pixels[torch.as_tensor(positions)]
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    def reference(self, positions: np.ndarray) -> tuple[float, Tensors]:
        """(a)'s loss and its projector's gradient."""
        trained = self.llava.model.multi_modal_projector.requires_grad_(True)
        loss = self.llava(**self.plain_inputs(positions), use_cache=False).loss
        gradients = torch.autograd.grad(loss, list(trained.parameters()))
        trained.requires_grad_(False)
        named = zip(dict(trained.named_parameters()), gradients, strict=True)
        return loss.item(), {name: gradient.double().cpu() for name, gradient in named}

    def plain(self, row: Row, deadline: float) -> None:
        trained = self.llava.model.multi_modal_projector.requires_grad_(True)
        optimizer = torch.optim.AdamW(trained.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
        clock = Clock(self, row, deadline, clients=1, cached=False)
        try:
            for number, positions in enumerate(self.batches):
                loss = self.llava(**self.plain_inputs(positions), use_cache=False).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                clock(number, loss.item())
        finally:
            trained.requires_grad_(False)
            trained.zero_grad(set_to_none=True)
            trained.load_state_dict({name: t.to(self.dtype) for name, t in self.projector.state_dict().items()})

    def plain_row(self, deadline: float) -> Row:
        row = Row("(a) plain transformers loop", at_once=self.batch_size)
        if not fits(partial(self.plain, row, deadline)):
            row = Row(row.label, at_once=self.batch_size, notes=["gradient checkpointing"])
            release(self.device)
            self.llava.train()
            self.llava.gradient_checkpointing_enable({"use_reentrant": False})
            try:
                with contextlib.suppress(Enough):
                    self.plain(row, deadline)
            finally:
                self.llava.gradient_checkpointing_disable()
                self.llava.eval()
        row.apart = (0.0, 1.0)
        return row

    # --- ours ---------------------------------------------------------------------------------------------------------

    def vlm(self, way: Way) -> VLM:
        language = LanguageModel.from_model(
            causal_lm(self.llava), start_ids=[START], separator_ids=[SEPARATOR], end=END, pad=END, **way.options
        )
        return VLM(language, self.projector)

    def compare(self, way: Way, vlm: VLM, row: Row) -> None:
        """Loss and gradient of every client against (a)'s."""
        pairs = self.pairs(cached=way.cached)
        start = self.projector.tensors()
        cohort = Cohort(vlm, [start] * way.clients)
        batches = {learner: pairs.batch(self.checked(learner)) for learner in range(way.clients)}
        joint = JointBatch.of(batches, pad=END, device=self.device)
        if way.graph:
            losses, gradients = GraphedStep(cohort, joint)(joint)
        else:
            losses = cohort.caption_losses(cohort.project(cohort.parameters, joint), joint)
            gradients = cohort.gradients(losses, joint.learners_A)
        furthest, least = 0.0, 1.0
        for learner, loss in enumerate(losses.tolist()):
            expected, reference = self.references[learner]
            own = torch.cat([gradients[name][learner].double().cpu().flatten() for name in reference])
            theirs = torch.cat([tensor.flatten() for tensor in reference.values()])
            furthest = max(furthest, abs(loss - expected)) if loss == loss else float("inf")
            least = min(least, float(torch.nn.functional.cosine_similarity(own, theirs, dim=0)))
        row.apart = (furthest, least)
        precision = "float8" if "frozen_precision" in way.options else str(self.dtype).removeprefix("torch.")
        most, smallest = TOLERANCES[precision]
        row.agrees = furthest <= most and least >= smallest
        if not row.agrees:
            row.notes.append(f"DISAGREES with (a): tolerance {most:g} nats, cosine {smallest:g}")

    def ours(self, way: Way, deadline: float) -> Row:
        vlm = self.vlm(way)
        row = Row(way.label)
        self.compare(way, vlm, row)
        if way.graph and self.device.type != "cuda":
            row.notes.append("compared with (a), not timed: a graph needs CUDA")
            return row
        at_once = self.batch_size
        while not fits(partial(self.timed, vlm, way, at_once, row, deadline)):
            if way.graph or at_once == 1:
                raise torch.OutOfMemoryError
            at_once //= 2
            row = Row(row.label, apart=row.apart, agrees=row.agrees, notes=[f"{at_once} samples at a time"])
        return row

    def timed(self, vlm: VLM, way: Way, at_once: int, row: Row, deadline: float) -> None:
        """Fill in the row by training in this way, `at_once` samples at a time."""
        release(self.device)
        row.at_once = at_once
        clock = Clock(self, row, deadline, clients=way.clients, cached=way.cached)
        if way.graph:
            self.replay(vlm, way, clock)
        else:
            self.train(vlm, way, at_once, clock)

    def train(self, vlm: VLM, way: Way, at_once: int, clock: "Clock") -> None:
        batches = self.batches[: clock.warm_up + clock.steps + 1]
        learner = Learner(Part(batches, [RATE] * len(batches), {}), self.projector.tensors())
        pairs = self.pairs(cached=way.cached)
        learners = [learner] * way.clients
        train_cohort(vlm, pairs, learners, Optimisation(), micro_batch=at_once, on_step=clock)

    def replay(self, vlm: VLM, way: Way, clock: "Clock") -> None:
        """The step as one CUDA graph: fixed shapes, all padded to the longest caption; then ours' AdamW."""
        cohort = Cohort(vlm, [self.projector.tensors()])
        pairs = self.pairs(cached=way.cached)
        like = JointBatch.of({0: pairs.batch(self.batches[0])}, pad=END, device=self.device)
        graph = GraphedStep(cohort, like, longest=max(map(len, self.captions)))
        optimizer = StackedAdamW(cohort.parameters, Optimisation())
        for number, positions in enumerate(self.batches):
            joint = JointBatch.of({0: pairs.batch(positions)}, pad=END, device=self.device)
            losses, gradients = graph(joint)
            optimizer.step(gradients, joint.learners_A, torch.tensor([RATE]))
            clock(number, float(losses))


class Clock:
    """Called after every step; times those after the warm-up, and ends the row."""

    def __init__(self, bench: Bench, row: Row, deadline: float, *, clients: int, cached: bool) -> None:
        self._bench, self._row, self._deadline = bench, row, deadline
        self._clients, self._cached, self._start = clients, cached, 0.0
        self._compiled = 0
        self.warm_up = WARM_UP if clients == 1 else 1
        self.steps = bench.steps if clients == 1 else max(1, bench.steps // 2)

    def __call__(self, number: int, _loss: float) -> None:
        bench, row, device = self._bench, self._row, self._bench.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        if number + 1 == self.warm_up:
            self._start, self._compiled = now, compilations()
        elif number + 1 > self.warm_up:
            lengths = [len(bench.captions[position]) for position in bench.batches[number].tolist()]
            work = bench.counts.work(lengths, bench.sizes.patches, cached=self._cached)
            parts = zip(dataclasses.astuple(row.work), dataclasses.astuple(work), strict=True)
            row.work = Work(*(before + self._clients * own for before, own in parts))
            row.samples += self._clients * len(lengths)
            row.seconds = now - self._start
        if device.type == "cuda":
            row.peak = torch.cuda.max_memory_allocated(device)
        if number + 1 == self.warm_up + self.steps:
            if compilations() > self._compiled:
                row.notes.append("compiled while it was timed")
            raise Enough
        if now > self._deadline:
            row.notes.append("cut short by --minutes")
            raise Enough


def compilations() -> int:
    """Graphs that torch.compile has made so far."""
    return int(counters["stats"]["unique_graphs"])


def fits(run: Callable[[], None]) -> bool:
    """Whether there is memory enough for it.

    Answered by a value: while the error is being handled, it keeps the tensors of the attempt that failed alive.
    """
    try:
        with contextlib.suppress(Enough):
            run()
    except torch.OutOfMemoryError:
        return False
    return True


def release(device: torch.device) -> None:
    """Give back what no tensor holds, and measure the peak from here on."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
