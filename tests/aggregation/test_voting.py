"""Trimming and the vote, one property at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation.voting import SignVote, smallest_kept

from .oracle_baselines import vote


def elected(vectors, density=1.0, dtype=torch.float64):
    tensors = [{"w": torch.tensor(vector, dtype=dtype)} for vector in vectors]
    ballot = SignVote(density=density)
    sums = ballot.zeros(tensors[0])
    for tensor in tensors:
        ballot.add(sums, tensor)
    return ballot.elect(sums, "w").tolist()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 12).flatmap(
        lambda size: st.lists(
            st.lists(st.integers(-8, 8).map(lambda n: n / 4), min_size=size, max_size=size), min_size=1, max_size=5
        )
    ),
    st.sampled_from([0.05, 0.2, 0.5, 0.9, 1.0]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_formula_with_many_equal_and_cancelling_entries(vectors, density, dtype):
    assert elected(vectors, density, dtype) == pytest.approx(vote(vectors, density).tolist(), rel=1e-12)


def test_mass_elects_and_the_mean_is_over_those_that_agree():
    # two small positives against one large negative: the negative wins, alone
    assert elected([[1.0], [2.0], [-4.0]]) == [-4.0]
    # peft and we divide by how many agree (mergekit: by their weights); zeros do not count
    assert elected([[1.0], [3.0], [0.0], [-1.0]]) == [2.0]


def test_entries_that_cancel_stay_where_they_are():
    """Peers differ: peft elects plus, the first TIES code and KnOTS the sign that most other entries have."""
    assert elected([[1.0, 5.0], [-1.0, 5.0]]) == [0.0, 5.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smallest_kept_ranks_by_magnitude(dtype):
    values = torch.randperm(1000).to(dtype)
    assert smallest_kept(values.clone(), density=0.2) == 800.0
    assert smallest_kept(values.clone(), density=1.0) == 0.0
    assert smallest_kept(values.clone(), density=1e-9) == 999.0  # never nothing at all


def test_density_ranks_all_tensors_together():
    small, large = torch.full((8,), 0.1), torch.full((2,), 9.0)
    ballot = SignVote(density=0.2)
    sums = ballot.zeros({"small": small, "large": large})
    ballot.add(sums, {"small": small, "large": large})
    assert ballot.elect(sums, "small").tolist() == [0.0] * 8
    assert ballot.elect(sums, "large").tolist() == [9.0] * 2


def test_one_ballot_serves_clients_of_any_shape_and_dtype():
    ballot = SignVote(density=0.5)
    for values in ([1.0, 2.0], [4.0, 3.0, 2.0, 1.0]):
        for dtype in (torch.float32, torch.float64):
            tensors = {"w": torch.tensor(values, dtype=dtype)}
            sums = ballot.zeros(tensors)
            ballot.add(sums, tensors)
            assert ballot.elect(sums, "w").tolist() == [v if v > np.median(values) else 0.0 for v in values]


def test_threshold_itself_is_kept_at_any_scale():
    for scale in (1e-38, 1e-20, 1.0, 1e30):
        values = (torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]) * scale).tolist()
        found = elected([values], density=0.6, dtype=torch.float32)
        assert np.count_nonzero(found) == 3
