import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.data.prepared import PreparedPairs, TokenTable

captions = st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=9), min_size=1, max_size=12)


@given(captions)
def test_a_token_table_holds_every_caption(rows):
    table = TokenTable.of(rows)
    assert len(table) == len(rows)
    assert [table[i] for i in range(len(rows))] == rows
    assert table.lengths.tolist() == [len(row) for row in rows]


def test_a_token_table_comes_back_from_its_file(tmp_path):
    rows = [[1, 2], [3], [4, 5, 6]]
    TokenTable.of(rows).write(tmp_path / "tokens.safetensors")
    back = TokenTable.read(tmp_path / "tokens.safetensors")
    assert [back[i] for i in range(3)] == rows


class Features:
    """Features that tell the row; some rows are bad."""

    dtype = torch.float32

    def __init__(self, bad=()):
        self.bad = set(bad)

    def gather(self, indices):
        kept = np.array([i for i in np.asarray(indices).tolist() if i not in self.bad], np.int64)
        return kept, torch.tensor(kept).float().view(-1, 1, 1)

    def features(self, indices):
        return self.gather(indices)[1]


def pairs(bad=()):
    tokens = TokenTable.of([[10, 11], [20], [30, 31, 32], [40]])
    return PreparedPairs(Features(bad), np.array([5, 7, 8, 9]), tokens, ["a", "b", "a", "b"], pad=0)


def test_a_batch_pairs_features_with_their_own_captions():
    batch = pairs().batch(np.array([2, 0]))
    assert batch.features.flatten().tolist() == [8, 5]
    assert batch.ids.tolist() == [[30, 31, 32], [10, 11, 0]]
    assert batch.lengths.tolist() == [3, 2]


def test_swapped_pairs_carry_the_other_caption():
    batch = pairs().batch(np.array([0, 1]), {0: 2})
    assert batch.features.flatten().tolist() == [5, 7]
    assert batch.ids[0].tolist() == [30, 31, 32]
    assert batch.ids[1].tolist() == [20, 0, 0]


@pytest.mark.parametrize("bad", [{7}, {5, 9}])
def test_pictures_found_bad_on_the_way_are_left_out_with_their_captions(bad):
    batch = pairs(bad).batch(np.array([3, 0, 1]))
    rows = [row for row in (9, 5, 7) if row not in bad]
    captions = {5: [10, 11], 7: [20], 9: [40]}
    assert batch.features.flatten().tolist() == rows
    assert [ids[:n] for ids, n in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)] == [
        captions[r] for r in rows
    ]
