"""Any rule with what steps need of a server: the rule's own rounds are untouched, and the sums add up in any tree."""

import numpy as np
import pytest
import torch

from fedcmp.aggregation import ClientUpdate, available, create, serve
from fedcmp.aggregation.service import GlobalDirection, InputBasis, MeanStates, MomentumControl, weights
from tests.aggregation.test_halves import SHAPES, draw, draw_state, draw_updates

WEIGHTS = ("linear_1.weight", "linear_2.weight")
RULES = [name for name in available() if name != "shared-basis"]  # which makes its basis itself


def services():
    return [InputBasis(), GlobalDirection(), MeanStates({"muon_momentum": weights}), MomentumControl()]


def updates_of(seed, clients, start, *, still=False):
    """Updates with everything that the services read."""
    found = []
    for k, update in enumerate(draw_updates(seed, clients, start, still=still)):
        path = torch.tensor(0.0 if still else 0.1 * (k + 1))
        extra = update.extra | {"path_length": {"rates": path}}
        for label, base in (("muon_momentum", 60), ("momentum_control_change", 70)):
            extra[label] = {name: draw(seed + base + k, *SHAPES[name]) for name in WEIGHTS}
        found.append(
            ClientUpdate(update.state, update.num_examples, update.alignment_error, update.second_moment, extra)
        )
    return found


def rounds(rule, start, *, count=3, clients=3):
    """The tensors after each round, an opening one before them where the rule wants it."""
    found = []
    if rule.opening:
        rule.aggregate(start, updates_of(5, clients, start, still=True))
    for number in range(count):
        start = rule.aggregate(start, updates_of(10 * number, clients, start))
        found.append(start)
    return found


@pytest.mark.parametrize("name", RULES)
def test_the_rule_merges_as_without(name):
    plain, served = create(name), serve(create(name), services())
    start = draw_state(1)
    for alone, together in zip(rounds(plain, start), rounds(served, start), strict=True):
        for key, tensor in alone.items():
            assert torch.equal(tensor, together[key]), key
    assert served.last_weights == plain.last_weights
    assert served.last_diagnostics.items() >= plain.last_diagnostics.items()
    assert (served.adds_up, served.round) == (plain.adds_up, plain.round + 1 - plain.opening)


def test_the_basis_is_the_one_that_shared_basis_makes():
    ours, served = create("shared-basis"), serve(create("knots-ties"), [InputBasis()])
    start = draw_state(1)
    for rule in (ours, served):
        rule.aggregate(start, updates_of(5, 3, start, still=True))
        rule.aggregate(start, updates_of(6, 3, start))
    expected, found = ours.broadcast(start), served.broadcast(start)
    assert found.keys() == expected.keys()
    for label, named in expected.items():
        for name, tensor in named.items():
            assert torch.equal(found[label][name], tensor)


def test_a_rule_that_makes_its_own_basis_needs_no_service():
    rule = create("shared-basis")
    assert serve(rule, [InputBasis()]) is rule
    assert serve(rule, []) is rule


def test_what_is_broadcast_follows_the_formulas():
    rule, start = serve(create("fedavg"), services()), draw_state(1)
    assert rule.broadcast(start) == {}
    assert rule.opening
    rule.aggregate(start, updates_of(5, 3, start, still=True))
    assert rule.broadcast(start).keys() == {"canonical_basis", "canonical_stretch"}
    control = {name: np.zeros(SHAPES[name]) for name in WEIGHTS}
    for number in range(2):
        updates, before = updates_of(10 * number, 3, start), start
        start = rule.aggregate(start, updates)
        sent = rule.broadcast(start)
        path = sum(float(update.extra["path_length"]["rates"]) for update in updates)
        for name in SHAPES:
            change = sum((update.state[name] - before[name]).numpy() for update in updates)
            np.testing.assert_allclose(sent["global_direction"][name].numpy(), -change / path, rtol=1e-6)
        for name in WEIGHTS:
            mean = sum(update.extra["muon_momentum"][name].numpy() for update in updates) / 3
            np.testing.assert_allclose(sent["muon_momentum"][name].numpy(), mean, rtol=1e-6)
            changes = sum(update.extra["momentum_control_change"][name].numpy() for update in updates)
            control[name] = control[name] + changes / 3
            np.testing.assert_allclose(sent["momentum_control"][name].numpy(), control[name], rtol=1e-6)


def test_half_precision_gets_its_services_in_float32():
    rule, start = serve(create("fedavg"), services()[1:]), draw_state(1)
    rule.aggregate(start, updates_of(0, 2, start))
    half = {name: tensor.to(torch.bfloat16) for name, tensor in start.items()}
    for named in rule.broadcast(half).values():
        assert {tensor.dtype for tensor in named.values()} == {torch.float32}


