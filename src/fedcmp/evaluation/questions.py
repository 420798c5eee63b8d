"""Questions about held-out pictures: reading them, balancing them, scoring greedy answers by exact match.

An answer is right if the model, decoding greedily after the question, writes the answer's tokens first. All answers of
one length are checked in one pass: each token must be the most probable one after the true tokens before it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedcmp.data.accounts import reasons
from fedcmp.data.captions import clean_label, writable
from fedcmp.data.file_lists import check_is_here
from fedcmp.data.prepared import PreparedPairs
from fedcmp.data.quality import logger
from fedcmp.errors import UserError
from fedcmp.model.vlm import VLM


@dataclass(frozen=True)
class QuestionItem:
    """One question.

    Attributes:
        position: of its picture among the evaluation pairs.
        kind: what is asked for, such as "count".
        prompt: token ids of the question.
        answer: token ids of the answer, at least one.
    """

    position: int
    kind: str
    prompt: list[int]
    answer: list[int]


def read_questions(
    path: Path, keys: dict[str, int], tokenizer: Any, *, per_kind: int, asked: Callable[[str], str] | None = None
) -> list[QuestionItem]:
    """Questions from a JSONL file of {"id", "kind", "question", "answer"}, balanced by answer within each kind.

    Args:
        path: the file; "id" is a pair's key, "kind" may be missing.
        keys: id -> position of the evaluation pairs (see `question_ids`); questions about other pictures are left out.
        tokenizer: the LLM's, or its TextFormat.reader.
        per_kind: at most so many of each kind, the same number for each answer, so that no constant answer and no
            habit of the LLM does well; kinds with many different answers (more than `per_kind`) take the first ones.
        asked: TextFormat.asked: the question with what a chat puts between it and its answer; None: as it is.

    Raises:
        UserError: the file cannot be read, a line is no question (names it), or no question is about a held-out pair.
    """
    by_answer: dict[str, dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    try:
        content = path.read_bytes()
        check_is_here(path, content[:64])
        lines = content.decode("utf-8-sig").split("\n")  # not splitlines: a text may hold other line breaks
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    left_out: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            key = clean_label(str(record["id"]))
            question, answer = (writable(str(record[name])) for name in ("question", "answer"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f'{path} line {number}: not a question; write {{"id", "kind", "question", "answer"}}'
            ) from error
        if key not in keys or not answer.strip():
            left_out["without an answer" if key in keys else "about images that are not held out"] += 1
            continue
        by_answer[clean_label(str(record.get("kind", "question")))][answer].append((keys[key], question))
    if not by_answer:
        example = next(iter(keys), "none")
        raise UserError(f'{path}: no question is about a held-out pair; their ids look like "{example}"')
    if left_out:
        logger.warning("%s: questions that are not asked: %s", path, reasons(left_out))
    items: list[QuestionItem] = []
    for kind, answers in by_answer.items():
        each = max(1, min(per_kind // len(answers), min(map(len, answers.values()))))
        chosen = [(position, text, answer) for answer, asked in answers.items() for position, text in asked[:each]]
        for position, text, answer in chosen[:per_kind]:
            prompt = asked(text) if asked else text
            items.append(QuestionItem(position, kind, *continuation(tokenizer, prompt, answer)))
    return items


def continuation(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, and of an answer as a model writes it there: most join a word with the space before it."""

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return found

    asked = ids(prompt)
    gap = "" if not prompt or prompt[-1].isspace() else " "
    both = ids(prompt + gap + answer) if answer else asked
    return asked, both[len(asked) :] if both[: len(asked)] == asked and len(both) > len(asked) else ids(answer)


def question_ids(keys: list[str], owners: list[str]) -> dict[str, int]:
    """How questions may name the pairs: by key, by the last part of a tar's key, or by client/key.

    Args:
        keys: of the evaluation pairs, in order.
        owners: the client or collection that each belongs to.

    Returns:
        id -> position; ids that two pairs share are left out.
    """
    named: dict[str, set[int]] = defaultdict(set)
    for position, (key, owner) in enumerate(zip(keys, owners, strict=True)):
        for name in (key, key.rsplit("/", 1)[-1], f"{owner}/{key}"):
            named[name].add(position)
    return {name: positions.pop() for name, positions in named.items() if len(positions) == 1}


def count_by_kind(items: list[QuestionItem]) -> dict[str, int]:
    """How many questions of each kind, in alphabetical order."""
    return dict(sorted(Counter(item.kind for item in items).items()))


@torch.no_grad()
def score_questions(
    vlm: VLM, pairs: PreparedPairs, items: list[QuestionItem], *, blind: bool = False, batch_size: int = 128
) -> list[bool | None]:
    """Return whether each question is answered right, in the items' order; None: its image turned out bad.

    Args:
        vlm: the model.
        pairs: the evaluation pairs that the items point into.
        items: any questions.
        blind: without the picture.
        batch_size: questions a pass.
    """
    right: list[bool | None] = [None] * len(items)
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        by_shape[len(item.prompt), len(item.answer)].append(i)
    for (_, answer_length), members in sorted(by_shape.items()):
        for start in range(0, len(members), batch_size):
            some = members[start : start + batch_size]
            rows = pairs.rows[[items[i].position for i in some]]
            usable, features = pairs.features.gather(rows)  # without the image too: the same questions for all models
            some = [i for i, there in zip(some, np.isin(rows, usable).tolist(), strict=True) if there]
            if not some:
                continue
            ids = torch.tensor([items[i].prompt + items[i].answer for i in some])
            visual = None if blind else vlm.visual_tokens(features)
            best = vlm.language.greedy_tokens(visual, ids, answer_length)
            for i, same in zip(some, (best == ids[:, -answer_length:]).all(1).tolist(), strict=True):
                right[i] = same
    return right


def accuracy_by_kind(items: list[QuestionItem], right: list[bool | None]) -> dict[str, float]:
    """Return the share of right answers of each kind among those asked, in alphabetical order."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for item, answered in zip(items, right, strict=True):
        if answered is not None:
            kinds[item.kind].append(answered)
    return {kind: float(np.mean(kinds[kind])) for kind in sorted(kinds)}


def question_metrics(items: list[QuestionItem], right: list[bool | None]) -> dict[str, object]:
    """Return mean accuracy over kinds, every kind's own (both None without questions), and how many of each were asked.

    Args:
        items: the questions.
        right: whether each was answered right; None: it was not asked.
    """
    kinds = accuracy_by_kind(items, right)
    return {
        "question_accuracy": sum(kinds.values()) / len(kinds) if kinds else None,
        "question_accuracy_by_kind": kinds or None,
        "questions_by_kind": count_by_kind(
            [item for item, answered in zip(items, right, strict=True) if answered is not None]
        ),
    }
