"""What a model says to a suite's items: greedy words, the likeliest option, or a greedy description.

Items are batched by shape and never padded, so that an answer does not depend on its neighbours.
Shapes: B rows of a batch, T tokens, A tokens of an answer.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fedcmp.evaluation.suites.prepared import PreparedSuite, Suites
from fedcmp.model.vlm import VLM

LONGEST_DESCRIPTION = 40  # tokens; three objects with their places take 31


@torch.no_grad()
def answer_suite(vlm: VLM, suites: Suites, name: str, *, blind: bool = False, batch_size: int = 128) -> list[str]:
    """One text an item, in the items' order.

    Args:
        vlm: the model.
        suites: prepared with this model's encoder and tokenizer.
        name: of the suite.
        blind: without the pictures.
        batch_size: rows a pass.
    """
    suite = suites[name]
    said = [""] * len(suite.items)
    for how, answer in (("word", _words), ("rank", _ranked), ("text", _texts)):
        chosen = [i for i, item in enumerate(suite.items) if item.how == how]
        for i, text in answer(_Reader(vlm, suites, suite, blind, batch_size), chosen):
            said[i] = text
    return said


class _Reader:
    """Puts items into the model."""

    def __init__(self, vlm: VLM, suites: Suites, suite: PreparedSuite, blind: bool, batch_size: int) -> None:
        self.language, self.tokenizer, self.suite = vlm.language, suites.tokenizer, suite
        self._vlm, self._blind, self._batch_size = vlm, blind, batch_size

    def visual(self, chosen: Sequence[int]) -> Tensor | None:
        """(B, P, D) visual tokens of the chosen items' pictures."""
        if self._blind:
            return None
        return self._vlm.visual_tokens(self.suite.features[[self.suite.items[i].picture for i in chosen]])

    def batches(self, shapes: dict[tuple[int, int], list[int]]) -> Iterator[tuple[tuple[int, int], list[int]]]:
        """Rows of one shape at a time."""
        for shape, rows in sorted(shapes.items()):
            for start in range(0, len(rows), self._batch_size):
                yield shape, rows[start : start + self._batch_size]


def _words(reader: _Reader, chosen: list[int]) -> Iterator[tuple[int, str]]:
    """The answer where greedy decoding would write it, else what it prefers at each of the answer's tokens."""
    prompts, expected = reader.suite.prompts, reader.suite.answers
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i in chosen:
        shapes[len(prompts[i]), len(expected[i])].append(i)
    for (_, length), rows in reader.batches(shapes):
        ids = torch.tensor([prompts[i] + expected[i] for i in rows])
        best = reader.language.greedy_tokens(reader.visual(rows), ids, length).tolist()
        for i, tokens in zip(rows, best, strict=True):
            right = tokens == expected[i]
            yield i, reader.suite.items[i].answer if right else reader.tokenizer.decode(tokens).strip()


def _ranked(reader: _Reader, chosen: list[int]) -> Iterator[tuple[int, str]]:
    """The option with the largest sum of log-probabilities of its tokens."""
    prompts, options = reader.suite.prompts, reader.suite.options
    contexts: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)  # what options of one token share
    for i in chosen:
        for number, option in enumerate(options[i]):
            contexts[i, tuple(option[:-1])].append(number)
    asked = list(contexts)
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, (i, before) in enumerate(asked):
        shapes[len(prompts[i]), len(before) + 1].append(row)
    scores: dict[tuple[int, int], float] = {}
    for (_, length), rows in reader.batches(shapes):
        owners = [asked[row][0] for row in rows]
        ids = torch.tensor([prompts[i] + list(asked[row][1]) for i, row in zip(owners, rows, strict=True)])
        inputs = reader.language.inputs(reader.visual(owners), ids)
        logits = reader.language.logits(inputs, length)
        log_probabilities = logits.float().log_softmax(-1).cpu()  # (B, A, words)
        for place, row in enumerate(rows):
            i = asked[row][0]
            for number in contexts[asked[row]]:
                own = log_probabilities[place, torch.arange(length), torch.tensor(options[i][number])]
                scores[i, number] = float(own.sum())
    for i in chosen:
        best = max(range(len(options[i])), key=lambda number: scores[i, number])
        yield i, reader.suite.items[i].options[best]


def _texts(reader: _Reader, chosen: list[int]) -> Iterator[tuple[int, str]]:
    """Greedy text up to its end."""
    prompts = reader.suite.prompts
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i in chosen:
        shapes[len(prompts[i]), 0].append(i)
    for (length, _), rows in reader.batches(shapes):
        ids = torch.tensor([prompts[i] for i in rows], dtype=torch.long).view(len(rows), length)
        yield from zip(
            rows,
            reader.language.generate(reader.visual(rows), ids, max_new_tokens=LONGEST_DESCRIPTION),
            strict=True,
        )