@pytest.mark.parametrize("name", [name for name in RULES if create(name).adds_up == "in one exchange"])
def test_contributions_of_an_edge_end_where_the_clients_would(name):
    flat, summing, edge = (serve(create(name), services()) for _ in range(3))
    start = draw_state(2)
    for number in range(3):
        still = number == 0
        updates = updates_of(7 * number, 3, start, still=still)
        for rule in (flat, summing):
            rule.begin(start)
        for update in updates:
            flat.add(update)
        public = summing.public()
        sums = edge.contribution(updates[0], public)
        edge.combine(sums, edge.contribution(updates[1], public))
        assert float(sums["clients"]) == 2
        assert float(sums["examples"]) == sum(update.num_examples for update in updates[:2])
        summing.accumulate(sums)
        summing.accumulate(edge.contribution(updates[2], public))
        merged, expected = summing.finish(), flat.finish()
        for key, tensor in expected.items():
            torch.testing.assert_close(merged[key], tensor, rtol=1e-8, atol=1e-10)
        for label, named in flat.broadcast(start).items():
            for key, tensor in named.items():
                found = summing.broadcast(start)[label][key]
                torch.testing.assert_close(found.abs(), tensor.abs(), rtol=1e-6, atol=1e-8)
        start = expected


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "fedcmp", "knots-ties"])
def test_a_run_that_is_resumed_ends_with_the_same_bits(name):
    whole, start = serve(create(name), services()), draw_state(1)
    expected = rounds(whole, start, count=3)
    first = serve(create(name), services())
    states = rounds(first, start, count=2)
    second = serve(create(name), services())
    second.load_state_dict(first.state_dict())
    assert second.round == first.round == 3
    found = second.aggregate(states[-1], updates_of(20, 3, states[-1]))
    assert all(torch.equal(found[key], tensor) for key, tensor in expected[-1].items())
    assert {key: t.tolist() for key, t in second.state_dict().items()} == {
        key: t.tolist() for key, t in whole.state_dict().items()
    }


def change(update, label, name, tensor):
    extra = {key: dict(named) for key, named in update.extra.items()}
    if tensor is None:
        del extra[label]
    else:
        extra[label][name] = tensor
    return ClientUpdate(update.state, update.num_examples, extra=extra)


@pytest.mark.parametrize(
    ("label", "name", "tensor", "said"),
    [
        ("path_length", "rates", None, "client 1: extra path_length is missing"),
        ("path_length", "rates", torch.tensor(-1.0), "client 1: path_length = -1.0: must be at least 0"),
        ("muon_momentum", "linear_1.weight", torch.zeros(2), "client 1: muon_momentum: linear_1.weight has shape"),
        ("momentum_control_change", "x", torch.zeros(2), "client 1: momentum_control_change: extra tensor x"),
        (
            "input_gram",
            "linear_1.weight",
            torch.full((5, 5), torch.nan),
            "client 1: input_gram: linear_1.weight holds 25",
        ),
        ("input_gram", "linear_1.weight", -torch.eye(5), "client 1: input_gram of linear_1.weight has a negative"),
    ],
)
def test_a_client_whose_extras_do_not_fit_is_refused_and_the_others_merge_as_without(label, name, tensor, said):
    start = draw_state(1)
    good, bad, last = updates_of(3, 3, start)
    served, alone = (serve(create("fedavg"), services()) for _ in range(2))
    for rule in (served, alone):
        rule.aggregate(start, updates_of(5, 2, start, still=True))
        rule.begin(start)
        rule.add(good)
        if rule is served:
            with pytest.raises(ValueError, match=said):
                rule.add(change(bad, label, name, tensor))
            with pytest.raises(ValueError, match="client 2"):
                rule.add(ClientUpdate({}, 1, extra=bad.extra))
        rule.add(last)
    found, expected = served.finish(), alone.finish()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    assert all(torch.equal(t, alone.state_dict()[key]) for key, t in served.state_dict().items())


def test_a_rules_refusal_names_the_client_by_the_same_count():
    start = draw_state(1)
    first, second, third = updates_of(3, 3, start)
    rule = serve(create("regmean"), [GlobalDirection()])
    rule.begin(start)
    with pytest.raises(ValueError, match="client 0: extra path_length"):
        rule.add(change(first, "path_length", "rates", None))
    with pytest.raises(ValueError, match="client 1: extra input_gram"):
        rule.add(change(second, "input_gram", "", None))
    rule.add(third)


def test_more_clients_than_the_federation_has_are_refused():
    start = draw_state(1)
    rule = serve(create("fedavg"), [MomentumControl(total_clients=2)])
    rule.begin(start)
    for update in updates_of(3, 3, start):
        rule.add(update)
    with pytest.raises(ValueError, match="total_clients = 2: the round has 3"):
        rule.finish()


@pytest.mark.parametrize("entry", ["x", "service-0.x/y", "service-1.basis.linear_1.weight", "rule.x"])
def test_a_foreign_state_is_refused(entry):
    rule = serve(create("fedavg"), [GlobalDirection(), InputBasis()])
    known = rule.state_dict()
    with pytest.raises(ValueError, match="aggregator state"):
        rule.load_state_dict(known | {entry: torch.zeros(1)})
