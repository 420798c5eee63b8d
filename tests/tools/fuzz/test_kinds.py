"""`make fuzz`: a few dozen inputs of every kind without a fault, the same for a seed; and how an end is judged."""

import random
import time

import pytest

from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError
from tools.fuzz import running
from tools.fuzz.__main__ import KINDS, READERS, fuzz, lines, row
from tools.fuzz.mutations import damaged_bytes, damaged_tree, json_text
from tools.fuzz.running import Fault, Figures, run_kind


@pytest.mark.parametrize("name", KINDS)
def test_no_input_of_a_kind_is_a_fault(name, tmp_path):
    said = []
    figures = fuzz(name, seed=7, numbers=range(40), keep=tmp_path / "faults", say=said.append)
    assert not said, said[0]
    assert figures.inputs == 40
    assert figures.accepted > 0
    assert figures.refused > figures.accepted // 4
    assert not (tmp_path / "faults").exists()


@pytest.mark.parametrize("name", KINDS)
def test_an_input_follows_from_its_seed_and_number_alone(name, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = KINDS[name](tmp_path / "a"), KINDS[name](tmp_path / "b")
    draws = [f"{name} {number}" for number in range(8)]
    made = [one.make(random.Random(draw)) for draw in draws]
    assert made == [two.make(random.Random(draw)) for draw in reversed(draws)][::-1]
    assert len(set(made)) > 6
    assert name in READERS


class Ending:
    """A kind whose inputs end as they say."""

    name, refusals = "recipes", (EOFError,)

    def __init__(self, *ends):
        self.ends = ends

    def make(self, draw):
        return b"content"

    def feed(self, data):
        assert data == b"content"
        end = self.ends[0]
        if isinstance(end, Exception):
            raise end
        if end == "hangs":
            while True:
                try:
                    time.sleep(1)
                except Exception:
                    continue
        return end


@pytest.mark.parametrize(
    ("end", "counted"),
    [
        (True, (1, 0, 0)),
        (False, (0, 1, 0)),
        (UserError("a: one line"), (0, 1, 0)),
        (BadPair("missing"), (0, 1, 0)),
        (EOFError("gone"), (0, 1, 0)),
        (ValueError("not promised"), (0, 0, 1)),
        (EOFError("two\nlines"), (0, 0, 1)),
        (EOFError(""), (0, 0, 1)),
        (EOFError("x" * 5000), (0, 0, 1)),
        (Fault("does not add up"), (0, 0, 1)),
        (MemoryError(), (0, 0, 1)),
        ("hangs", (0, 0, 1)),
    ],
)
def test_an_end_is_judged(end, counted, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "SECONDS", 0.05)
    said = []
    figures = run_kind(Ending(end), seed=3, numbers=range(4, 5), keep=tmp_path / "faults", say=said.append)
    assert (figures.accepted, figures.refused, len(figures.faults)) == counted
    if figures.faults:
        assert said[0].startswith("python -m tools.fuzz --kind recipes --seed 3 --first 4 --count 1\n")
        assert (tmp_path / "faults" / "recipes-3-4").read_bytes() == b"content"
        assert figures.faults[0][0] == 4
    else:
        assert not said


def test_the_table_counts_the_ends():
    figures = Figures("tars", 2000, 1000, seconds=1.6, slowest=0.25, memory=3_000_000, faults=[(3, "a traceback")])
    assert row(figures, seed=5) == "| WebDataset tars | 3,001 | 2,000 | 1,000 | 1 | 2 | 250 | 3 | 5 |"
    assert row(figures, seed=5) in lines([figures], seed=5)


def test_damage_leaves_the_original_alone():
    tree = {"a": [1, {"b": "text"}], "c": 0.5}
    changed = [damaged_tree(random.Random(seed), tree) for seed in range(60)]
    assert tree == {"a": [1, {"b": "text"}], "c": 0.5}
    texts = {json_text(one, random.Random(seed)) for seed, one in enumerate(changed)}
    assert len(texts) > 40
    data = bytes(range(200))
    assert len({damaged_bytes(random.Random(seed), data) for seed in range(60)} - {data}) > 45
