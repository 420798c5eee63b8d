import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup

from fedcmp.client.schedule import Schedule

parts = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(parts, st.floats(0, 0.5))
def test_a_run_schedule_is_one_curve_cut_into_parts(steps, warmup):
    whole = Schedule(0.1, warmup, "run").rates([sum(steps)], 0)
    cut = [rate for part in range(len(steps)) for rate in Schedule(0.1, warmup, "run").rates(steps, part)]
    assert cut == pytest.approx(whole)


@given(parts)
def test_a_round_schedule_starts_anew(steps):
    schedule = Schedule(0.1, 0.03, "round")
    for part, count in enumerate(steps):
        assert schedule.rates(steps, part) == schedule.rates([count], 0)


@given(parts, st.floats(0, 1), st.sampled_from(["run", "round"]))
def test_rates_are_positive_at_first_and_never_above_the_peak(steps, warmup, span):
    for part in range(len(steps)):
        rates = Schedule(0.1, warmup, span).rates(steps, part)
        assert len(rates) == steps[part]
        assert all(0 <= rate <= 0.1 for rate in rates)
    assert Schedule(0.1, warmup, span).rates(steps, 0)[0] > 0


def test_the_curve_is_the_librarys_shifted_by_one_warm_up_step():
    """transformers starts its warm-up at zero; ours starts one step up it, so that no step is lost."""
    steps, warmup = 100, 10
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    theirs = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    expected = []
    for _ in range(steps + 1):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    ours = Schedule(0.5, 0.1, "run").rates([steps], 0)
    assert ours[:warmup] == pytest.approx(expected[1 : warmup + 1])
    assert ours[warmup:] == pytest.approx(expected[warmup:steps])
