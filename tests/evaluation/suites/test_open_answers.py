import numpy as np
import pytest

from fedcmp.evaluation.suites.judge import description_mark
from fedcmp.evaluation.suites.llava_bench import LLaVABench
from fedcmp.evaluation.suites.scoring import score_answers
from tests.evaluation.suites.examples import described, word
from tests.evaluation.suites.shared import built


@pytest.mark.parametrize(
    ("name", "category"), [("mm-vet-world", "recognition+spatial+generation"), ("llava-bench-world", "detail")]
)
def test_the_worlds_own_phrases_get_full_marks(name, category):
    suite, _ = built(name)
    items = [item for item in suite.items if item.category == category]
    style = "" if name == "mm-vet-world" else " in a {}"
    said = []
    for item in items:
        picture = suite.pictures[item.picture]
        said.append(picture.content.phrase() + style.format(picture.kind) + " .")
    assert score_answers(name, items, said).score == 100.0


def test_chance_is_a_word_of_the_kind_or_another_pictures_description():
    a, b = described(0, ["object star", "color star red"]), described(1, ["object star", "color star blue"])
    c = described(2, ["object ring"])
    closed = word(3, "conversation", "red", ["red", "blue", "pink", "cyan"])
    facts = [frozenset(item.references[0]) for item in (a, b, c)]
    means = [
        np.mean([description_mark(facts[j], item) for j in range(3) if j != i]) for i, item in enumerate((a, b, c))
    ]
    assert LLaVABench([a, b, c, closed]).chance() == pytest.approx(25 * (sum(means) + 0.25))
