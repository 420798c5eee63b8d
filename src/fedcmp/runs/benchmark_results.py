"""The real benchmarks of a run, read from its benchmarks/*.json.

The files are written by `fedcmp evaluate --suite llava7`; a local-only run has a folder of them for each client. As
with all records, what is missing or of the wrong type is left out.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcmp.runs.fields import number, text, whole

RESULTS = "benchmarks"  # the folder of a run that holds them
UNITS = {
    "mm-vet": ("MM-Vet", "%"),
    "mmbench": ("MMBench", "%"),
    "seed": ("SEED", "%"),
    "llava-bench": ("LLaVA-Bench", "%"),
    "pope": ("POPE", "F1, %"),
    "mme": ("MME", "perception, to 2000"),
    "mmvp": ("MMVP", "pairs, %"),
}  # name -> title and unit, in the paper's order
_SHORT = 12  # of a hash


@dataclass(frozen=True)
class Benchmarked:
    """One benchmark of one model: its score, and what has to be said with it.

    `limited`: only the first rows were asked; `prompts`: in another form than lmms-eval's; `judge`: its name and the
    hash of its prompt; `round`: after which the model was asked; `empty`: answers that say nothing; `toy`: the items
    are the embedded world's in the benchmark's format, not the benchmark's own.
    """

    name: str
    score: float
    asked: int | None = None
    items: int | None = None
    limited: bool = False
    prompts: bool = False
    judge: str = ""
    version: str = ""
    round: int | None = None
    empty: int = 0
    toy: bool = False

    @classmethod
    def from_file(cls, content: Mapping[str, Any]) -> "Benchmarked | None":
        """Read a result file; None where it holds no score."""
        name, score = text(content.get("benchmark")), number(content.get("score"))
        if not name or score is None or not math.isfinite(score):
            return None
        given = content.get("judge")
        judge: Mapping[str, object] = given if isinstance(given, Mapping) else {}
        told = f"“{text(judge.get('model'))}” (prompt {text(judge.get('prompt_sha256'))[:_SHORT]})" if judge else ""
        asked, items = whole(content.get("asked")), whole(content.get("items"))
        return cls(
            name=name,
            score=score,
            asked=asked,
            items=items,
            limited=content.get("limit") is not None and (asked is None or items is None or asked < items),
            prompts=content.get("prompts") is not None,
            judge=told,
            version=text(content.get("lmms_eval")),
            round=whole(content.get("round")),
            empty=whole(content.get("empty")) or 0,
            toy=content.get("toy") is True,
        )


@dataclass(frozen=True)
class Results:
    """The benchmarks of one run: those of its model, or of each client's own."""

    models: tuple[Mapping[str, Benchmarked], ...] = ()

    def scores(self, name: str) -> list[float]:
        """One score a model that was asked."""
        return [model[name].score for model in self.models if name in model]

    def all(self) -> Iterable[Benchmarked]:
        """Every result."""
        return (result for model in self.models for result in model.values())


def read_results(folder: Path) -> Results:
    """The result files in a folder, or in its folders client-0, client-1, ...; none: no models."""
    places = [folder, *sorted(folder.glob("client-*"))]
    found = [{result.name: result for path in place.glob("*.json") if (result := _read(path))} for place in places]
    return Results(tuple(model for model in found if model))


def _read(path: Path) -> Benchmarked | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return Benchmarked.from_file(content) if isinstance(content, dict) else None
