"""A study's worker: a process that runs one task after another. Started as `python -m fedcmp.study.worker`.

A task comes as one frame on standard input, {"op": "run" | "blind" | "scenario", "recipe": TOML, "method",
"pairs_hash", "suites", "keep"}; its record, or what went wrong, goes back on standard output (simulation/frames.py).
"""

import os
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve tasks until there are no more."""
    tasks, records = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library's print must not break the protocol

    from transformers.utils import logging

    from fedcmp.errors import UserError
    from fedcmp.wire.frames import read_frame, write_frame

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    while True:
        try:
            task, _ = read_frame(tasks)
        except EOFError:
            return
        try:
            answer: dict[str, Any] = {"record": _do(task)}
        except UserError as error:
            answer = {"user_error": str(error)}
        except Exception:  # told by the study, in one place
            answer = {"error": traceback.format_exc()}
        try:
            write_frame(records, answer, {})
        except BrokenPipeError:  # the study was killed
            return


def _do(task: dict[str, Any]) -> dict[str, Any]:
    from fedcmp.config import parse_recipe
    from fedcmp.preparation.scenario_facts import describe_scenario
    from fedcmp.study.single import judge_blind, run_single

    recipe = parse_recipe(tomllib.loads(task["recipe"]), "study")
    if task["op"] == "blind":
        return judge_blind(recipe, pairs_hash=task["pairs_hash"], suites=task["suites"])
    if task["op"] == "scenario":
        return describe_scenario(recipe)
    keep = Path(task["keep"]) if task.get("keep") else None
    return run_single(recipe, task["method"], pairs_hash=task["pairs_hash"], suites=task["suites"], keep=keep)


if __name__ == "__main__":
    main()
