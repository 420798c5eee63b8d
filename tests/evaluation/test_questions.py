import json
from typing import ClassVar

import numpy as np
import pytest
import torch

from fedcmp.errors import UserError
from fedcmp.evaluation.questions import (
    QuestionItem,
    accuracy_by_kind,
    question_ids,
    question_metrics,
    read_questions,
    score_questions,
)
from fedcmp.world.tokenizer import world_tokenizer


def write(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def record(key, answer, kind="existence"):
    return {"id": key, "kind": kind, "question": "question : is there a red circle ? answer :", "answer": answer}


def test_answers_are_balanced_within_a_kind(tmp_path):
    records = [record(str(i), "yes" if i % 5 else "no") for i in range(100)]
    items = read_questions(
        write(tmp_path / "q.jsonl", records), {str(i): i for i in range(100)}, world_tokenizer(), per_kind=60
    )
    yes = world_tokenizer().convert_tokens_to_ids("yes")
    answers = [item.answer == [yes] for item in items]
    assert len(answers) == 40  # 20 pictures say no, hence 20 of each
    assert sum(answers) == 20


def test_questions_about_other_pictures_are_left_out_and_counted(tmp_path, caplog):
    records = [record("a", "yes"), record("b", "no"), record("z", "no"), record("y", "no"), record("a", " ")]
    path = write(tmp_path / "q.jsonl", records)
    assert {item.position for item in read_questions(path, {"a": 0, "b": 7}, world_tokenizer(), per_kind=10)} == {0, 7}
    told = "2 about images that are not held out, 1 without an answer"
    assert caplog.messages == [f"{path}: questions that are not asked: {told}"]


def test_marks_and_halves_of_letters_are_no_part_of_a_question(tmp_path):
    """Ids are cleaned as the pairs' are; a byte-order mark is none of the first line."""
    path = write(tmp_path / "q.jsonl", [record("post \ud83d1", "yes\ud83d", "kind\ud83d"), record("post 2", "no")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    items = read_questions(path, {"post 1": 0, "post 2": 1}, world_tokenizer(), per_kind=10)
    assert {(item.position, item.kind) for item in items} == {(0, "kind"), (1, "existence")}
    assert items[0].answer == [world_tokenizer().convert_tokens_to_ids("yes")]


def test_a_pointer_is_no_file_of_questions(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(UserError, match=r"q\.jsonl: holds a git-lfs or git-annex pointer"):
        read_questions(path, {"a": 0}, world_tokenizer(), per_kind=10)


@pytest.mark.parametrize("line", ["not json", "[1, 2]", "3", "[" * 20_000])
def test_a_line_that_is_no_question_is_named(tmp_path, line):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(record("a", "yes")) + f"\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        read_questions(path, {"a": 0}, world_tokenizer(), per_kind=10)
    with pytest.raises(UserError, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl", {}, world_tokenizer(), per_kind=10)


def test_a_question_file_about_other_pictures_is_refused(tmp_path):
    path = write(tmp_path / "q.jsonl", [record("z", "no")])
    with pytest.raises(UserError, match="no question is about a held-out pair"):
        read_questions(path, {"a": 0}, world_tokenizer(), per_kind=10)


def test_answers_are_tokenised_as_a_model_writes_them(tmp_path, byte_level_llm):
    """A byte-level model writes " red" after "is it", not "red"."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(byte_level_llm)
    path = write(tmp_path / "q.jsonl", [{"id": "a", "question": "is the roof red ? answer:", "answer": "red roof"}])
    (item,) = read_questions(path, {"a": 0}, tokenizer, per_kind=10)
    assert tokenizer.decode(item.answer) == " red roof"
    assert tokenizer.decode(item.prompt + item.answer) == "is the roof red ? answer: red roof"


def test_pairs_can_be_named_by_key_by_client_or_by_the_last_part():
    ids = question_ids(["1", "shard-0/7", "1"], ["a", "a", "b"])
    assert ids == {"a/1": 0, "b/1": 2, "shard-0/7": 1, "7": 1, "a/shard-0/7": 1}


class Parrot:
    """Stands for a model that writes a fixed answer for each picture."""

    def __init__(self, written):
        self.written, self.language = written, self

    def visual_tokens(self, features):
        return features

    def greedy_tokens(self, visual, ids, count):
        return torch.tensor([self.written[int(row)][:count] for row in visual[:, 0, 0]])


class Pairs:
    """Features that tell the picture's number."""

    rows = torch.arange(10).numpy()

    class features:  # noqa: N801 - stands for an object
        bad: ClassVar = set()

        @classmethod
        def gather(cls, indices):
            kept = [int(index) for index in indices if int(index) not in cls.bad]
            return np.array(kept, np.int64), torch.as_tensor(kept).float().view(-1, 1, 1)


def test_an_answer_is_right_if_all_its_tokens_are():
    items = [QuestionItem(0, "a", [1, 2], [5]), QuestionItem(1, "a", [1], [5, 6]), QuestionItem(2, "b", [1], [5, 6])]
    right = score_questions(Parrot({0: [5, 9], 1: [5, 6], 2: [5, 7]}), Pairs, items)
    assert right == [True, True, False]
    assert accuracy_by_kind(items, right) == {"a": 1.0, "b": 0.0}


def test_a_question_whose_image_turns_out_bad_is_not_asked(monkeypatch):
    items = [QuestionItem(0, "a", [1], [5]), QuestionItem(1, "a", [1], [5]), QuestionItem(2, "b", [1], [5])]
    monkeypatch.setattr(Pairs.features, "bad", {0, 2})
    right = score_questions(Parrot({1: [5]}), Pairs, items)
    assert right == [None, True, None]
    metrics = question_metrics(items, right)
    assert (metrics["question_accuracy_by_kind"], metrics["questions_by_kind"]) == ({"a": 1.0}, {"a": 1})
