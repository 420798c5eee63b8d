"""Fisher weights: the preset, and what it needs of the clients."""

import numpy as np
import pytest

from fedcmp.aggregation import FISHER, FedCMP, create, describe

from .oracle import as_tensors, as_updates, one_round, relative_error


def test_the_preset_is_the_class_with_its_defaults():
    row = describe("fisher")
    assert row.factory is FedCMP
    assert {name: row.options()[name] for name in FISHER} == FISHER
    assert row.paper == describe("shared-basis").paper == "this project"


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_equals_the_formula_entry_by_entry(exponent, normalise):
    start, states, counts, _, moments, _ = one_round()
    rule = create("fisher", parameter_exponent=exponent, parameter_damping=0.1, parameter_normalise=normalise)
    found = rule.aggregate(as_tensors(start), as_updates(states, counts, moments=moments))
    a = np.array(counts) / sum(counts)
    expected = {}
    for name in start:
        powers = [v[name] ** exponent for v in moments]
        if normalise:
            powers = [power / power.mean() for power in powers]
        shared = 0.1 * sum(a_k * power for a_k, power in zip(a, powers, strict=True)).mean()
        weights = [a_k * (power + shared) for a_k, power in zip(a, powers, strict=True)]
        expected[name] = sum(w * s[name] for w, s in zip(weights, states, strict=True)) / sum(weights)
    assert relative_error(found, expected) < 1e-12


def test_no_client_can_raise_its_share_by_reporting_larger_second_moments():
    start, states, counts, _, moments, _ = one_round()
    louder = [{name: v * 1e4 for name, v in moments[0].items()}, *moments[1:]]
    honest, loud = (
        create("fisher").aggregate(as_tensors(start), as_updates(states, counts, moments=reported))
        for reported in (moments, louder)
    )
    assert relative_error(loud, {name: tensor.numpy() for name, tensor in honest.items()}) < 1e-12


def test_needs_second_moments_only_with_an_exponent():
    assert create("fisher").needs == {"second_moment"}
    assert create("fisher", parameter_exponent=0.5).needs == {"second_moment"}
    assert "second_moment" not in create("fisher", parameter_exponent=None).needs


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (lambda moments: None, r"client 0: second_moment of linear_0\.weight is missing"),
        (lambda moments: {}, r"client 0: second_moment: tensor linear_0\.weight is missing"),
        (
            lambda moments: {name: -tensor for name, tensor in moments.items()},
            r"client 0: second_moment: linear_0\.weight holds negative values",
        ),
    ],
)
def test_second_moments_are_checked(sent, message):
    start, states, *_, moments, _ = one_round(clients=1)
    update = as_updates(states, moments=moments)[0]
    bad = type(update)(update.state, 1, second_moment=sent(update.second_moment))
    with pytest.raises(ValueError, match=message):
        create("fisher").aggregate(as_tensors(start), [bad])
