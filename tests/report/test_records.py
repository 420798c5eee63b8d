import json
import math

import pytest

from fedcmp.report.records import ClientRound, Evaluation, Holding, Sample, ServerRound, number, numbers, whole


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3.0), (0.5, 0.5), (True, None), ("0.5", None), (None, None), ([1], None)]
)
def test_number_accepts_json_numbers_only(value, expected):
    assert number(value) == expected


def test_a_number_beyond_reason_counts_as_infinite_and_nan_survives():
    assert number(10**400) == math.inf
    assert number(-1e300) == -math.inf
    assert math.isnan(number(json.loads("NaN")))


@pytest.mark.parametrize(("value", "expected"), [(3, 3), (3.0, 3), (3.5, None), (math.inf, None), ("3", None)])
def test_whole_accepts_integers_only(value, expected):
    assert whole(value) == expected


def test_numbers_drops_what_is_no_number():
    assert numbers({"shapes": 3, "count": None, "word": "many"}) == {"shapes": 3.0}
    assert numbers([1, 2]) == {}


def test_worst_group_is_found_where_the_line_leaves_it_out():
    line = Evaluation.from_line({"group_losses": {"shapes": 0.5, "chart": 0.9, "word": 0.7}})
    assert (line.worst_group, line.worst_group_loss) == ("chart", 0.9)


def test_an_empty_line_of_every_kind_reads_without_figures():
    assert Evaluation.from_line({}).caption_loss is None
    assert ClientRound.from_line({"client": None}).name == "client-0"
    assert ServerRound.from_line({"diagnostics": None}).diagnostics == {}
    assert Holding.from_line({"client": 4}).name == "client-4"


def test_both_directions_of_a_client_count_as_bytes():
    assert ClientRound.from_line({"bytes_up": 10, "bytes_down": 32}).num_bytes == 42


def test_a_sample_without_key_is_known_by_its_picture():
    assert Sample.from_entry({"image": "samples/3.png", "captions": "none"}).key == "samples/3.png"
    assert Sample.from_entry({"image": "samples/3.png", "key": 7}).key == "7"
