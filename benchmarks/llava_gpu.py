"""LLaVA pretraining speed on one device: ours over a plain transformers loop, on random weights of the real sizes.

    python benchmarks/llava_gpu.py --size 7b --out results/llava_gpu.txt      one GPU of 80 GB, under ten minutes
    python benchmarks/llava_gpu.py                                            the same at tiny size, on a CPU

Rows: (a) the loop that a careful user writes: LlavaForConditionalGeneration, frozen parts, labels of -100, logits
everywhere, torch.optim.AdamW on the projector, gradient checkpointing only if it does not fit without; (b) ours
(fedcmp.client.training.train_cohort) with one client; (c) ours with five clients batched over the one backbone, so many
samples at a time as (b) has in a step (training.micro_batch); then (b) with one lever more each. (a), (b) and (c)
compute the vision features in passing. All train on the same samples from the same projector; pictures are noise, the
captions 12 to 36 random tokens. Reading pictures from disk and the alignment errors at a round's end are counted for
neither side.

Useful work, the same for every row:   4 N a token of the LLM    N its layers, without embeddings; 2 N forward, 2 N
                                                                  for the gradient by the input (weights have none)
                                       4 V D a caption token     the output layer, where there is a loss
                                       2 N a patch               the tower's layers below the one that is read; 0 where
                                                                  features are cached
Attention, the projector (0.4 % at 7B) and padding are not counted; attention's own figure stands apart. The ceiling is
what large square matrix products reach in the same run and dtype. Peak memory is torch's, of tensors.

Every row's loss and projector gradient are compared with (a)'s on the same samples; beyond the tolerances below the
exit status is 1. A row that does not fit is tried with half as many samples at a time; one that fails is named, and the
others go on.
"""

import argparse
import contextlib
import dataclasses
import gc
import importlib.metadata
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import numpy as np
import torch
from llava_graph import graphed
from llava_models import (
    END,
    SEPARATOR,
    START,
    Counts,
    Pictures,
    Stored,
    Work,
    architecture,
    build,
    causal_lm,
    own_projector,
    pairs_of,
    synthetic,
    tower_below,
)
from llava_report import HEAD, UNITS, Row, goals, line_of
from torch import Tensor

from fedcmp.client.cohort import Cohort, JointBatch
from fedcmp.client.optimizer import Optimisation, StackedAdamW
from fedcmp.client.training import Learner, Part, train_cohort
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


WAYS = [
    Way("(b) ours, one client"),
    Way("(c) ours, five clients", clients=CLIENTS),
    Way("(b) + features cached", cached=True),
    Way("(b) + 512 rows of logits", options={"logit_rows": 512}),
    Way("(b) + torch.compile", options={"compile": True}),
    Way("(b) + cached, compile", cached=True, options={"compile": True}),
    Way("(b) + FP8", options={"frozen_precision": "float8"}),
    Way("(b) + FP8, compile", options={"frozen_precision": "float8", "compile": True}),
    Way("(b) + FP8, cached, compile", cached=True, options={"frozen_precision": "float8", "compile": True}),
    Way("(b) + CUDA graph", graph=True),
]


