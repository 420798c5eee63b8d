"""One method's run, round by round: train, merge, judge, write down. Local-only and centralized runs included.

federated     K learners start each round from the global projector; an aggregator merges what they send
centralized   one learner over the union of the clients' parts; its optimiser goes on from part to part
local         K learners that never meet; each keeps its own projector and optimiser
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedcmp.aggregation import Aggregator, ClientUpdate
from fedcmp.config import Recipe
from fedcmp.config.methods import NOT_FEDERATED, Chosen
from fedcmp.errors import UserError
from fedcmp.federation.participation import participants
from fedcmp.preparation.loading import Prepared
from fedcmp.runs.folder import Checkpoint, RunFolder
from fedcmp.simulation.engine import Job, Tensors, by_label, flat, owner, pooled_client
from fedcmp.simulation.evaluate import caption_samples, projector_figures
from fedcmp.simulation.pool import Answer, Pool
from fedcmp.wire.frames import under
from fedcmp.wire.payload import decode, encode, forms, moved, wire_bytes

Line = dict[str, Any]
_MEMORY = "client_memory."  # in a checkpoint: what clients keep between rounds
_KEPT = ("memory.", "residual.")  # in an answer: what stays with the client, of its objective and of its payload


class Events:
    """What a run reports while it works; the default says nothing."""

    def planned(self, lines: list[str], misfits: list[str]) -> None:
        """What the run will need was worked out; `misfits` is what this machine seems not to have."""

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
        self.learning_rate = recipe.method_settings(method).learning_rate or recipe.training.learning_rate
        self.chosen: Chosen | None = None if method in NOT_FEDERATED else recipe.chosen(method)
        self.aggregator: Aggregator | None = self.chosen.create_aggregator() if self.chosen else None
        self.learners = list(range(len(data.manifest.names)))
        if self.chosen is None and method != "local":
            self.learners = [pooled_client(method)]
        self.projectors: dict[str, Tensors] = {}
        self.optimizers: Tensors = {}
        self.memory: Tensors = {}
        self.forms = forms(recipe.federation.payload, recipe.federation.broadcast_payload)

    def run(self, *, resume: bool, references: bool = True, suites: Sequence[str] = ()) -> None:
        """All rounds from the last complete one on, then the samples.

        Args:
            resume: go on from the folder's last checkpoint if it has one.
            references: judge the blind LLM and the initial projector first.
            suites: which of the suites (evaluation/suites) are asked after the last round.

        Raises:
            UserError: a client's update was refused and the recipe says to stop.
        """
        if resume and self.folder.finished:
            return
        checkpoint = self.folder.resume() if resume else None
        if checkpoint is None:
            self._first_lines(references=references)
        else:
            self._restore(checkpoint)
        rounds = self.recipe.federation.rounds
        for number in range((checkpoint.round if checkpoint else 0) + 1, rounds + 1):
            lines = self._round(number)
            judged = None
            if number % self.recipe.evaluation.every == 0 or number == rounds:
                evaluations = list(self._evaluations(number, suites=suites if number == rounds else ()))
                lines += evaluations
                judged = evaluations[0]
            self.folder.log(lines)
            self.folder.save(Checkpoint(number, self.projectors, self._server(), {"method": self.method}))
            self.events.round_done(self.method, number, rounds, judged)
        caption_samples(self.pool, self.recipe, self.prepared, self.folder.path, self._named_projectors())
        self.folder.log([{"kind": "finished", "seconds": self._seconds()}])

    def _first_lines(self, *, references: bool) -> None:
        names = ["global"] if self.method != "local" else [f"client-{k}" for k in self.learners]
        self.projectors = dict.fromkeys(names, self.initial)
        judged = []
        if references:
            blind = self._figures(None, blind=True) | {"model": "blind"}
            judged = [blind, self._figures(self.initial) | {"model": "initial"}]
        self.folder.log([*self.data.data_lines, *({"round": 0, "client": None} | line for line in judged)])

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.projectors = checkpoint.projectors
        if self.aggregator is None:
            self.optimizers = checkpoint.server
            return
        self.memory = under(checkpoint.server, _MEMORY)
        mine = {name: tensor for name, tensor in checkpoint.server.items() if not name.startswith(_MEMORY)}
        self.aggregator.load_state_dict(mine)

    def _server(self) -> Tensors:
        if self.aggregator is None:
            return self.optimizers
        return self.aggregator.state_dict() | {f"{_MEMORY}{name}": tensor for name, tensor in self.memory.items()}

    def _projector(self, learner: int) -> Tensors:
        return self.projectors[f"client-{learner}" if self.method == "local" else "global"]

    def _round(self, number: int) -> list[Line]:
        learners = self._participants(number)
        size = self.recipe.run.cohort
        cohorts = [learners[start : start + size] for start in range(0, len(learners), size)]
        if self.aggregator is None:
            return self._learn_apart(number, self._answers(cohorts, number, {}))
        opening: list[Line] = []
        if self.aggregator.opening and self.aggregator.round == 0:
            down = self._broadcast(self.aggregator)
            answers = self._answers(cohorts, number, down, measure_only=True)
            opening = self._federate(number, learners, answers, self.aggregator, wire_bytes(down))
        down = self._broadcast(self.aggregator)
        answers = self._answers(cohorts, number, down)
        rest = self._federate(number, learners, answers, self.aggregator, wire_bytes(down))
        return [*_sent_for_opening(opening), *rest]

    def _answers(
        self, cohorts: list[list[int]], number: int, down: Tensors, *, measure_only: bool = False
    ) -> Iterator[tuple[int, Answer]]:
        jobs = [self._job(cohort, number, down, measure_only=measure_only) for cohort in cohorts]
        return self._one_by_one(cohorts, self.pool.map(jobs))

    def _broadcast(self, aggregator: Aggregator) -> Tensors:
        """What the server sends to each client, encoded."""
        shared = self.projectors["global"]
        wire = {f"projector.{name}": tensor for name, tensor in encode(shared, self.forms.projector).items()}
        return wire | flat(aggregator.broadcast(shared), "broadcast.")

    def _participants(self, number: int) -> list[int]:
        """All learners, or those of the clients whose turn it is; an absent client's part is skipped."""
        if self.aggregator is None:
            return self.learners
        share = self.recipe.federation.participation
        return participants(len(self.learners), share, number, self.recipe.run.seed)

    def _job(self, cohort: list[int], number: int, down: Tensors, *, measure_only: bool = False) -> tuple[Job, Tensors]:
        job = {
            "op": "train",
            "clients": cohort,
            "part": number - 1,
            "measure_only": measure_only,
            "learning_rate": self.learning_rate,
            "objective": self.chosen.objective if self.chosen else "plain",
            "objective_options": dict(self.chosen.objective_options) if self.chosen else {},
            "with_second_moment": self.aggregator is not None and "second_moment" in self.aggregator.needs,
            "keep_optimizer": self.aggregator is None,
        }
        if self.aggregator is not None:
            job |= {"payload": self.forms.update, "beside": self.forms.beside}
            job |= {"whole": self.forms.whole, "error_feedback": self.recipe.federation.error_feedback}
        own = tuple(owner(learner) for learner in cohort)
        tensors = {name: tensor for name, tensor in self.optimizers.items() if name.startswith(own)}
        tensors |= {name: tensor for name, tensor in self.memory.items() if name.startswith(own)}
        if self.method == "local":
            for learner in cohort:
                mine = self._projector(learner)
                tensors |= {f"{owner(learner)}projector.{name}": tensor for name, tensor in mine.items()}
            return job, tensors
        if self.aggregator is None:
            tensors |= {f"projector.{name}": tensor for name, tensor in self.projectors["global"].items()}
        return job, tensors | down

    def _one_by_one(self, cohorts: list[list[int]], answers: Iterator[Answer]) -> Iterator[tuple[int, Answer]]:
        """Each learner with its own part of its cohort's answer."""
        for cohort, answer in zip(cohorts, answers, strict=True):
            seconds = answer.seconds / len(cohort)
            for learner, result in zip(cohort, answer.result["clients"], strict=True):
                yield learner, Answer(result | {"seconds": seconds}, under(answer.tensors, owner(learner)))

    def _learn_apart(self, number: int, answers: Iterator[tuple[int, Answer]]) -> list[Line]:
        lines: list[Line] = []
        seconds = 0.0
        for learner, answer in answers:
            projector = under(answer.tensors, "projector.")
            if not all(bool(tensor.isfinite().all()) for tensor in projector.values()):
                raise UserError(f"{self.method}, round {number}: the projector is not finite; lower the learning rate")
            self.projectors["global" if learner < 0 else f"client-{learner}"] = projector
            for name, tensor in under(answer.tensors, "optimizer.").items():
                self.optimizers[f"{owner(learner)}optimizer.{name}"] = tensor
            lines.append(self._client_line(number, learner, answer, len(self.learners)))
            seconds += answer.seconds
        return [*lines, {"kind": "round", "round": number, "seconds": seconds, "bytes_sent": 0, "diagnostics": {}}]

    def _federate(
        self, number: int, learners: list[int], answers: Iterator[tuple[int, Answer]], aggregator: Aggregator, down: int
    ) -> list[Line]:
        before = self.projectors["global"]
        aggregator.begin(before)
        lines: list[Line] = []
        accepted: list[Line] = []
        seconds, sent = 0.0, 0
        for learner, answer in answers:
            line = self._client_line(number, learner, answer, len(learners))
            kept = {name: tensor for name, tensor in answer.tensors.items() if name.startswith(_KEPT)}
            up = wire_bytes(answer.tensors) - wire_bytes(kept)
            line |= {"bytes_up": up, "bytes_down": down, "weight": 0.0}
            sent, seconds = sent + up + down, seconds + answer.seconds
            lines.append(line)
            try:
                aggregator.add(_received(answer, before))
            except ValueError as error:
                self._refused(number, learner, error, line)
                continue  # the client goes on from what it knew before, as if it had been absent
            accepted.append(line)
            self.memory |= {f"{owner(learner)}{name}": tensor for name, tensor in kept.items()}
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

    def _client_line(self, number: int, learner: int, answer: Answer, learners: int) -> Line:
        name = "all clients' pairs" if learner < 0 else self.data.manifest.names[learner]
        if "loss" in answer.result:
            self.events.client_done(self.method, number, learner, learners, answer.result["loss"])
        line = {"kind": "client", "round": number, "client": max(learner, 0), "client_name": name}
        return line | answer.result | {"bytes_up": 0, "bytes_down": 0, "seconds": answer.seconds}

    def _evaluations(self, number: int, *, suites: Sequence[str]) -> Iterator[Line]:
        for learner in self.learners:
            alone = self.method == "local"
            who = {"model": "client" if alone else "global", "client": learner if alone else None}
            yield {"round": number} | self._figures(self._projector(learner), suites=suites) | who
            if not alone:
                return

    def _figures(self, projector: Tensors | None, *, blind: bool = False, suites: Sequence[str] = ()) -> Line:
        return projector_figures(self.pool, self.recipe, self.data, projector, blind=blind, suites=suites)

    def _named_projectors(self) -> dict[str, Tensors]:
        return {self.method if who == "global" else who: projector for who, projector in self.projectors.items()}

    def _seconds(self) -> float:
        """Of training, all workers together; judging and loading are not counted."""
        return sum(float(line["seconds"]) for line in self.folder.lines() if line["kind"] == "round")


def _sent_for_opening(lines: list[Line]) -> list[Line]:
    """Of an opening round, what it took; it has no losses and weighs nobody."""
    kept = ("round", "seconds", "bytes_sent")
    return [{"kind": "opening"} | {key: line[key] for key in kept} for line in lines if line["kind"] == "round"]


def _received(answer: Answer, before: Tensors) -> ClientUpdate:
    """What a client sent, decoded; ValueError where it does not fit the projector."""
    changed = under(answer.tensors, "update.")
    beside = decode({k: t for k, t in answer.tensors.items() if k.startswith(("second_moment.", "extra."))})
    return ClientUpdate(
        state=moved(before, decode(changed)) if changed else under(answer.tensors, "projector."),
        num_examples=answer.result["num_examples"],
        alignment_error=answer.result["alignment_error"],
        second_moment=under(beside, "second_moment.") or None,
        extra=by_label(under(beside, "extra.")) or None,
    )
