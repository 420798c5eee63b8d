"""What our task files say by code: questions whose options stand inside them, and MM-Vet's marks."""

from collections.abc import Mapping
from typing import Any


def question_alone(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None) -> str:
    """MMBench's question in the model's own form, without a lettered list behind it."""
    around = lmms_eval_specific_kwargs or {}
    return around.get("pre_prompt", "") + str(doc["question"]).strip() + around.get("post_prompt", "")


def mm_vet_marks(doc: Mapping[str, Any], results: list[str]) -> Any:
    """MM-Vet's own marks, but a number outside 0 to 1 is none: lmms-eval asks such a judge again without end."""
    from lmms_eval.tasks.mmvet import utils

    if not hasattr(utils, "asked_without_limits"):
        utils.asked_without_limits = utils.get_chat_response
        utils.get_chat_response = _within_limits
    return utils.mmvet_process_results(doc, results)


def _within_limits(*given: Any, **named: Any) -> tuple[str, str]:
    from lmms_eval.tasks.mmvet import utils

    reply, judge = utils.asked_without_limits(*given, **named)
    try:
        mark = float(reply.split(" ")[0].strip())
    except ValueError:
        return reply, judge  # words: lmms-eval asks a few more times, then gives up
    return (reply, judge) if 0 <= mark <= 1 else ("", "")