class Bench:
    """The model, the samples and the clock that all rows share."""

    def __init__(self, size: str, device: torch.device, dtype: torch.dtype, *, steps: int, batch: int | None) -> None:
        self.size, self.device, self.dtype, self.steps = size, device, dtype, steps
        self.sizes = architecture(size)
        self.batch_size = batch or self.sizes.batch_size
        count = self.batch_size * (WARM_UP + steps)
        count = max(count, CLIENTS * CHECKED)
        self.pixels, self.captions = synthetic(self.sizes, count, dtype)
        self.batches = [
            np.arange(at, at + self.batch_size) for at in range(0, self.batch_size * (WARM_UP + steps), self.batch_size)
        ]
        self.make()
        self.counts = Counts.of(self.llava)
        self.references = [self.reference(self.checked(learner)) for learner in range(CLIENTS)]

    def make(self) -> None:
        """The model, anew: FP8 rows leave it without its weights."""
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
        row = Row("(a) plain transformers loop")
        try:
            attempt(lambda: self.plain(row, deadline))
        except torch.OutOfMemoryError:
            row = Row(row.label, notes=["gradient checkpointing"])
            release(self.device)
            self.llava.train()
            self.llava.gradient_checkpointing_enable({"use_reentrant": False})
            try:
                attempt(lambda: self.plain(row, deadline))
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
            losses, gradients = graphed(cohort, joint, replays=0).once()
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
        while True:
            release(self.device)
            clock = Clock(self, row, deadline, clients=way.clients, cached=way.cached)
            try:
                with contextlib.suppress(Enough):
                    if way.graph:
                        self.replay(vlm, way, clock)
                    else:
                        self.train(vlm, way, at_once, clock)
                return row
            except torch.OutOfMemoryError:
                if way.graph or at_once == 1:
                    raise
                at_once //= 2
                notes = [f"{at_once} samples at a time"]
                row = Row(row.label, apart=row.apart, agrees=row.agrees, notes=notes)

    def train(self, vlm: VLM, way: Way, at_once: int, clock: "Clock") -> None:
        batches = self.batches[: clock.warm_up + clock.steps]
        learner = Learner(Part(batches, [RATE] * len(batches), {}), self.projector.tensors())
        pairs = self.pairs(cached=way.cached)
        learners = [learner] * way.clients
        train_cohort(vlm, pairs, learners, Optimisation(), micro_batch=at_once, on_step=clock)

    def replay(self, vlm: VLM, way: Way, clock: "Clock") -> None:
        """The step as one CUDA graph: fixed shapes, all padded to the longest caption; then ours' AdamW."""
        cohort = Cohort(vlm, [self.projector.tensors()])
        pairs = self.pairs(cached=way.cached)
        joints = [JointBatch.of({0: pairs.batch(b)}, pad=END, device=self.device) for b in self.batches[:1]]
        longest = max(map(len, self.captions))
        graph = graphed(cohort, joints[0], replays=1, longest=longest)
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
        self.warm_up = WARM_UP if clients == 1 else 1
        self.steps = bench.steps if clients == 1 else max(1, bench.steps // 2)

    def __call__(self, number: int, _loss: float) -> None:
        bench, row, device = self._bench, self._row, self._bench.device
        if device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if number + 1 == self.warm_up:
            self._start = now
        elif number + 1 > self.warm_up:
            lengths = [len(bench.captions[position]) for position in bench.batches[number].tolist()]
            work = bench.counts.work(lengths, bench.sizes.patches, cached=self._cached)
            parts = zip(dataclasses.astuple(row.work), dataclasses.astuple(work), strict=True)
            row.work = Work(*(before + self._clients * own for before, own in parts))
            row.samples += self._clients * len(lengths)
            row.seconds = now - self._start
        if device.type == "cuda":
            row.peak = torch.cuda.max_memory_allocated()
        if number + 1 == self.warm_up + self.steps:
            raise Enough
        if now > self._deadline:
            row.notes.append("cut short by --minutes")
            raise Enough


def attempt(run: Callable[[], None]) -> None:
    with contextlib.suppress(Enough):
        run()


def release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of large square products: the best of several half seconds."""
    side = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, count = 0.0, 0
    end = time.perf_counter() + 3
    while time.perf_counter() < end:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < 0.5:
            for _ in range(8):
                one @ other
            count += 8
            if device.type == "cuda":
                torch.cuda.synchronize()
        best = max(best, 2 * side**3 * count / (time.perf_counter() - start))
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--size", choices=["7b", "0.5b", "tiny"], default="7b" if on_gpu else "tiny")
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--batch-size", type=int, default=None, help="samples a client and step; default: by size")
    parser.add_argument("--steps", type=int, default=8, help="timed steps a row")
    parser.add_argument("--minutes", type=float, default=8.0, help="no row begins, and none goes on, after that")
    parser.add_argument("--rows", default=None, help="only (a), (b), (c) and the rows whose label holds this text")
    parser.add_argument("--out", type=Path, default=None, help="a text file for what is printed")
    options = parser.parse_args()
    begin = time.perf_counter()
    deadline = begin + 60 * options.minutes
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if device.type == "cpu":
        torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread"
    versions = ", ".join(f"{lib} {importlib.metadata.version(lib)}" for lib in ("fedcmp", "torch", "transformers"))
    lines = [f"{versions}; {name}, {str(dtype).removeprefix('torch.')}"]

    def tell(*texts: str) -> None:
        print(*texts, sep="\n", flush=True)
        lines.extend(texts)

    print(lines[0], flush=True)
    bench = Bench(options.size, device, dtype, steps=options.steps, batch=options.batch_size)
    limit = ceiling(device, dtype)
    tell(f"size {options.size}, {bench.batch_size} samples a client and step, {options.steps} timed steps a row")
    tell(f"ceiling by square matrix products: {limit / 1e12:.3f} TFLOP/s")
    tell(*(" " * 30 + "".join(f"{text:>{width}}" for text, width in line) for line in (HEAD, UNITS)))
    rows: dict[str, Row] = {}
    ways: list[Way | None] = [None]  # (a)
    ways += [w for w in WAYS if "+" not in w.label or options.rows is None or options.rows in w.label]
    for way in ways:
        label = "(a) plain transformers loop" if way is None else way.label
        row = Row(label)
        print(f"{label} ...", file=sys.stderr, flush=True)
        try:
            if time.perf_counter() > deadline:
                row.notes.append("not run: --minutes is over")
            else:
                if way is not None and way.graph:
                    del bench.llava, bench.features
                    release(device)
                    bench.make()
                release(device)
                row = bench.plain_row(deadline) if way is None else bench.ours(way, deadline)
        except torch.OutOfMemoryError:
            row.notes.append("does not fit into the device's memory")
        except RuntimeError as error:
            row.notes.append(f"failed: {str(error).strip().splitlines()[0]}")
        rows[label] = row
        tell(line_of(row, next(iter(rows.values())), limit))
    tell("goals" if device.type == "cuda" else "goals (they are for a GPU; on a CPU this shows the form only)")
    tell(*goals(rows, limit, sum(p.numel() for p in bench.projector.parameters()), CLIENTS))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{(time.perf_counter() - begin) / 60:.1f} minutes", file=sys.stderr)
    return 0 if all(row.agrees for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
