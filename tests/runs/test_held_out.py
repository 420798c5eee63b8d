"""The captions' losses of a run: written model by model, read back, and never in the way when they are damaged."""

import json
import math

import pytest

from fedcmp.errors import UserError
from fedcmp.runs.held_out import HELD_OUT, HeldOut


def test_models_are_added_one_by_one(tmp_path):
    HeldOut.add(tmp_path, "blind", 0, "test", [(9.0, 10), (4.0, 5)])
    HeldOut.add(tmp_path, "global", 1, "test", [(5.0, 10), (2.0, 5)])
    HeldOut.add(tmp_path, "global", 2, "test", [(1 / 3, 10), (2.5, 5)])
    found = HeldOut.read(tmp_path)
    assert (found.round, found.split, found.tokens) == (2, "test", (10, 5))
    assert found.losses == {"blind": (9.0, 4.0), "global": (0.333333, 2.5)}


def test_losses_of_other_captions_are_dropped(tmp_path):
    HeldOut.add(tmp_path, "blind", 0, "test", [(9.0, 10)])
    HeldOut.add(tmp_path, "global", 1, "test", [(5.0, 11)])
    assert list(HeldOut.read(tmp_path).losses) == ["global"]


def test_a_model_that_diverged_has_no_losses_and_the_file_is_json(tmp_path):
    HeldOut.add(tmp_path, "blind", 0, "test", [(9.0, 10)])
    HeldOut.add(tmp_path, "global", 1, "test", [(math.nan, 10)])
    assert "NaN" not in (tmp_path / HELD_OUT).read_text()
    assert HeldOut.read(tmp_path).losses == {"blind": (9.0,)}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"tokens": "x"},
        {"tokens": [1, 0]},
        {"tokens": [1, None]},
        {"tokens": [], "losses": {"global": []}},
    ],
)
def test_what_is_no_list_of_captions_is_none(tmp_path, content):
    (tmp_path / HELD_OUT).write_text(json.dumps(content))
    assert HeldOut.read(tmp_path) is None


def test_lists_that_do_not_belong_together_are_left_out(tmp_path):
    losses = {"global": [1.0], "blind": [1.0, 2.0], "x": 3, "far": [1.0, 10**400]}
    content = {"round": 1, "split": "test", "tokens": [4, 5], "losses": losses}
    (tmp_path / HELD_OUT).write_text(json.dumps(content))
    assert HeldOut.read(tmp_path).losses == {"blind": (1.0, 2.0)}


@pytest.mark.parametrize("damage", [b'{"round": 1, "tok', b"\xff\xfe", b"", b"[" * 20_000])
def test_a_damaged_file_is_one_line_to_a_reader_and_is_replaced_by_a_writer(tmp_path, damage):
    (tmp_path / HELD_OUT).write_bytes(damage)
    with pytest.raises(UserError, match=r"held_out\.json: not JSON .*the report does without"):
        HeldOut.read(tmp_path)
    HeldOut.add(tmp_path, "global", 3, "test", [(1.0, 2)])
    assert HeldOut.read(tmp_path).losses == {"global": (1.0,)}


def test_a_run_without_them_has_none(tmp_path):
    assert HeldOut.read(tmp_path) is None
