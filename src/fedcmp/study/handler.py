"""What a study's worker processes do: one task after another.

A task is {"op": "run" | "blind" | "scenario", "recipe": TOML, "method", "pairs_hash", "suites", "keep"}; its result is
{"record": ...}, or {"mistake": message} where the user has to fix something.
"""

import tomllib
from pathlib import Path
from typing import Any

from fedcmp.config import parse_recipe
from fedcmp.errors import UserError
from fedcmp.preparation.scenario_facts import describe_scenario
from fedcmp.study.single import judge_blind, run_single
from fedcmp.wire.frames import Frame, Header, Tensors
from fedcmp.workers.jobs import Handler


def serve_tasks() -> Handler:
    """Return what does tasks."""
    return _answer


def _answer(task: Header, _: Tensors) -> Frame:
    try:
        return {"record": _do(task)}, {}
    except UserError as error:  # ends this task alone
        return {"mistake": str(error)}, {}


def _do(task: Header) -> dict[str, Any]:
    recipe = parse_recipe(tomllib.loads(task["recipe"]), "study")
    if task["op"] == "blind":
        return judge_blind(recipe, pairs_hash=task["pairs_hash"], suites=task["suites"])
    if task["op"] == "scenario":
        return describe_scenario(recipe)
    keep = Path(task["keep"]) if task.get("keep") else None
    return run_single(recipe, task["method"], pairs_hash=task["pairs_hash"], suites=task["suites"], keep=keep)
