"""One method's run, round by round: train, merge, judge, write down. Local-only and centralized runs included.

federated     K learners start each round from the global projector; an aggregator merges what they send
centralized   one learner over the union of the clients' parts; its optimiser goes on from part to part
local         K learners that never meet; each keeps its own projector and optimiser
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from fedcmp import aggregation
from fedcmp.aggregation import Aggregator, ClientUpdate
from fedcmp.config import NOT_FEDERATED, Recipe
from fedcmp.errors import UserError
from fedcmp.evaluation.captions import caption_metrics, merge_sums
from fedcmp.evaluation.questions import question_metrics
from fedcmp.runs import Checkpoint, RunFolder
from fedcmp.simulation.engine import EVALUATION_CHUNK, POOLED, Job, Tensors
from fedcmp.simulation.frames import under
from fedcmp.simulation.loading import Prepared
from fedcmp.simulation.pool import Answer, Pool
from fedcmp.simulation.samples import sample_positions, write_samples

Line = dict[str, Any]


class Events:
    """What a run reports while it works; the default says nothing."""

    def client_done(self, method: str, round_number: int, client: int, clients: int, loss: float) -> None:
        """A client finished its part."""

    def round_done(self, method: str, round_number: int, rounds: int, evaluation: Line | None) -> None:
        """A round was merged, judged and saved."""


class MethodRun:
    """One method on a run's pairs.

    Args:
        method: "local", "centralized" or the name of an aggregator's settings in the recipe.
        recipe: the run.
        data: its pairs.
        initial: the projector that all learners start from.
        pool: the workers.
        folder: where this method's run is kept.
        prepared: `prepared/` of the run.
        events: receives progress.
    """

    def __init__(
        self,
        method: str,
        recipe: Recipe,
        data: Prepared,
        initial: Tensors,
        pool: Pool,
        folder: RunFolder,
        prepared: Path,
        events: Events,
    ) -> None:
        self.method, self.recipe, self.data, self.initial = method, recipe, data, initial
        self.pool, self.folder, self.prepared, self.events = pool, folder, prepared, events
        settings = recipe.method_settings(method)
        self.learning_rate = settings.learning_rate or recipe.training.learning_rate
        self.aggregator: Aggregator | None = None
        if method not in NOT_FEDERATED:
            self.aggregator = aggregation.create(settings.aggregator or method, **settings.options)
        clients = range(len(data.manifest.names))
        self.learners = [POOLED] if method == "centralized" else list(clients)
        self.projectors: dict[str, Tensors] = {}
        self.optimizers: Tensors = {}

    def run(self, *, resume: bool) -> None:
        """All rounds from the last complete one on, then the samples.

        Args:
            resume: go on from the folder's last checkpoint if it has one.

        Raises:
            UserError: a client's update was refused and the recipe says to stop.
        """
        if resume and self.folder.finished:
            return
        checkpoint = self.folder.resume() if resume else None
        if checkpoint is None:
            self._first_lines()
        else:
            self._restore(checkpoint)
        rounds = self.recipe.federation.rounds
        for number in range((checkpoint.round if checkpoint else 0) + 1, rounds + 1):
            lines = self._round(number)
            judged = None
            if number % self.recipe.evaluation.every == 0 or number == rounds:
                evaluations = list(self._evaluations(number))
                lines += evaluations
                judged = evaluations[0]
            self.folder.log(lines)
            self.folder.save(Checkpoint(number, self.projectors, self._server(), {"method": self.method}))
            self.events.round_done(self.method, number, rounds, judged)
        self._write_samples()
        self.folder.log([{"kind": "finished", "seconds": self._seconds()}])

    def _first_lines(self) -> None:
        names = ["global"] if self.method != "local" else [f"client-{k}" for k in self.learners]
        self.projectors = dict.fromkeys(names, self.initial)
        blind = self._judged(None, blind=True) | {"model": "blind"}
        initial = self._judged(self.initial) | {"model": "initial"}
        self.folder.log([*self.data.data_lines, *({"round": 0, "client": None} | line for line in (blind, initial))])

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.projectors = checkpoint.projectors
        if self.aggregator is not None:
            self.aggregator.load_state_dict(checkpoint.server)
        else:
            self.optimizers = checkpoint.server

    def _server(self) -> Tensors:
        return self.optimizers if self.aggregator is None else self.aggregator.state_dict()

    def _projector(self, learner: int) -> Tensors:
        return self.projectors[f"client-{learner}" if self.method == "local" else "global"]

    def _round(self, number: int) -> list[Line]:
        answers = self.pool.map([self._job(learner, number) for learner in self.learners])
        if self.aggregator is None:
            return self._learn_apart(number, answers)
        return self._federate(number, answers, self.aggregator)

    def _job(self, learner: int, number: int) -> tuple[Job, Tensors]:
        job = {
            "op": "train",
            "client": learner,
            "part": number - 1,
            "learning_rate": self.learning_rate,
            "with_second_moment": self.aggregator is not None and "second_moment" in self.aggregator.needs,
            "keep_optimizer": self.aggregator is None,
        }
        tensors = {f"projector.{name}": tensor for name, tensor in self._projector(learner).items()}
        prefix = f"client-{learner}/"
        for name, tensor in self.optimizers.items():
            if name.startswith(prefix):
                tensors[f"optimizer.{name.removeprefix(prefix)}"] = tensor
        return job, tensors

    def _learn_apart(self, number: int, answers: Iterator[Answer]) -> list[Line]:
        lines: list[Line] = []
        seconds = 0.0
        for learner, answer in zip(self.learners, answers, strict=True):
            projector = under(answer.tensors, "projector.")
            if not all(bool(tensor.isfinite().all()) for tensor in projector.values()):
                raise UserError(f"{self.method}, round {number}: the projector is not finite; lower the learning rate")
            self.projectors["global" if learner == POOLED else f"client-{learner}"] = projector
            for name, tensor in under(answer.tensors, "optimizer.").items():
                self.optimizers[f"client-{learner}/{name}"] = tensor
            lines.append(self._client_line(number, learner, answer))
            seconds += answer.seconds
        return [*lines, {"kind": "round", "round": number, "seconds": seconds, "bytes_sent": 0, "diagnostics": {}}]

    def _federate(self, number: int, answers: Iterator[Answer], aggregator: Aggregator) -> list[Line]:
        before = self.projectors["global"]
        down = _bytes(before)
        aggregator.begin(before)
        lines: list[Line] = []
        accepted: list[Line] = []
        seconds, sent = 0.0, 0
        for learner, answer in zip(self.learners, answers, strict=True):
            line = self._client_line(number, learner, answer)
            up = _bytes(answer.tensors)
            line |= {"bytes_up": up, "bytes_down": down, "weight": 0.0}
            sent, seconds = sent + up + down, seconds + answer.seconds
            lines.append(line)
            update = ClientUpdate(
                state=under(answer.tensors, "projector."),
                num_examples=answer.result["num_examples"],
                alignment_error=answer.result["alignment_error"],
                second_moment=under(answer.tensors, "second_moment.") or None,
            )
            try:
                aggregator.add(update)
                accepted.append(line)
            except ValueError as error:
                self._refused(number, learner, error, line)
        try:
            self.projectors = {"global": aggregator.finish()}
        except ValueError as error:
            raise UserError(f"{self.method}, round {number}: {error}") from error
        for line, weight in zip(accepted, aggregator.last_weights, strict=True):
            line["weight"] = weight
        round_line = {
            "kind": "round",
            "round": number,
            "seconds": seconds,
            "bytes_sent": sent,
            "diagnostics": aggregator.last_diagnostics,
        }
        return [*lines, round_line]

    def _refused(self, number: int, learner: int, error: ValueError, line: Line) -> None:
        name = self.data.manifest.names[learner]
        if self.recipe.federation.on_bad_update == "stop":
            raise UserError(
                f"{self.method}, round {number}, client {learner} ({name}): {error}; a lower learning rate may help, "
                'or set federation.on_bad_update = "drop" to go on without such a client'
            ) from error
        line["refused"] = str(error)

    def _client_line(self, number: int, learner: int, answer: Answer) -> Line:
        name = "all clients' pairs" if learner == POOLED else self.data.manifest.names[learner]
        self.events.client_done(self.method, number, learner, len(self.learners), answer.result["loss"])
        line = {"kind": "client", "round": number, "client": max(learner, 0), "client_name": name}
        return line | answer.result | {"bytes_up": 0, "bytes_down": 0, "seconds": answer.seconds}

    def _evaluations(self, number: int) -> Iterator[Line]:
        for learner in self.learners:
            alone = self.method == "local"
            who = {"model": "client" if alone else "global", "client": learner if alone else None}
            yield {"round": number} | self._judged(self._projector(learner)) | who
            if not alone:
                return

    def _judged(self, projector: Tensors | None, *, blind: bool = False) -> Line:
        """Chunks of fixed size, summed in order: the result does not depend on the number of workers."""
        tensors = {f"projector.{name}": tensor for name, tensor in (projector or {}).items()}
        jobs: list[tuple[Job, Tensors]] = []
        counts = {"captions": len(self.data.evaluation), "questions": len(self.data.questions)}
        counts["captions"] = min(counts["captions"], self.recipe.evaluation.captions)
        for what, count in counts.items():
            for start in range(0, count, EVALUATION_CHUNK):
                stop = min(start + EVALUATION_CHUNK, count)
                jobs.append(({"op": "evaluate", "what": what, "start": start, "stop": stop, "blind": blind}, tensors))
        sums, right, seconds = [], [], 0.0
        for answer in self.pool.map(jobs):
            seconds += answer.seconds
            if "sums" in answer.result:
                sums.append({group: (float(a), int(b)) for group, (a, b) in answer.result["sums"].items()})
            else:
                right += answer.result["right"]
        world = self.recipe.data.format == "world"
        return {
            "kind": "evaluation",
            "split": self.recipe.evaluation.split if world else "held out",
            **caption_metrics(merge_sums(sums)),
            **question_metrics(self.data.questions, right),
            "seconds": seconds,
        }

    def _write_samples(self) -> None:
        positions = sample_positions(self.prepared)
        job = {"op": "caption", "positions": positions, "max_new_tokens": self.recipe.evaluation.sample_tokens}
        jobs: list[tuple[Job, Tensors]] = [
            (job, {f"projector.{name}": tensor for name, tensor in projector.items()})
            for projector in self.projectors.values()
        ]
        said = {
            self.method if who == "global" else who: answer.result["captions"]
            for who, answer in zip(self.projectors, self.pool.map(jobs), strict=True)
        }
        captions = [{who: texts[i] for who, texts in said.items()} for i in range(len(positions))]
        write_samples(self.prepared, self.folder.path, captions)

    def _seconds(self) -> float:
        """Of training, all workers together; judging and loading are not counted."""
        return sum(float(line["seconds"]) for line in self.folder.lines() if line["kind"] == "round")


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
