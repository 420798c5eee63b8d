"""Whether lmms-eval, asking the exported model, gets the answers that our own suites get from ours, item by item.

Both on the same footing: every answer is one word, and both read the one most probable token after the prompt. Ours
asks for it with the visual tokens in front (fedcmp.evaluation.suites.answers), lmms-eval generates it greedily
(`max_new_tokens` 1) from the prompt that the exported chat template writes.
"""

import json
from pathlib import Path
from typing import Any

from fedcmp.evaluation.suites.answers import answer_suite
from fedcmp.evaluation.suites.prepared import Suites
from fedcmp.evaluation.suites.scoring import SuiteScore, score_answers
from fedcmp.model.vlm import VLM


def compare_answers(
    vlm: VLM, suites: Suites, written: dict[str, list[int]], results: Path
) -> dict[str, dict[str, Any]]:
    """Compare lmms-eval's answers with our suites'.

    Args:
        vlm: the model that was exported.
        suites: prepared with its encoder, features in float32.
        written: benchmark -> the suite's item behind each row, as write_world_benchmarks returns it.
        results: the folder of result files.

    Returns:
        Benchmark -> answers (how many were compared), equal, the first differences, and the figure of both.
    """
    out = {}
    for name, items in written.items():
        record = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        suite = suites[f"{name}-world"]
        said = answer_suite(vlm, suites, suite.name)
        rows = [(suite.items[items[s["doc_id"]]], said[items[s["doc_id"]]], s) for s in record["samples"]]
        different = [
            {"prompt": item.prompt, "right": item.answer, "ours": ours, "lmms_eval": sample["answer"]}
            for item, ours, sample in rows
            if ours != sample["answer"].strip()
        ]
        asked = sorted({items[sample["doc_id"]] for sample in record["samples"]})
        score = score_answers(suite.name, [suite.items[i] for i in asked], [said[i] for i in asked])
        out[name] = {
            "answers": len(rows),
            "equal": len(rows) - len(different),
            "different": different[:10],
            "distinct_answers": len({sample["answer"] for sample in record["samples"]}),
            "figure": _FIGURES[name],
            "ours": _ours(score),
            "lmms_eval": _theirs(name, record["metrics"]),
        }
    return out


_FIGURES = {
    "pope": "F1 over all rows of the three splits, %",
    "mme": "sum over subtasks of accuracy and accuracy+",
    "mmbench": "right in all rotations, %",
}


def _ours(score: SuiteScore) -> float:
    return float(score.detail["overall"]["f1"]) if score.suite == "pope-world" else score.score


def _theirs(name: str, metrics: dict[str, float]) -> float:
    if name == "mme":  # subtasks that the real benchmark does not have count as cognition there
        return metrics["mme_perception_score"] + metrics.get("mme_cognition_score", 0.0)
    return metrics["pope_f1_score" if name == "pope" else "gpt_eval_score"]
