"""A client that is prepared alone, told how many pairs come before its own, trains as within the whole collection."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.config import parse_recipe
from fedcmp.preparation.batches import Batches
from fedcmp.preparation.partition import hold_out, used_share
from fedcmp.preparation.prepare import prepare
from fedcmp.world.export import export_world

COUNTS = {"north": 33, "south": 20, "west": 27}
STARTS = dict(zip(COUNTS, itertools.accumulate(COUNTS.values(), initial=0), strict=False))
SPLITS = {"north": "train", "south": "validation", "west": "test"}


def recipe(held_out=0.2, train_share=1.0, split="test", seed=3):
    data = {"num_pairs": 100, "held_out": held_out, "train_share": train_share}
    return parse_recipe({"run": {"seed": seed}, "data": data, "evaluation": {"split": split}}, "test")


@given(
    sizes=st.lists(st.integers(7, 60), min_size=1, max_size=5),
    seed=st.integers(0, 2**63 - 1),
    split=st.sampled_from(["test", "validation"]),
)
def test_what_is_held_out_and_what_is_used_are_the_same_alone(sizes, seed, split):
    asked = recipe(train_share=0.5, split=split, seed=seed)
    starts = np.cumsum([0, *sizes])
    holdings = [np.arange(a, b) for a, b in itertools.pairwise(starts)]
    train, judged = hold_out(asked, holdings, ["x"] * len(sizes))
    used = used_share(asked, train)
    for start, size, whole in zip(starts[:-1].tolist(), sizes, zip(train, judged, used, strict=True), strict=True):
        (own_train,), (own_judged,) = hold_out(asked, [np.arange(size)], ["x"], start)
        (own_used,) = used_share(asked, [own_train], start)
        for alone, within in zip((own_train, own_judged, own_used), whole, strict=True):
            assert (alone + start).tolist() == within.tolist()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    return {
        name: export_world(root / name, split=SPLITS[name], count=count, format="llava", picture="png")
        for name, count in COUNTS.items()
    }


def pairs_of(folders, name):
    (file,) = folders[name].glob("*.json")
    return {"name": name, "pairs": str(file), "images": str(folders[name] / "images")}


def prepared(folders, folder, names, first_position=0, **changes):
    content = {
        "run": {"seed": 3, "folder": str(folder), "cache": str(folder / "cache"), "workers": 1},
        "data": {"format": "llava", "held_out": 0.2, "clients": [pairs_of(folders, name) for name in names]},
        "scenario": {"kind": "given"},
        "federation": {"rounds": 3},
        "training": {"batch_size": 4},
    }
    for section, own in changes.items():
        content[section] |= own
    asked = parse_recipe(content, "test")
    data = prepare(asked, folder / "prepared", lambda *_: None, first_position=first_position)
    return data, Batches(asked, data, first_position)


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_orders_parts_batches_and_held_out_pairs_are_the_same_alone(folders, tmp_path, share):
    names = list(COUNTS)
    whole, whole_batches = prepared(folders, tmp_path / "whole", names, data={"train_share": share})
    for client, name in enumerate(names):
        first = STARTS[name]
        alone, batches = prepared(folders, tmp_path / name, [name], first, data={"train_share": share})
        assert (alone.manifest.holdings[0] + first).tolist() == whole.manifest.holdings[client].tolist()
        for own_part, part in zip(batches(0), whole_batches(client), strict=True):
            assert [(batch + first).tolist() for batch in own_part] == [batch.tolist() for batch in part]
        held = [row for row, group in zip(whole.evaluation.rows.tolist(), owners(whole), strict=True) if group == name]
        assert sorted((alone.evaluation.rows + first).tolist()) == sorted(held)


def owners(data):
    """Which client each held-out pair is of."""
    return [next(name for name, start in reversed(STARTS.items()) if row >= start) for row in data.evaluation.rows]


def test_another_position_gives_another_order(folders, tmp_path):
    """Else the law above would hold of a function that ignores the position."""
    _, here = prepared(folders, tmp_path / "here", ["south"], 0)
    _, there = prepared(folders, tmp_path / "there", ["south"], 33)
    parts = [[np.concatenate(part).tolist() for part in batches(0)] for batches in (here, there)]
    assert parts[0] != parts[1]
