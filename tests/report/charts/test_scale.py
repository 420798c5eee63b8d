import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.report.charts.scale import cut_range, lower_part, padded_range, place_labels

values = st.floats(-1e6, 1e6, allow_nan=False)


@settings(deadline=None)
@given(st.lists(values, max_size=8))
def test_a_padded_range_holds_its_values_and_is_never_empty(numbers):
    low, high = padded_range(numbers)
    assert low < high
    assert all(low <= number <= high for number in numbers)


def test_a_few_high_values_are_cut_off_only_when_they_flatten_the_rest():
    anchors = [0.7, 0.9]
    low, high = cut_range([*anchors, 9.0], anchors)
    assert high == pytest.approx(0.7 + 2.2 * 0.2)
    assert low < 0.7
    assert cut_range([*anchors, 1.0], anchors)[1] > 1.0
    assert cut_range([0.5, 9.0], [0.5])[1] > 9.0
    assert cut_range([math.nan], []) == (0.0, 1.0)


@settings(deadline=None)
@given(st.lists(st.floats(0, 200), min_size=1, max_size=10))
def test_labels_keep_their_order_their_gap_and_the_box(wanted):
    places = place_labels(wanted, 14.0, 0.0, 200.0)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    ordered = [places[index] for index in order]
    assert all(b - a >= 14.0 - 1e-6 for a, b in pairwise(ordered))
    assert ordered[0] >= -1e-6
    assert ordered[-1] <= 200.0 + 1e-6


@settings(deadline=None)
@given(st.lists(st.floats(20, 180), min_size=2, max_size=4), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_no_other_allowed_placing_moves_labels_less(wanted, nudges):
    def cost(places):
        return sum((place - want) ** 2 for place, want in zip(places, wanted, strict=True))

    places = place_labels(wanted, 14.0, 0.0, 200.0)
    nudged = [place + nudge for place, nudge in zip(places, nudges, strict=False)]
    ordered = sorted(nudged)
    allowed = all(b - a >= 14.0 for a, b in pairwise(ordered))
    if allowed and ordered[0] >= 0 and ordered[-1] <= 200:
        assert cost(places) <= cost(nudged) + 1e-6


def test_two_labels_at_one_place_part_evenly_and_lone_ones_stay():
    assert place_labels([50.0, 50.0, 120.0], 14.0, 0.0, 200.0) == [43.0, 57.0, 120.0]


def test_labels_that_do_not_fit_overrun_the_end_not_the_gap():
    assert place_labels([0.0, 0.0, 0.0], 14.0, 0.0, 20.0) == [0.0, 14.0, 28.0]


def test_the_lower_part_keeps_two_at_least():
    assert lower_part([5.0, 1.0, 4.0, 2.0, 3.0]) == [1.0, 2.0, 3.0, 4.0]
    assert lower_part([5.0, 1.0], 0.1) == [1.0, 5.0]
