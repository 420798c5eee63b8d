from collections import defaultdict

from fedcmp.world.suites.mme import PICTURES, SUBTASKS
from tests.world.suites.shared import built


def test_each_picture_has_one_question_to_be_answered_yes_and_one_no():
    suite, _ = built("mme")
    asked = defaultdict(list)
    for item in suite.items:
        assert item.unit == item.picture
        asked[item.category, item.picture].append(item.answer)
    assert all(answers == ["yes", "no"] for answers in asked.values())
    assert len(asked) == PICTURES * len(SUBTASKS) == len(suite.pictures)
