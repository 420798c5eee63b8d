"""Which held-out pairs a report shows."""

import pytest

from fedcmp.preparation.samples import choose


@pytest.mark.parametrize("count", [0, 1, 3, 5, 6, 2**70])
def test_one_of_each_group_in_turn_and_never_more_than_there_are(count):
    groups = ["b", "a", "a", "c", "a"]
    assert choose(groups, count) == [1, 0, 3, 2, 4][:count]
    assert choose([], count) == []
