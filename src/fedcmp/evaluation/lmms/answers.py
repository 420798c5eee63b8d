"""What lmms-eval left: its figures and answers, read, and refused where they are not what they look like.

lmms-eval goes on where it should not: a generation that raised becomes an empty answer, a judge that did not reply
becomes 0 or -1, a failed run ends with exit code 0. All of that is an error here.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import Benchmark

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_RAISED = re.compile(r"Error ((?:(?!Error ).)*?) in generating", re.DOTALL)  # CUDA's errors have several lines
_GAVE_UP = "Reach to max trials"  # MM-Vet's: the judge answered, but never with a number; it counts as 0


@dataclass(frozen=True)
class Answers:
    """A benchmark's outcome.

    Attributes:
        score: the benchmark's figure, in the paper's unit.
        metrics: this and further figures by lmms-eval's names.
        items: rows that the dataset has.
        samples: one object a row that was asked: doc_id, input, target, answer.
        judged_by: names under which the judge answered.
    """

    score: float
    metrics: dict[str, float]
    items: int
    samples: list[dict[str, Any]]
    judged_by: list[str]

    @property
    def empty(self) -> int:
        """How many answers say nothing: the model's own silence, as failed ones were refused."""
        return sum(not sample["answer"].strip() for sample in self.samples)


def read_answers(benchmark: Benchmark, output: Path, log: Path) -> Answers:
    """Read the files of one process.

    Args:
        benchmark: which.
        output: the folder that lmms-eval wrote to.
        log: its standard output and error.

    Raises:
        UserError: it failed, or its figures cannot be trusted; names the log.
    """
    found, asked = (
        list(output.rglob("[0-9]*_results.json")),
        list(output.rglob(f"*_samples_{benchmark.task_name}.jsonl")),
    )
    if len(found) != 1 or len(asked) != 1:
        raise UserError(f"{benchmark.name}: lmms-eval failed: {last_error(log)} (all of it: {log})")
    try:
        results = json.loads(found[0].read_text(encoding="utf-8"))
        lines = [json.loads(line) for line in asked[0].read_text(encoding="utf-8").splitlines()]
        figures = results["results"][benchmark.task_name]
        items = int(results["n-samples"][benchmark.task_name]["original"])
        samples = [_sample(line) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{benchmark.name}: lmms-eval's files in {output} are not as expected ({error!r})") from error
    _check_generation(benchmark, log)
    judged_by = _check_judge(benchmark, lines, log)
    factors = {benchmark.score[0]: benchmark.score[1], **benchmark.details}
    metrics = {
        name: factor * float(value)
        for name, factor in factors.items()
        if isinstance(value := figures.get(f"{name},none"), int | float) and math.isfinite(value)
    }
    if benchmark.score[0] not in metrics:
        raise UserError(f"{benchmark.name}: lmms-eval gave no figure {benchmark.score[0]} (its log: {log})")
    return Answers(metrics[benchmark.score[0]], metrics, items, sorted(samples, key=lambda s: s["doc_id"]), judged_by)


def last_error(log: Path) -> str:
    """The line of a log that says most about why it ended."""
    try:
        lines = _COLOURS.sub("", log.read_text(encoding="utf-8", errors="replace")).splitlines()
    except OSError:
        return "it left no log"
    told = [line.strip() for line in lines if re.match(r"\s*[\w.]*(Error|Exception|Interrupt)\b.*:", line)]
    return (told or [line.strip() for line in lines if line.strip()] or ["it said nothing"])[-1][:300]


def _sample(line: dict[str, Any]) -> dict[str, Any]:
    answer = line["filtered_resps"]
    answer = answer[0] if isinstance(answer, list) and answer else answer
    return {"doc_id": int(line["doc_id"]), "input": line["input"], "target": line["target"], "answer": str(answer)}


def _check_generation(benchmark: Benchmark, log: Path) -> None:
    raised = _RAISED.findall(_COLOURS.sub("", log.read_text(encoding="utf-8", errors="replace")))
    if raised:
        raise UserError(
            f"{benchmark.name}: {len(raised)} answers failed: {' '.join(raised[-1].split())[:200]} (its log: {log})"
        )


def _check_judge(benchmark: Benchmark, lines: list[dict[str, Any]], log: Path) -> list[str]:
    if benchmark.judge is None:
        return []
    verdicts = [line.get(benchmark.score[0]) for line in lines]
    unread = log.read_text(encoding="utf-8", errors="replace").count(_GAVE_UP)
    failed = max(sum(not _judged(verdict) for verdict in verdicts), unread)
    if failed:
        raise UserError(
            f"{benchmark.name}: the judge gave no usable verdict on {failed} of {len(lines)} answers; the answers are "
            f"kept, the same command asks the judge again (its log: {log})"
        )
    return sorted({str(verdict["eval_model"]) for verdict in verdicts if verdict})


def _judged(verdict: Any) -> bool:
    if not isinstance(verdict, dict) or not verdict.get("eval_model"):
        return False
    scores = verdict.get("scores", [verdict.get("score")])
    return all(isinstance(score, int | float) and score >= 0 for score in scores)
