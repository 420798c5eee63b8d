import numpy as np
import pytest

from fedcmp.evaluation.suites.judge import description_mark
from fedcmp.evaluation.suites.open_answers import LLaVABench
from fedcmp.evaluation.suites.scoring import score_answers
from tests.evaluation.suites.examples import described, word
from tests.world.suites.shared import built


def test_an_ability_is_the_mean_over_all_items_that_need_it():
    items = [
        word(0, "ocr", "fox"),
        word(1, "ocr+spatial", "7"),
        described(2, ["object star", "color star red"], category="recognition+spatial"),
    ]
    score = score_answers("mm-vet", items, ["fox", "3", "a star"])
    third = 2 * 1 / (1 + 2)
    assert score.score == pytest.approx(100 * (1 + 0 + third) / 3)
    assert score.detail["by_ability"] == pytest.approx({"ocr": 50.0, "spatial": 50 * third, "recognition": 100 * third})
    assert score.detail["by_combination"] == pytest.approx(
        {"ocr": 100.0, "ocr+spatial": 0.0, "recognition+spatial": 100 * third}
    )


@pytest.mark.parametrize(
    ("name", "category"), [("mm-vet", "recognition+spatial+generation"), ("llava-bench", "detail")]
)
def test_the_worlds_own_phrases_get_full_marks(name, category):
    suite, _ = built(name)
    items = [item for item in suite.items if item.category == category]
    style = "" if name == "mm-vet" else " in a {}"
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
