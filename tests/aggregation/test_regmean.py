"""RegMean against the formula on the weights, and as the minimum that it is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.aggregation import ClientUpdate, FedAvg, RegMean

from .oracle import as_tensors, as_updates, relative_error
from .oracle_baselines import one_round
from .oracle_merging import draw_grams, join, layers, regmean

SIZES = ((4, 6), (5, 4))


def updates_of(states, counts, grams):
    return [
        ClientUpdate(as_tensors(state), count, extra={"input_gram": as_tensors(gram)})
        for state, count, gram in zip(states, counts, grams, strict=True)
    ]


def merge(start, *drawn, **options):
    return RegMean(**options).aggregate(as_tensors(start), updates_of(*drawn))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.1, 0.6, 0.95, 1.0]), st.sampled_from([1e-3, 0.1]))
def test_equals_formula(seed, clients, off_diagonal, damping):
    start, states, counts = one_round(seed, clients, SIZES)
    grams = draw_grams(seed, start, clients)
    merged = merge(start, states, counts, grams, off_diagonal=off_diagonal, damping=damping)
    assert relative_error(merged, regmean(start, states, counts, grams, off_diagonal, damping)) < 1e-8


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_nothing_fits_the_clients_outputs_better(seed, clients):
    """Unscaled and undamped, it is the least squares fit over all samples of all clients."""
    start, states, counts = one_round(seed, clients, SIZES)
    grams = draw_grams(seed, start, clients)
    merged = merge(start, states, counts, grams, off_diagonal=1.0, damping=0.0)
    merged = {name: tensor.numpy() for name, tensor in merged.items()}
    rng = np.random.default_rng(seed)
    for layer in layers(start):

        def error(matrix, layer=layer):
            gaps = [matrix - join(state, layer) for state in states]
            fed = [gram[f"{layer}.weight"] for gram in grams]
            return sum(n * np.trace(gap @ c @ gap.T) for n, gap, c in zip(counts, gaps, fed, strict=True))

        found = join(merged, layer)
        for _ in range(5):
            assert error(found) <= error(found + 1e-3 * rng.standard_normal(found.shape))


@pytest.mark.parametrize("off_diagonal", [0.0, 0.95, 1.0])
def test_clients_that_are_fed_alike_get_fedavgs_mean(off_diagonal):
    start, states, counts = one_round(0, 4, SIZES)
    merged = merge(start, states, counts, draw_grams(1, start, 1) * 4, off_diagonal=off_diagonal)
    expected = FedAvg().aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(merged, {name: tensor.numpy() for name, tensor in expected.items()}) < 1e-9


def test_large_damping_leads_to_the_clients_mean():
    start, states, counts = one_round(0, 3, SIZES)
    grams = [{name: gram / np.trace(gram) for name, gram in each.items()} for each in draw_grams(1, start, 3)]
    merged = merge(start, states, counts, grams, damping=1e6)
    expected = FedAvg().aggregate(as_tensors(start), as_updates(states, counts))
    assert relative_error(merged, {name: tensor.numpy() for name, tensor in expected.items()}) < 1e-5


def test_an_input_that_only_one_client_sees_is_that_clients():
    start, states, counts = one_round(0, 2, SIZES)
    grams = draw_grams(1, start, 2)
    for gram in grams[0].values():
        gram[0], gram[:, 0] = 0.0, 0.0
    merged = merge(start, states, counts, grams, off_diagonal=0.0, damping=1e-9)
    for layer in layers(start):
        found = merged[f"{layer}.weight"][:, 0].numpy()
        np.testing.assert_allclose(found, states[1][f"{layer}.weight"][:, 0], rtol=1e-5, atol=1e-7)


def test_equal_clients_come_back_whatever_they_were_fed():
    start, states, _ = one_round(0, 1, SIZES)
    merged = merge(start, states * 3, [2, 5, 1], draw_grams(1, start, 3))
    assert relative_error(merged, states[0]) < 1e-9


def test_layers_that_nobody_fed_stay():
    start, states, counts = one_round(0, 2, SIZES)
    grams = [{name: 0 * gram for name, gram in each.items()} for each in draw_grams(1, start, 2)]
    merged = merge(start, states, counts, grams)
    for name in start:
        assert torch.equal(merged[name], torch.from_numpy(start[name])) == (not name.startswith("norm"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda extra: extra.pop("input_gram"),
            r"input_gram of linear_0\.weight is missing; the client.s training must",
        ),
        (lambda extra: extra["input_gram"].pop("linear_1.weight"), r"input_gram of linear_1\.weight is missing"),
        (lambda extra: extra["input_gram"]["linear_1.weight"].fill_(torch.nan), r"input_gram: linear_1\.weight holds"),
        (
            lambda extra: extra["input_gram"].update({"linear_0.weight": torch.ones(2, 2)}),
            r"linear_0\.weight is \(2, 2\); needs \(7, 7\)",
        ),
        (lambda extra: extra["input_gram"]["linear_0.weight"].neg_(), "has a negative diagonal"),
    ],
)
def test_a_bad_gram_is_refused_and_changes_nothing(spoil, message):
    start, states, counts = one_round(0, 2, SIZES)
    good, bad = updates_of(states, counts, draw_grams(1, start, 2))
    spoil(bad.extra)
    rule = RegMean()
    rule.begin(as_tensors(start))
    with pytest.raises(ValueError, match=f"^client 0: (extra )?.*{message}"):
        rule.add(bad)
    rule.add(good)
    expected = RegMean().aggregate(as_tensors(start), [good])
    assert all(torch.equal(tensor, expected[name]) for name, tensor in rule.finish().items())


def test_bad_options_are_named():
    for options in ({"off_diagonal": 1.5}, {"damping": -1}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))} = "):
            RegMean(**options)
