"""How good a projector is on a run's held-out pairs: jobs for the pool, and what their answers come to together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedcmp.config import Recipe
from fedcmp.evaluation.captions import caption_metrics, merge_sums
from fedcmp.evaluation.questions import question_metrics
from fedcmp.preparation.loading import Prepared
from fedcmp.preparation.samples import sample_positions, write_samples
from fedcmp.simulation.engine import EVALUATION_CHUNK, Job, Tensors
from fedcmp.simulation.pool import Pool


def projector_figures(
    pool: Pool,
    recipe: Recipe,
    data: Prepared,
    projector: Tensors | None,
    *,
    blind: bool = False,
    suites: Sequence[str] = (),
) -> dict[str, Any]:
    """Figures of one projector on the held-out pairs, as metrics.jsonl has them.

    Chunks of fixed size are summed in order: the result does not depend on the number of workers.

    Args:
        pool: the workers.
        recipe: says how many pairs are judged.
        data: the run's pairs.
        projector: None for the blind LLM.
        blind: without the picture.
        suites: names of the suites to ask.
    """
    tensors = _named(projector or {})
    jobs: list[tuple[Job, Tensors]] = []
    counts = {"captions": min(len(data.evaluation), recipe.evaluation.captions), "questions": len(data.questions)}
    for what, count in counts.items():
        for start in range(0, count, EVALUATION_CHUNK):
            stop = min(start + EVALUATION_CHUNK, count)
            jobs.append(({"op": "evaluate", "what": what, "start": start, "stop": stop, "blind": blind}, tensors))
    jobs += [({"op": "suite", "name": name, "blind": blind}, tensors) for name in suites]
    sums, right, seconds = [], [], 0.0
    scores: dict[str, Any] = {}
    for answer in pool.map(jobs):
        seconds += answer.seconds
        if "sums" in answer.result:
            sums.append({group: (float(a), int(b)) for group, (a, b) in answer.result["sums"].items()})
        elif "suite" in answer.result:
            scores[answer.result["suite"]] = answer.result["score"]
        else:
            right += answer.result["right"]
    return {
        "kind": "evaluation",
        "split": recipe.evaluation.split if recipe.data.format == "world" else "held out",
        **caption_metrics(merge_sums(sums)),
        **question_metrics(data.questions, right),
        **({"suites": scores} if suites else {}),
        "seconds": seconds,
    }


def caption_samples(
    pool: Pool, recipe: Recipe, prepared: Path, folder: Path, projectors: Mapping[str, Tensors]
) -> None:
    """Let every projector caption the held-out pictures that the report shows, and write them to a run's folder.

    Args:
        pool: the workers.
        recipe: says how long a caption may be.
        prepared: `prepared/` of the run.
        folder: the method's run.
        projectors: who -> its projector.
    """
    positions = sample_positions(prepared)
    job = {"op": "caption", "positions": positions, "max_new_tokens": recipe.evaluation.sample_tokens}
    jobs: list[tuple[Job, Tensors]] = [(job, _named(projector)) for projector in projectors.values()]
    answers = zip(projectors, pool.map(jobs), strict=True)
    said = {who: answer.result["captions"] for who, answer in answers}
    captions = [{who: texts[i] for who, texts in said.items()} for i in range(len(positions))]
    write_samples(prepared, folder, captions)


def _named(projector: Tensors) -> Tensors:
    return {f"projector.{name}": tensor for name, tensor in projector.items()}
