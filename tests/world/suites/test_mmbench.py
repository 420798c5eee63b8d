from collections import defaultdict

from tests.world.suites.shared import built


def test_each_question_is_asked_once_for_every_rotation_of_its_options():
    suite, _ = built("mmbench")
    asked = defaultdict(list)
    for item in suite.items:
        asked[item.unit].append(item)
        assert f"{' or '.join(item.options)} ? answer :" in item.prompt
    for items in asked.values():
        orders = [item.options for item in items]
        assert orders == [orders[0][i:] + orders[0][:i] for i in range(len(orders[0]))]
        assert len({item.answer for item in items}) == len({item.picture for item in items}) == 1
