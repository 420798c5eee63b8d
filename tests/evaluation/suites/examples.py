"""Small suites for the rules' tests."""

import random

from fedcmp.evaluation.suites.items import Item

YES_NO = ("yes", "no")


def word(unit, category, answer, options=YES_NO, *, picture=None):
    return Item(unit if picture is None else picture, unit, category, "", answer=answer, options=tuple(options))


def described(unit, *references, truth=(), prompt="", category="detail"):
    facts = tuple(tuple(reference) for reference in references)
    everything = tuple(sorted({*truth, *(fact for reference in facts for fact in reference)}))
    return Item(unit, unit, category, prompt, how="text", references=facts, truth=everything)


def answers(items, *, right, seed=0):
    """Right with a probability, otherwise yes, no or something else."""
    chance = random.Random(seed)
    return [item.answer if chance.random() < right else chance.choice(["yes", "no", "red"]) for item in items]
