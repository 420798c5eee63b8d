"""How good the trained tensors are on a run's held-out pairs: jobs for the pool, and what their answers add up to."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedcmp.config import Recipe
from fedcmp.evaluation.captions import caption_metrics, merge_sums
from fedcmp.evaluation.questions import question_metrics
from fedcmp.preparation.loading import Prepared
from fedcmp.preparation.samples import sample_positions, write_samples
from fedcmp.runs.held_out import HeldOut
from fedcmp.runs.records import Evaluation
from fedcmp.simulation.engine import Job
from fedcmp.simulation.pool import Pool
from fedcmp.wire.naming import Tensors

EVALUATION_CHUNK = 256
Figures = dict[str, Any]  # fields of an Evaluation


class Measured(NamedTuple):
    """One model on the held-out pairs: its figures, and (summed loss, tokens) of each caption."""

    figures: Figures
    scored: list[tuple[float, int]]


class References:
    """The blind LLM and the untrained tensors, measured once for all methods of a run; threads may share it."""

    def __init__(self) -> None:
        self._measuring = threading.Lock()
        self._found: tuple[Measured, Measured] | None = None

    def of(self, measure: Callable[[], tuple[Measured, Measured]]) -> tuple[Measured, Measured]:
        """Return both, measured by the first who asks; the others wait for it."""
        with self._measuring:
            if self._found is None:
                self._found = measure()
            return self._found


class PoolEvaluator:
    """Measures with the pool's workers (federation.rounds.Evaluator).

    Args:
        method: its name, under which a global model's captions are shown.
        recipe: says how many pairs are judged and how long a caption may be.
        data: the run's pairs.
        pool: the workers.
        folder: the method's run, where samples are written.
        prepared: `prepared/` of the run.
        suites: names of the suites that are asked after the last round.
        shared: the references of all methods that start from the same tensors on the same pairs; default: its own.
    """

    def __init__(
        self,
        method: str,
        recipe: Recipe,
        data: Prepared,
        pool: Pool,
        folder: Path,
        prepared: Path,
        *,
        suites: Sequence[str] = (),
        shared: References | None = None,
    ) -> None:
        self._method, self._recipe, self._data, self._pool = method, recipe, data, pool
        self._folder, self._prepared, self._suites = folder, prepared, suites
        self._shared = shared or References()

    def references(self, initial: Tensors) -> list[Evaluation]:
        """Evaluation records of the blind LLM and of the initial tensors."""
        blind, untrained = self._shared.of(lambda: (self._measure(None, blind=True), self._measure(initial)))
        self._keep("blind", 0, blind)
        return [
            Evaluation(round=0, client=None, model="blind", **blind.figures),
            Evaluation(round=0, client=None, model="initial", **untrained.figures),
        ]

    def evaluations(self, states: Mapping[str, Tensors], round_number: int, *, last: bool) -> list[Evaluation]:
        """Evaluation records after a round, one per model."""
        records = []
        for who, state in states.items():
            client = None if who == "global" else int(who.removeprefix("client-"))
            model = "global" if client is None else "client"
            measured = self._measure(state, suites=self._suites if last else ())
            figures = measured.figures
            if last:
                figures = figures | {"shuffled_loss": shuffled_loss(self._pool, self._recipe, self._data, state)}
            records.append(Evaluation(round=round_number, client=client, model=model, **figures))
            if client is None:
                self._keep(who, round_number, measured)
        return records

    def samples(self, states: Mapping[str, Tensors]) -> None:
        """Let every model caption the held-out images that the report shows, and write them to the run's folder."""
        positions = sample_positions(self._prepared)
        job: Job = {
            "op": "caption",
            "positions": positions,
            "max_new_tokens": self._recipe.evaluation.sample_tokens,
        }
        answers = zip(states, self._pool.map([(job, state) for state in states.values()]), strict=True)
        said = {self._method if who == "global" else who: answer.result["captions"] for who, answer in answers}
        captions = [{who: texts[i] for who, texts in said.items()} for i in range(len(positions))]
        write_samples(self._prepared, self._folder, captions)

    def _measure(self, state: Tensors | None, *, blind: bool = False, suites: Sequence[str] = ()) -> Measured:
        return measure_held_out(self._pool, self._recipe, self._data, state, blind=blind, suites=suites)

    def _keep(self, who: str, round_number: int, measured: Measured) -> None:
        """Write the captions' losses to the run's folder, next to those of the blind LLM."""
        HeldOut.add(self._folder, who, round_number, measured.figures["split"], measured.scored)


def measure_held_out(
    pool: Pool,
    recipe: Recipe,
    data: Prepared,
    state: Tensors | None,
    *,
    blind: bool = False,
    suites: Sequence[str] = (),
) -> Measured:
    """Return the figures of one model on the held-out pairs, as metrics.jsonl has them, and every caption's loss.

    Chunks of fixed size are summed in order: the result does not depend on the number of workers.

    Args:
        pool: the workers.
        recipe: says how many pairs are judged.
        data: the run's pairs.
        state: the trained tensors; None for the blind LLM.
        blind: without the image.
        suites: names of the suites to ask.
    """
    tensors = state or {}
    jobs: list[tuple[Job, Tensors]] = []
    counts = {"captions": _captions(recipe, data), "questions": len(data.questions)}
    for what, count in counts.items():
        jobs += [(job, tensors) for job in _chunks(what, count, blind=blind)]
    jobs += [({"op": "suite", "name": name, "blind": blind}, tensors) for name in suites]
    split = recipe.evaluation.split
    sums, right, seconds = [], [], 0.0
    scored: list[tuple[float, int]] = []
    scores: dict[str, Any] = {}
    for answer in pool.map(jobs):
        seconds += answer.seconds
        if "sums" in answer.result:
            sums.append({group: (float(a), int(b)) for group, (a, b) in answer.result["sums"].items()})
            scored += [(float(loss), int(tokens)) for loss, tokens in answer.result["scored"]]
        elif "suite" in answer.result:
            scores[answer.result["suite"]] = answer.result["score"]
        else:
            right += answer.result["right"]
    figures = {
        "kind": "evaluation",
        "split": "held out" if recipe.data.format != "world" and split == "test" else split,
        "captions": len(scored),
        **caption_metrics(merge_sums(sums)),
        **question_metrics(data.questions, right),
        **({"suites": scores} if suites else {}),
        "seconds": seconds,
    }
    return Measured(figures, scored)


def shuffled_loss(pool: Pool, recipe: Recipe, data: Prepared, state: Tensors) -> float | None:
    """Return the caption loss of one model when each held-out caption comes with another of the held-out images.

    Args:
        pool: the workers.
        recipe: says how many pairs are judged.
        data: the run's pairs.
        state: the trained tensors.

    Returns:
        Nats per token; None with fewer than two images.
    """
    count = _captions(recipe, data)
    if count < 2:
        return None
    jobs = [(job | {"shuffled": count}, state) for job in _chunks("captions", count, blind=False)]
    scored = [(loss, tokens) for answer in pool.map(jobs) for loss, tokens in answer.result["scored"]]
    return sum(loss for loss, _ in scored) / sum(tokens for _, tokens in scored) if scored else None


def _chunks(what: str, count: int, *, blind: bool) -> list[Job]:
    """Return the jobs that judge so many captions or questions."""
    return [
        {"op": "evaluate", "what": what, "start": start, "stop": min(start + EVALUATION_CHUNK, count), "blind": blind}
        for start in range(0, count, EVALUATION_CHUNK)
    ]


def _captions(recipe: Recipe, data: Prepared) -> int:
    return min(len(data.evaluation), recipe.evaluation.captions)
